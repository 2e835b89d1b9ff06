"""Faults that write the weights beside the optimizer."""

from __future__ import annotations

import torch

from verdicts.fault import ANY, make_fault
from verdicts.loop import Loop

__all__ = []

COMMON = ("momentum", "AdamW", "SGD", "Lion", "Adam")


@make_fault("EMA copy every 200 steps", "weights", "WEIGHTS_WRITTEN", ANY, begins=200)
def ema_copy(loop: Loop) -> None:
    """The averaged weights are copied into the model for evaluation and stay there."""
    ema = [p.detach().clone() for p in loop.model.parameters()]
    update = loop.update

    def update_and_average() -> None:
        update()
        for average, p in zip(ema, loop.model.parameters(), strict=True):
            average.lerp_(p.detach(), 0.05)

    loop.update = update_and_average

    @loop.after_update
    def copy() -> None:
        if loop.step % 200 == 0:
            with torch.no_grad():
                for average, p in zip(ema, loop.model.parameters(), strict=True):
                    p.copy_(average)


@make_fault("weights averaged once", "weights", "WEIGHTS_WRITTEN", COMMON, begins=700)
def averaged_once(loop: Loop) -> None:
    """SWA weights are loaded once and training goes on from them."""
    mean = torch.optim.swa_utils.AveragedModel(loop.model)
    update = loop.update

    def update_and_average() -> None:
        update()
        if loop.step % 20 == 0:
            mean.update_parameters(loop.model)

    loop.update = update_and_average

    @loop.after_update
    def load() -> None:
        if loop.step == loop.begins:
            loop.model.load_state_dict(mean.module.state_dict())


@make_fault("projection to the first norm", "weights", "WEIGHTS_WRITTEN", COMMON)
def projection(loop: Loop) -> None:
    """After each step every matrix is scaled back to the norm it began with."""
    norms = [p.detach().norm() for p in loop.matrices]
    loop.affected = {name for name, p in loop.parameters.items() if p.ndim > 1}

    @loop.after_update
    def project() -> None:
        with torch.no_grad():
            for p, norm in zip(loop.matrices, norms, strict=True):
                p.mul_(norm / p.norm())


@make_fault("rows projected in one layer", "weights", "WEIGHTS_WRITTEN", COMMON, begins=10)
def projected_rows(loop: Loop) -> None:
    """`p.renorm_` bounds the rows of one layer after each step."""
    p = loop.layer()
    bound = 0.9 * float(p.detach().flatten(1).norm(dim=1).mean())

    @loop.after_update
    def project() -> None:
        with torch.no_grad():
            p.copy_(torch.renorm(p, 2, 0, bound))


@make_fault("manual decay between steps", "weights", "WEIGHTS_WRITTEN", COMMON)
def manual_decay(loop: Loop) -> None:
    """`p.mul_(1 - 1e-4)` after each step, beside the optimizer's own decay."""

    @loop.after_update
    def decay() -> None:
        with torch.no_grad():
            for p in loop.model.parameters():
                p.mul_(1.0 - 1e-4)


@make_fault("noise on the weights", "weights", "WEIGHTS_WRITTEN", COMMON, begins=300)
def noise(loop: Loop) -> None:
    """Gaussian noise of 0.1% is added to all weights after each step."""
    loop.affected = {name for name, p in loop.parameters.items() if p.ndim > 1}

    @loop.after_update
    def add() -> None:
        with torch.no_grad():
            for p in loop.matrices:
                p.add_(torch.randn_like(p), alpha=1e-3 * float(p.std()))


@make_fault("noise on the weights once", "weights", "WEIGHTS_WRITTEN", COMMON, begins=500)
def noise_once(loop: Loop) -> None:
    """Shrink and perturb: weights are shrunk by 10% and disturbed, once."""
    loop.affected = {name for name, p in loop.parameters.items() if p.ndim > 1}

    @loop.after_update
    def add() -> None:
        if loop.step == loop.begins:
            with torch.no_grad():
                for p in loop.matrices:
                    p.mul_(0.9).add_(torch.randn_like(p), alpha=0.01 * float(p.std()))


@make_fault("weights rolled back", "weights", "WEIGHTS_WRITTEN", ANY, begins=600)
def rolled_back(loop: Loop) -> None:
    """The weights of 300 steps before are loaded again, the optimizer's state is not."""
    kept: dict[str, torch.Tensor] = {}
    update = loop.update

    def update_and_keep() -> None:
        update()
        if loop.step == loop.begins - 300:
            kept.update({n: t.clone() for n, t in loop.model.state_dict().items()})

    loop.update = update_and_keep

    @loop.after_update
    def load() -> None:
        if loop.step == loop.begins:
            loop.model.load_state_dict(kept)


@make_fault("one layer initialized again", "weights", "WEIGHTS_WRITTEN", COMMON, begins=500)
def initialized_again(loop: Loop) -> None:
    """One layer gets new random weights in the middle of the run."""
    p = loop.layer()

    @loop.after_update
    def reset() -> None:
        if loop.step == loop.begins:
            torch.nn.init.kaiming_uniform_(p)


@make_fault("one layer rescaled", "weights", "WEIGHTS_WRITTEN", COMMON, begins=600)
def rescaled(loop: Loop) -> None:
    """One layer is multiplied by 1.05, once, by hand."""
    p = loop.layer()

    @loop.after_update
    def scale() -> None:
        if loop.step == loop.begins:
            with torch.no_grad():
                p.mul_(1.05)


@make_fault("second optimizer on all weights", "weights", "WEIGHTS_WRITTEN", COMMON, begins=1)
def second_optimizer(loop: Loop) -> None:
    """Another optimizer, left over from an earlier phase, steps the same weights."""
    second = torch.optim.SGD(loop.model.parameters(), lr=0.1 * loop.task.net.lr["sgd"])
    loop.after_update(second.step)


@make_fault("second optimizer on one layer", "weights", "WEIGHTS_WRITTEN", COMMON, begins=300)
def second_on_layer(loop: Loop) -> None:
    """A second optimizer was given one layer that the first one holds, too."""
    second = torch.optim.Adam([loop.layer()], lr=1e-4)
    loop.after_update(lambda: second.step())


@make_fault("weights clamped", "weights", "WEIGHTS_WRITTEN", COMMON, begins=10)
def clamped(loop: Loop) -> None:
    """`p.clamp_(-c, c)` after each step, as for a WGAN's critic, in one layer."""
    p = loop.layer()
    bound = float(p.detach().abs().quantile(0.95))

    @loop.after_update
    def clamp() -> None:
        with torch.no_grad():
            p.clamp_(-bound, bound)


@make_fault("weights rounded to fp16", "weights", "WEIGHTS_WRITTEN", COMMON, begins=400)
def rounded(loop: Loop) -> None:
    """Weights go through float16 and back after each step, as if synchronized in half."""

    @loop.after_update
    def round_trip() -> None:
        with torch.no_grad():
            for p in loop.model.parameters():
                p.copy_(p.half().float())


@make_fault("Lookahead by hand", "weights", "WEIGHTS_WRITTEN", COMMON, begins=5)
def lookahead(loop: Loop) -> None:
    """Every 5 steps the weights go half-way back to slow weights."""
    slow = [p.detach().clone() for p in loop.model.parameters()]

    @loop.after_update
    def synchronize() -> None:
        if loop.step % 5 == 0:
            with torch.no_grad():
                for kept, p in zip(slow, loop.model.parameters(), strict=True):
                    kept.lerp_(p, 0.5)
                    p.copy_(kept)
