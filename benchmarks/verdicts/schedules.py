"""The learning rates of the table: torch's schedulers, and the same as plans of the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch.optim import Optimizer, lr_scheduler

__all__ = ["SCHEDULES", "Scheduler"]

Scheduler = lr_scheduler.LRScheduler


def steps(optimizer: Optimizer, length: int) -> Scheduler:
    """Divide the rate by 5 after half of the run."""
    return lr_scheduler.MultiStepLR(optimizer, [length // 2], gamma=0.2)


def cosine(optimizer: Optimizer, length: int) -> Scheduler:
    return lr_scheduler.CosineAnnealingLR(optimizer, length)


def warm_up(optimizer: Optimizer, length: int) -> Scheduler:
    return lr_scheduler.LinearLR(optimizer, 0.01, 1.0, length // 6)


def one_cycle(optimizer: Optimizer, length: int) -> Scheduler:
    peaks = [group["lr"] for group in optimizer.param_groups]
    return lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=length + 1, cycle_momentum=False)


def one_cycle_momentum(optimizer: Optimizer, length: int) -> Scheduler:
    """As torch does it if not told otherwise: momentum falls while the rate rises."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    return lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=length + 1)


def restarts(optimizer: Optimizer, length: int) -> Scheduler:
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, length // 3)


SCHEDULES: Mapping[str, Callable[[Optimizer, int], Scheduler] | None] = {
    "constant": None,
    "steps": steps,
    "cosine": cosine,
    "warm-up": warm_up,
    "one-cycle": one_cycle,
    "restarts": restarts,
    "one-cycle with momentum": one_cycle_momentum,
}
"""Name → (optimizer, steps of the run) to a scheduler that is stepped after every step."""
