"""Faults in which the step is not that of the rule that the optimizer's class is named for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from verdicts.fault import ADAMS, make_fault
from verdicts.faults_settings import base_step, stepping_otherwise
from verdicts.loop import Loop

__all__ = []

DIFFERS = "STEP_DIFFERS WRONG_SETTINGS"
COMMON = ("momentum", "AdamW", "SGD", "Lion", "Adam")


def wrapping(
    loop: Loop,
    before: Callable[[torch.optim.Optimizer], None] | None = None,
    after: Callable[[torch.optim.Optimizer], None] | None = None,
) -> None:
    """Let the class, under its own name, do something in `step` before or after its usual step."""
    base = loop.maker.made

    @torch.no_grad()
    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        if before is not None and loop.began:
            before(self)
        base_step(self, base)
        if after is not None and loop.began:
            after(self)

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


@make_fault("coupled decay in AdamW", "step", DIFFERS, ("AdamW",))
def coupled(loop: Loop) -> None:
    """A class named AdamW whose decay goes through the gradient."""
    stepping_otherwise(loop, lambda group: {"decoupled_weight_decay": False})


@make_fault("decoupled decay in Adam and SGD", "step", DIFFERS, ("Adam", "momentum", "Nesterov"))
def decoupled(loop: Loop) -> None:
    """A class named Adam or SGD that decays the weights and not the gradient."""
    base = loop.maker.made

    @torch.no_grad()
    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
            group["weight_decay"] = 0.0
        base_step(self, base)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


@make_fault("Adam ε 1e-3 declared 1e-8", "step", DIFFERS, (*ADAMS, "NAdam"))
@make_fault("Adam ε 1e-3 declared 1e-8, later", "step", DIFFERS, ADAMS, begins=400)
def large_epsilon(loop: Loop) -> None:
    """`step` divides by √v + 1e-3."""
    stepping_otherwise(loop, lambda group: {"eps": 1e-3})


@make_fault("bias correction missing", "step", f"{DIFFERS} STEP_COUNTER", ADAMS)
def no_bias_correction(loop: Loop) -> None:
    """`step` calls the fused rule with a step count so large that the corrections are 1."""
    base = loop.maker.made

    @torch.no_grad()
    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        counts = [s["step"] for s in self.state.values() if "step" in s]
        for count in counts:
            count.add_(1e6)
        base_step(self, base)
        for count in counts:
            count.sub_(1e6)

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


@make_fault("noise in the step", "step", DIFFERS, (*COMMON, "Muon"))
@make_fault("noise in the step, from step 10", "step", DIFFERS, COMMON, begins=10)
@make_fault("noise in the step, later", "step", DIFFERS, COMMON, begins=400)
def noise(loop: Loop) -> None:
    """`step` adds Gaussian noise to the weights, as for Langevin dynamics."""

    def add(optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.add_(torch.randn_like(p), alpha=0.1 * group["lr"] * group["lr"] ** 0.5)

    wrapping(loop, after=add)


@make_fault("momentum reset every 50 steps", "step", DIFFERS, ("momentum", "Nesterov"), begins=50)
def momentum_reset(loop: Loop) -> None:
    """The optimizer's state is cleared every 50 steps."""

    @loop.after_update
    def reset() -> None:
        if loop.step % 50 == 0:
            loop.optimizers[0].state.clear()


@make_fault("momentum reset once", "step", DIFFERS, ("momentum", "Nesterov"), begins=500)
def momentum_reset_once(loop: Loop) -> None:
    """The momentum buffers are set to zero once, in the middle of the run."""

    @loop.after_update
    def reset() -> None:
        if loop.step == loop.begins:
            for state in loop.optimizers[0].state.values():
                state["momentum_buffer"].zero_()


def remaking(
    loop: Loop, remade: Callable[[torch.Tensor, torch.Tensor, dict[str, Any]], torch.Tensor]
) -> None:
    """A class of the same name whose `step` leaves the weights that `remade` makes of its own.

    `remade` takes a parameter after the step, its weights before, and its param group.
    """
    base = loop.maker.made

    @torch.no_grad()
    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        old = {p: p.clone() for group in self.param_groups for p in group["params"]}
        base_step(self, base)
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(remade(p, old[p], group))

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


@make_fault("trust ratio in the step", "step", DIFFERS, ("momentum", "AdamW"))
def trust_ratio(loop: Loop) -> None:
    """A class named SGD or AdamW that scales each step by the norm of the weights, as LAMB does."""

    def scaled(p: torch.Tensor, before: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        return before + (p - before) * before.norm().clamp(0.1, 10.0) / 2.0

    remaking(loop, scaled)


@make_fault("step clipped", "step", DIFFERS, ("AdamW", "Adam", "momentum"))
def clipped_step(loop: Loop) -> None:
    """`step` bounds each entry of the update by half a learning rate."""
    share = 0.5 if loop.maker.made is not torch.optim.SGD else 1e-3

    def bounded(p: torch.Tensor, before: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        most = share * group["lr"]
        return before + (p - before).clamp(-most, most)

    remaking(loop, bounded)


@make_fault("gradients centred in the step", "step", DIFFERS, COMMON)
def centred(loop: Loop) -> None:
    """`step` takes the mean of each row off the gradient, in place, as gradient centralization."""
    loop.affected = {name for name, p in loop.parameters.items() if p.ndim > 1}

    def centre(optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.ndim > 1:
                    p.grad.sub_(p.grad.flatten(1).mean(1).view(-1, *(p.ndim - 1) * [1]))

    wrapping(loop, before=centre)


@make_fault("cautious steps", "step", DIFFERS, ("AdamW", "Lion"))
def cautious(loop: Loop) -> None:
    """A class named AdamW or Lion that leaves out entries that go against the gradient."""

    def agreeing(p: torch.Tensor, before: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        return p if p.grad is None else torch.where((p - before) * p.grad < 0.0, p, before)

    remaking(loop, agreeing)


@make_fault("Lion without sign", "step", DIFFERS, ("Lion",))
def lion_without_sign(loop: Loop) -> None:
    """A class named Lion that scales the average to unit RMS instead of taking its sign."""

    @torch.no_grad()
    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                average = state.setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
                update = average.mul(beta1).add_(p.grad, alpha=1.0 - beta1)
                p.sub_(group["lr"] * update / update.square().mean().sqrt().add(1e-12))
                average.mul_(beta2).add_(p.grad, alpha=1.0 - beta2)

    base = loop.maker.made
    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


@make_fault("counter twice a step", "wiring", "STEP_COUNTER STEP_DIFFERS", ADAMS)
def counted_twice(loop: Loop) -> None:
    """`step` of a wrapper counts, and the step that it calls counts again."""

    def count(optimizer: torch.optim.Optimizer) -> None:
        for state in optimizer.state.values():
            state["step"] += 1

    wrapping(loop, before=count)


@make_fault("phantom steps", "wiring", "STEP_COUNTER", (*ADAMS, "NAdam"), begins=5)
def phantom(loop: Loop) -> None:
    """The optimizer's counter is set to that of another run, so bias corrections jump."""

    @loop.after_update
    def jump() -> None:
        if loop.step == loop.begins:
            for state in loop.optimizers[0].state.values():
                state["step"] += 500


@make_fault("counter set back", "wiring", "STEP_COUNTER", ADAMS, begins=600)
def counter_set_back(loop: Loop) -> None:
    """The optimizer's counter is set to 0 in the middle of the run, its moments are kept."""

    @loop.after_update
    def jump() -> None:
        if loop.step == loop.begins:
            for state in loop.optimizers[0].state.values():
                state["step"].zero_()
