"""Faults that change the gradient before the optimizer takes it, and harmless look-alikes."""

from __future__ import annotations

import torch
from torch import nn

from verdicts.fault import ADAMS, ANY, make_fault
from verdicts.loop import Loop
from verdicts.optimizers import SGDS

__all__ = []

COMMON = ("momentum", "AdamW", "SGD", "Lion", "Adam")
STEADY = ("momentum", "SGD", "Nesterov", "AdamW")


def gentle(loop: Loop, factor: float) -> None:
    """Lower the rate of SGD, where a fault would otherwise make it diverge."""
    if loop.kind in SGDS:
        rate = loop.task.net.lr["sgd"] * loop.maker.rate_factor
        loop.optimizer_settings = {"lr": factor * rate}


def gradients(loop: Loop) -> list[torch.Tensor]:
    return [p.grad for p in loop.model.parameters() if p.grad is not None]


@make_fault("decay in the loss", "gradient", "HIDDEN_DECAY", COMMON)
def decay_in_loss(loop: Loop) -> None:
    """`loss + 0.005 * sum(w.square())`, beside the optimizer's own decay."""
    loop.affected = {name for name, p in loop.parameters.items() if p.ndim > 1}
    usual = loop.loss
    loop.loss = lambda model, batch: (
        usual(model, batch) + 0.005 * sum(p.square().sum() for p in loop.matrices)
    )


@make_fault("decay in the loss for one layer", "gradient", "HIDDEN_DECAY", COMMON)
def decay_of_layer(loop: Loop) -> None:
    """A regularizer left on one layer: `loss + 0.005 * w.square().sum()`."""
    p, usual = loop.layer(), loop.loss
    loop.loss = lambda model, batch: usual(model, batch) + 0.005 * p.square().sum()


@make_fault("gradient entries clipped", "gradient", "GRADIENT_CLIPPED", COMMON)
@make_fault("gradient entries clipped, later", "gradient", "GRADIENT_CLIPPED", COMMON, begins=400)
def clip_value(loop: Loop) -> None:
    """`clip_grad_value_` with a bound that about one entry in five reaches at first."""
    bounds: list[float] = []

    @loop.after_backward
    def clip() -> None:
        if not bounds:
            entries = torch.cat([p.grad.flatten() for p in loop.matrices if p.grad is not None])
            bounds.append(float(entries.square().mean().sqrt()))
        nn.utils.clip_grad_value_(loop.model.parameters(), bounds[0])


@make_fault(
    "gradient norm clipped at every step", "gradient", "GRADIENT_CLIPPED", (*COMMON, "Muon")
)
def clip_norm(loop: Loop) -> None:
    """`clip_grad_norm_` with a bound of a fifth of the first norm."""
    bounds: list[float] = []

    @loop.after_backward
    def clip() -> None:
        if not bounds:
            bounds.append(0.2 * float(nn.utils.get_total_norm(gradients(loop))))
        nn.utils.clip_grad_norm_(loop.model.parameters(), bounds[0])


@make_fault(
    "gradient norm clipped now and then", "harmless", "NORM_CLIPPED", COMMON, alarm=False
)  # fmt: skip
def clip_norm_rarely(loop: Loop) -> None:
    """`clip_grad_norm_` with a bound that one step in ten of the last 50 reached."""
    norms: list[float] = []

    @loop.after_backward
    def clip() -> None:
        norms.append(float(nn.utils.get_total_norm(gradients(loop))))
        if len(norms) > 50:
            bound = sorted(norms[-50:])[44]
            nn.utils.clip_grad_norm_(loop.model.parameters(), bound)


@make_fault("gradient zeroed in one layer", "gradient", "NO_GRADIENT", COMMON)
@make_fault("gradient zeroed in one layer, later", "gradient", "NO_GRADIENT", COMMON, begins=600)
def zeroed(loop: Loop) -> None:
    """`p.grad.zero_()` for one layer, by a mask left over from another experiment."""
    p = loop.layer()

    @loop.after_backward
    def zero() -> None:
        if p.grad is not None:
            p.grad.zero_()


@make_fault("gradient None in one layer", "gradient", "NO_GRADIENT FROZEN", COMMON)
def none(loop: Loop) -> None:
    """`p.grad = None` for one layer before each step."""
    p = loop.layer()

    @loop.after_backward
    def forget() -> None:
        p.grad = None


@make_fault("layer frozen half-way", "gradient", "FROZEN NO_GRADIENT", ANY, begins=600)
def frozen(loop: Loop) -> None:
    """`requires_grad_(False)` on one layer in the middle of the run."""
    p = loop.layer()

    @loop.after_update
    def freeze() -> None:
        p.requires_grad_(False)


@make_fault("layer without gradient half-way", "gradient", "FROZEN NO_GRADIENT", COMMON, begins=600)
def detached(loop: Loop) -> None:
    """From the middle of the run on, one layer's gradient is set to None before each step."""
    none(loop)


@make_fault("loss scale left on", "gradient", "GRADIENT_SCALE", ANY, begins=500, alarm=False)
def loss_scale(loop: Loop) -> None:
    """The loss is multiplied by 16 for float16 and the gradient is not divided by it."""
    usual = loop.loss
    gentle(loop, 0.05)  # so that SGD survives it
    loop.loss = lambda model, batch: usual(model, batch) * (16.0 if loop.began else 1.0)


@make_fault("sum instead of mean", "gradient", "GRADIENT_SCALE", COMMON, begins=500, alarm=False)
def summed(loop: Loop) -> None:
    """Gradients of 4 batches are summed and not averaged."""
    usual = loop.loss
    loop.loss = lambda model, batch: usual(model, batch) * (loop.accumulate if loop.began else 1)

    @loop.after_update
    def accumulate() -> None:
        loop.accumulate = 4


@make_fault("batch × 32", "harmless", "GRADIENT_SCALE", STEADY, begins=1000, alarm=False)
def larger_batch(loop: Loop) -> None:
    """The batch is 32 times as large near the end of the run."""

    @loop.after_update
    def enlarge() -> None:
        loop.accumulate = 32


@make_fault("stale gradient", "gradient", "STALE_GRADIENT", COMMON, begins=300, alarm=False)
def stale(loop: Loop) -> None:
    """Every other step is taken with the gradient of the step before."""
    usual = loop.backward
    gentle(loop, 0.25)

    def backward() -> None:
        if not (loop.began and loop.step % 2):
            usual()

    loop.backward = backward


@make_fault("gradient never cleared", "gradient", "ANY", ADAMS)
def not_cleared(loop: Loop) -> None:
    """`zero_grad` is forgotten: each gradient is the sum of all before."""
    usual = loop.backward

    def backward() -> None:
        kept = [None if p.grad is None else p.grad.clone() for p in loop.model.parameters()]
        usual()
        for p, old in zip(loop.model.parameters(), kept, strict=True):
            if p.grad is not None and old is not None:
                p.grad.add_(old)

    loop.backward = backward


@make_fault("label noise ramps up", "harmless", "", COMMON, alarm=False)
def label_noise(loop: Loop) -> None:
    """From 0 to all labels are drawn at random over the run."""
    generator = torch.Generator().manual_seed(0)
    batches = loop.batches

    def noisy() -> object:
        while True:
            inputs, labels = next(batches)
            others = labels.flatten()[torch.randperm(labels.numel(), generator=generator)]
            drawn = torch.rand(labels.shape, generator=generator) < loop.step / loop.length
            yield inputs, torch.where(drawn, others.view_as(labels), labels)

    loop.batches = noisy()


@make_fault("rare large gradients", "harmless", "GRADIENT_SPIKE HEAVY_TAILS", STEADY, alarm=False)
def rare(loop: Loop) -> None:
    """One batch in 50 has a loss 20 times as large."""
    usual = loop.loss
    loop.loss = lambda model, batch: usual(model, batch) * (20.0 if loop.step % 50 == 7 else 1.0)


@make_fault("NaN in one step", "gradient", "NON_FINITE", COMMON, begins=800)
def not_a_number(loop: Loop) -> None:
    """One batch gives a NaN loss, and the loop steps with it."""
    usual = loop.loss
    loop.loss = lambda model, batch: (
        usual(model, batch) * (float("nan") if loop.step == loop.begins else 1.0)
    )


@make_fault("rate set to 0", "harmless", "RATE_ZERO", COMMON, begins=800, alarm=False)
def rate_zero(loop: Loop) -> None:
    """The rate is set to 0 for the last third of the run."""

    @loop.after_update
    def stop() -> None:
        for optimizer in loop.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.0
