"""Faults in which the optimizer steps with other settings than its param groups hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

import spherical_motion as smd
from verdicts.fault import ADAMS, make_fault
from verdicts.loop import Loop

__all__ = ["base_step", "stepping_otherwise"]

SETTINGS = "WRONG_SETTINGS STEP_DIFFERS"
HEAVY = ("momentum", "Nesterov")
DECAYED = ("momentum", "AdamW", "SGD", "Lion", "Adam", "Nesterov")
Group = dict[str, Any]


def base_step(optimizer: torch.optim.Optimizer, base: type[torch.optim.Optimizer]) -> None:
    """`super().step()` as in a process where nobody made an instance of the base class."""
    step: Any = base.step
    if getattr(step, "hooked", False):  # once there is an instance, torch wraps the class's step
        step = step.__wrapped__
    step(optimizer)


def stepping_otherwise(loop: Loop, change: Callable[[Group], Group]) -> None:
    """Let the optimizer's class, under its own name, step with settings of its own.

    `change` gives the settings that replace those of a param group, inside `step` only.
    """
    base = loop.maker.made

    @contextlib.contextmanager
    def changed(optimizer: torch.optim.Optimizer) -> Iterator[None]:
        kept = [{**group} for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group.update(change(group))
        try:
            yield
        finally:
            for group, old in zip(optimizer.param_groups, kept, strict=True):
                group.update({key: old[key] for key in old if key != "params"})

    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        with changed(self) if loop.began else contextlib.nullcontext():
            base_step(self, base)

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


@make_fault("momentum .85 declared .9", "settings", SETTINGS, (*HEAVY, "dampening"))
@make_fault("momentum .85 declared .9, later", "settings", SETTINGS, HEAVY, begins=400)
def other_momentum(loop: Loop) -> None:
    """`step` has a momentum of .85 written into it; the param groups say .9."""
    stepping_otherwise(loop, lambda group: {"momentum": 0.85})


@make_fault("β1 .85 declared .9", "settings", SETTINGS, ("AdamW", "Adam", "NAdam", "Lion"))
def other_beta1(loop: Loop) -> None:
    """`step` has a β1 of .85 written into it; the param groups say .9."""
    stepping_otherwise(loop, lambda group: {"betas": (0.85, group["betas"][1])})


@make_fault("β2 .99 declared .999", "settings", SETTINGS, (*ADAMS, "NAdam"))
def other_beta2(loop: Loop) -> None:
    """`step` has a β2 of .99 written into it; the param groups say .999."""
    stepping_otherwise(loop, lambda group: {"betas": (group["betas"][0], 0.99)})


@make_fault("decay .9 of what is declared", "settings", SETTINGS, DECAYED)
@make_fault("decay .9 of what is declared, later", "settings", SETTINGS, DECAYED, begins=400)
def less_decay(loop: Loop) -> None:
    """`step` takes .009 where the param groups say .01."""
    stepping_otherwise(loop, lambda group: {"weight_decay": 0.9 * group["weight_decay"]})


@make_fault("rate 10% above what is declared", "settings", SETTINGS, (*DECAYED, "Muon"))
@make_fault("rate 10% above, later", "settings", SETTINGS, DECAYED, begins=400)
def more_rate(loop: Loop) -> None:
    """`step` multiplies the rate by a factor of its own, 1.1."""
    stepping_otherwise(loop, lambda group: {"lr": 1.1 * group["lr"]})


@make_fault("decay missing on one layer", "settings", SETTINGS, DECAYED)
@make_fault("decay missing on one layer, later", "settings", SETTINGS, DECAYED, begins=400)
def decay_missing(loop: Loop) -> None:
    """`step` skips the decay of a parameter that was marked, though its param group has one."""
    base, marked = loop.maker.made, loop.layer()

    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        if not loop.began:
            return base_step(self, base)
        group = self.param_groups[0]
        kept = group["params"], group["weight_decay"]
        group["params"] = [p for p in kept[0] if p is not marked]
        base_step(self, base)
        others = self.param_groups[1:]
        group["params"], group["weight_decay"] = [marked], 0.0
        self.param_groups[1:] = []
        base_step(self, base)
        self.param_groups[1:] = others
        group["params"], group["weight_decay"] = kept
        return None

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


@make_fault("decay twice", "settings", SETTINGS, DECAYED)
def decay_twice(loop: Loop) -> None:
    """`step` decays the weights itself and leaves the decay on in the step that it calls."""
    base = loop.maker.made

    @torch.no_grad()
    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
        base_step(self, base)

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


@make_fault("AdamW decay without the rate", "settings", SETTINGS, ("AdamW",))
def decay_without_rate(loop: Loop) -> None:
    """`p.mul_(1 - weight_decay)` in `step`, where it should be `1 - lr * weight_decay`."""
    factor = loop.task.net.lr["adam"]

    def declare() -> None:
        for group in loop.optimizers[0].param_groups:
            group["weight_decay"] *= factor  # what such a user writes

    loop.after_made(declare)
    stepping_otherwise(loop, lambda group: {"weight_decay": group["weight_decay"] / group["lr"]})


@make_fault("Nesterov declared, heavy ball used", "settings", SETTINGS, ("Nesterov",))
def not_nesterov(loop: Loop) -> None:
    """`step` ignores `nesterov=True`."""
    stepping_otherwise(loop, lambda group: {"nesterov": False})


@make_fault("dampening .1 declared 0", "settings", SETTINGS, ("momentum",))
def dampened(loop: Loop) -> None:
    """`step` takes 90% of the gradient into the momentum."""
    stepping_otherwise(loop, lambda group: {"dampening": 0.1})


@make_fault(
    "scheduler stepped twice", "settings", SETTINGS, ("momentum", "AdamW", "Adam", "Lion"),
    schedule="cosine",
)  # fmt: skip
def scheduler_twice(loop: Loop) -> None:
    """Both the loop and a callback step the scheduler; the plan given to `watch` is the cosine."""
    planned(loop)
    advance = loop.advance

    def advance_twice() -> None:
        advance()
        advance()

    loop.advance = advance_twice


@make_fault(
    "scheduler stepped each batch", "settings", SETTINGS, ("SGD", "AdamW", "Adam", "Nesterov"),
    schedule="steps", begins=600,
)  # fmt: skip
def scheduler_each_batch(loop: Loop) -> None:
    """A scheduler that counts epochs of 5 steps is stepped after each batch: it drops too early."""
    planned(loop, repeat=5)


@make_fault("warm-up forgotten", "settings", SETTINGS, ("momentum", "AdamW", "Lion"))
def no_warm_up(loop: Loop) -> None:
    """The plan warms up for 200 steps; the run begins at the full rate."""

    def tell() -> None:
        group = loop.optimizers[0].param_groups[0]
        hp = smd.HyperParameters.from_param_group(loop.maker.made.__name__, group)
        warm = smd.Schedule.linear_warmup(hp, 200)
        loop.plan = warm.then(smd.Schedule.constant(hp, loop.length - 200))

    loop.after_made(tell)


def planned(loop: Loop, repeat: int = 1) -> None:
    """Tell `watch` the schedule as it was meant, with each entry held for `repeat` steps."""

    def tell() -> None:
        rates = []
        probe = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler = loop.schedule(probe, loop.length) if loop.schedule else None
        for _ in range(0, loop.length, repeat):
            rates += repeat * [probe.param_groups[0]["lr"]]
            probe.step()
            if scheduler is not None:
                scheduler.step()
        group = loop.optimizers[0].param_groups[0]
        peak = group.get("initial_lr", group["lr"])
        hp = smd.HyperParameters.from_param_group(loop.maker.made.__name__, {**group, "lr": peak})
        loop.plan = smd.Schedule(hp, [peak * rate for rate in rates[: loop.length]])

    loop.after_made(tell)
