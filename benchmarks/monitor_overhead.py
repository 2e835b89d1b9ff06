"""What a monitor at every step costs a training loop: the demo and a CIFAR-stem ResNet-18.

    python benchmarks/monitor_overhead.py [--pairs 15] [--only digits]

Two figures, from one run. "in the hooks": time spent in the monitor's two hooks over the rest of
the step, step by step; it misses what the hooks do to caches and what the writer thread takes.
"whole loop": blocks of steps with and without a monitor in turn (with, without, without, with),
one ratio a pair; it misses nothing and is noisier.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from resnet18 import ResNet18

from spherical_motion.invariance import find_groups
from spherical_motion.monitor import Monitor
from spherical_motion.recipes import recipe
from spherical_motion.vocabulary import InvariantGroup

Step = Callable[[], None]


def digits() -> tuple[torch.nn.Module, torch.optim.Optimizer, torch.Tensor]:
    """The demo's network and batch."""
    return recipe("digits").build()


def resnet18() -> tuple[torch.nn.Module, torch.optim.Optimizer, torch.Tensor]:
    """ResNet-18 on random 32×32 images, batch 64."""
    torch.manual_seed(0)
    model = ResNet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    return model, optimizer, torch.randn(64, 3, 32, 32)


def stepper(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> Step:
    """One ordinary training step."""
    labels = torch.arange(len(x)) % 10

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


class HookClock:
    """Adds up the time of every guarded hook of a monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self.spent = 0.0
        for station in monitor._stations:
            for name in ("_before", "_after"):
                setattr(station, name, self._timed(getattr(station, name)))

    def _timed(self, hook: Callable[..., None]) -> Callable[..., None]:
        def timed(*args: object) -> None:
            start = time.perf_counter()
            hook(*args)
            self.spent += time.perf_counter() - start

        return timed


def spread(values: list[float]) -> str:
    """p20 / p50 / p80 in percent."""
    return " / ".join(f"{100 * v:.2f}" for v in np.percentile(values, [20, 50, 80]))


def measure(build: Callable[[], tuple], block: int, pairs: int, scratch: Path) -> tuple[list, list]:
    """Per step the hooks' share, and per pair the slowdown of the whole loop."""
    model, optimizer, x = build()
    groups = find_groups(model, x[:16])
    step = stepper(model, optimizer, x)
    count = 0

    def seconds(groups: tuple[InvariantGroup, ...] | None) -> float:
        nonlocal count
        count += 1
        monitor = None
        if groups:
            # Blocks are short, and their first steps would be audited; see audit_cost.py.
            where = scratch / f"{count}"
            monitor = Monitor(model, optimizer, groups, where, audit=False, quiet=True)
        step()
        start = time.perf_counter()
        for _ in range(block):
            step()
        lasted = time.perf_counter() - start
        if monitor:
            monitor.close()
        return lasted

    seconds(groups)
    seconds(None)
    ratios = []
    for pair in range(pairs):
        order = (groups, None, None, groups) if pair % 2 else (None, groups, groups, None)
        times = [(g is not None, seconds(g)) for g in order]
        with_monitor = sum(t for watched, t in times if watched)
        ratios.append(with_monitor / sum(t for watched, t in times if not watched) - 1)

    shares = []
    with Monitor(model, optimizer, groups, scratch / "hooks", audit=False, quiet=True) as monitor:
        clock = HookClock(monitor)
        step()
        for _ in range(block * 3):
            before, start = clock.spent, time.perf_counter()
            step()
            lasted, hooks = time.perf_counter() - start, clock.spent - before
            shares.append(hooks / (lasted - hooks))
    return shares, ratios


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", choices=["digits", "resnet18"])
    arguments = parser.parse_args()
    pairs = arguments.pairs
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch "
        f"{torch.__version__} with {torch.get_num_threads()} threads; percent, p20 / p50 / p80"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name, build, block in (("digits", digits, 40), ("resnet18", resnet18, 2)):
            if arguments.only not in (None, name):
                continue
            place = Path(scratch) / name
            place.mkdir()
            shares, ratios = measure(build, block, pairs, place)
            print(
                f"{name:<9} in the hooks {spread(shares)}   whole loop {spread(ratios)} "
                f"({len(shares)} steps, {pairs} pairs of {2 * block} steps)"
            )


if __name__ == "__main__":
    main()
