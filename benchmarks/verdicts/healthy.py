"""Variants of healthy training: what a user may do without any fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from verdicts.fault import ADAMS, ANY
from verdicts.faults_settings import base_step, planned
from verdicts.loop import Loop
from verdicts.optimizers import SGDS

__all__ = ["REAL_EPSILON", "VARIANTS", "edit_for"]

REAL_EPSILON = "ε 1e-5"
"""With Adam-type optimizers and much decay ε is then over 10% of the pull: a true alarm."""


def usual(loop: Loop) -> None:
    """The loop as it is."""


def accumulation(loop: Loop) -> None:
    """Four batches a step."""
    loop.accumulate = 4


def autocast(loop: Loop) -> None:
    """bfloat16 autocast."""
    loop.autocast = torch.bfloat16


def grad_scaler(loop: Loop) -> None:
    """A GradScaler that scales the loss and unscales the gradients before the step."""
    loop.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=200)


def changing_batch(loop: Loop) -> None:
    """The last batch of each epoch of 45 steps is a quarter as large."""
    batches = loop.batches

    def cut() -> object:
        for step, batch in enumerate(batches):
            yield tuple(x[: len(x) // 4] for x in batch) if step % 45 == 44 else batch

    loop.batches = cut()


def no_decay_of_vectors(loop: Loop) -> None:
    """Gains and biases have a param group of their own, without decay."""
    loop.spare_vectors = True


def loose_clipping(loop: Loop) -> None:
    """`clip_grad_norm_` with a bound that is never reached."""

    @loop.after_backward
    def clip() -> None:
        nn.utils.clip_grad_norm_(loop.model.parameters(), 1e6)


def every_tenth(loop: Loop) -> None:
    """Two neighbouring steps in ten are measured."""
    loop.every = 10


def fused(loop: Loop) -> None:
    """The optimizer's fused form."""
    loop.optimizer_settings = {"fused": True}


def foreach(loop: Loop) -> None:
    """The optimizer's foreach form."""
    loop.optimizer_settings = {"foreach": True}


def subclass(loop: Loop) -> None:
    """A subclass of the same name that calls the step of its base."""
    base = loop.maker.made

    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        base_step(self, base)

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


def nested_hooks(loop: Loop) -> None:
    """A subclass that calls `super().step()` where torch has wrapped the base's step, too."""
    base = loop.maker.made
    base([nn.Parameter(torch.zeros(2, 2))], lr=0.1)

    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        base.step(self)

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


def decay_into_gradient(loop: Loop) -> None:
    """A hand-written SGD that adds the decay to `p.grad` in place, which is its right."""
    base = loop.maker.made

    @torch.no_grad()
    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.add_(p, alpha=group["weight_decay"])
            group["weight_decay"] = 0.0
        base_step(self, base)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay

    loop.optimizer_class = type(base.__name__, (base,), {"step": step})


def closure(loop: Loop) -> None:
    """The loop passes a closure to `step`."""

    def update() -> None:
        def again() -> torch.Tensor:
            with torch.enable_grad():
                loop.backward()
            return loop.last_loss

        for optimizer in loop.optimizers:
            optimizer.step(again)

    loop.update = update


def usual_epsilon(loop: Loop) -> None:
    """The norm layers have torch's ε of 1e-5, as users have it."""
    for module in loop.model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-5


def little_decay(loop: Loop) -> None:
    """bfloat16 autocast with a weight decay of 1e-5."""
    loop.autocast = torch.bfloat16

    @loop.after_made
    def lower() -> None:
        for optimizer in loop.optimizers:
            for group in optimizer.param_groups:
                group["weight_decay"] = 1e-5


def dead_units(loop: Loop) -> None:
    """A third of the units of the first layer with a bias are dead from the start."""
    vectors = [p for name, p in loop.parameters.items() if name.endswith("bias")]
    with torch.no_grad():
        vectors[0][: len(vectors[0]) // 3] = -20.0


def clipped_at_first(loop: Loop) -> None:
    """`clip_grad_norm_` binds in the first 40 steps, as after a warm-up, and then no more."""
    bounds: list[float] = []

    @loop.after_backward
    def clip() -> None:
        if not bounds:
            grads = [p.grad for p in loop.model.parameters() if p.grad is not None]
            bounds.append(0.3 * float(nn.utils.get_total_norm(grads)))
        if loop.step < 40:
            nn.utils.clip_grad_norm_(loop.model.parameters(), bounds[0])


def rare_branch(loop: Loop) -> None:
    """One layer is used by one batch in 25, as an expert that is rarely chosen."""
    p = loop.parameters[loop.task.layer]

    @loop.after_backward
    def unused() -> None:
        if loop.step % 25:
            p.grad = None


def two_rates(loop: Loop) -> None:
    """The last matrix has a fifth of the rate; the plan given to `watch` is that of the others."""

    @loop.after_made
    def split() -> None:
        optimizer = loop.optimizers[0]
        first = optimizer.param_groups[0]
        last = [p for p in first["params"] if p.ndim > 1][-1]
        first["params"] = [p for p in first["params"] if p is not last]
        settings = {key: value for key, value in first.items() if key != "params"}
        optimizer.add_param_group({**settings, "params": [last], "lr": first["lr"] / 5.0})

    planned(loop)


WATCHED = tuple(name for name in ANY if name != "Muon")
TORCH = (*SGDS, *ADAMS)

VARIANTS: Mapping[str, tuple[Callable[[Loop], None], tuple[str, ...]]] = {
    "": (usual, ANY),
    "accumulation": (accumulation, ANY),
    "bf16 autocast": (autocast, ANY),
    "GradScaler": (grad_scaler, ("momentum", "AdamW", "Adam", "SGD")),
    "changing batch": (changing_batch, ANY),
    "vectors without decay": (no_decay_of_vectors, WATCHED),
    "clipping never reached": (loose_clipping, ANY),
    "every 10 steps": (every_tenth, WATCHED),
    "fused": (fused, ("momentum", "AdamW", "Adam", "SGD")),
    "foreach": (foreach, (*TORCH, "NAdam")),
    "subclass": (subclass, ("momentum", "AdamW", "Lion")),
    "nested hooks": (nested_hooks, ("momentum", "AdamW")),
    "decay into the gradient": (decay_into_gradient, ("momentum", "SGD", "Nesterov")),
    "closure": (closure, ("momentum", "AdamW")),
    REAL_EPSILON: (usual_epsilon, ("AdamW", "momentum", "Lion", "SGD")),
    "autocast, little decay": (little_decay, ("SGD", "AdamW", "momentum")),
    "dead units": (dead_units, ("AdamW", "momentum", "Lion")),
    "clipped at first": (clipped_at_first, ("momentum", "AdamW", "Adam")),
    "rare branch": (rare_branch, ("AdamW", "momentum", "Adam", "Lion")),
    "two rates, one plan": (two_rates, ("AdamW", "momentum", "Lion")),
}
"""Name of a variant → what it edits, and the optimizers that have it."""


def edit_for(variant: str) -> Callable[[Loop], None]:
    """What a variant edits."""
    return VARIANTS[variant][0]
