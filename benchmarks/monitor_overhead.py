"""What a monitor at every step costs a training loop: the demo and a CIFAR-stem ResNet-18.

    python benchmarks/monitor_overhead.py [--pairs 15] [--only digits]

"in the hooks": time spent in the monitor's two hooks over the rest of the step, step by step; it
misses what the hooks do to caches and what the writer thread takes. "whole loop": blocks of steps
with and without a monitor in turn (with, without, without, with), one ratio a pair; it misses
nothing and is noisier.

Beside it, what is written by hand for the same layers, in hooks at the same places of the same
loop: "clone + cosine" (a clone before the step, after it a float32 cosine, arccos and `.item()` a
layer: one number), and "norms by foreach" (the norms of weights, gradients and updates by
`_foreach` operations, and one read-back: three numbers). All three run in each step, in turn the
first, and each is timed only where it is the first, since the others find warm caches. The goals:
at most 1.5% of the demo's step and 0.5% of ResNet-18's in the hooks; clone + cosine at least 2.5 ×
dearer, norms by foreach not cheaper.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
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


class ByHand:
    """Code in the loop that logs what it can of the layers."""

    def __init__(self, layers: Sequence[torch.Tensor]) -> None:
        self.layers = list(layers)
        self.logged: list[float] = []

    def before(self, *_: object) -> None:
        """Before a step."""
        self.old = [w.detach().clone() for w in self.layers]


class CloneAndCosine(ByHand):
    """The angle of each layer, as it is usually written."""

    def after(self, *_: object) -> None:
        """After a step."""
        for w, old in zip(self.layers, self.old, strict=True):
            cosine = torch.nn.functional.cosine_similarity(
                w.detach().flatten(), old.flatten(), dim=0
            )
            self.logged.append(torch.arccos(cosine.clamp(-1, 1)).item())


class NormsByForeach(ByHand):
    """Norms of weights, gradients and updates, in as few calls as torch offers."""

    @torch.no_grad()
    def after(self, *_: object) -> None:
        """After a step."""
        updates = torch._foreach_sub(self.layers, self.old)
        norms = [
            *torch._foreach_norm(self.layers),
            *torch._foreach_norm([w.grad for w in self.layers]),
            *torch._foreach_norm(updates),
        ]
        self.logged += torch.stack(norms).tolist()


class InTurn:
    """Runs several pairs of hooks at each step and times the one whose turn it is to go first."""

    def __init__(self, optimizer: torch.optim.Optimizer, others: Sequence[ByHand]) -> None:
        pre, post = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
        self._before = [_together(pre), *(other.before for other in others)]
        self._after = [_together(post), *(other.after for other in others)]
        for table, hooks in ((pre, self._before), (post, self._after)):
            first = next(iter(table))
            table.clear()
            table[first] = self._run(hooks)
        self._turn = 0
        self.spent = 0.0

    def _run(self, hooks: Sequence[Callable[..., None]]) -> Callable[..., None]:
        def run(*given: object) -> None:
            for place in range(len(hooks)):
                start = time.perf_counter()
                hooks[(self._turn + place) % len(hooks)](*given)
                if place == 0:
                    self.spent += time.perf_counter() - start

        return run

    def next(self) -> tuple[int, float]:
        """Who was first in the step just made, and its seconds; the next one is first from now."""
        first, spent = self._turn, self.spent
        self._turn, self.spent = (self._turn + 1) % len(self._before), 0.0
        return first, spent


def _together(table: Mapping[int, Callable[..., None]]) -> Callable[..., None]:
    """The hooks of a table as one."""
    hooks = list(table.values())

    def run(*given: object) -> None:
        for hook in hooks:
            hook(*given)

    return run


def spread(values: ArrayLike, unit: float, digits: int = 2) -> str:
    """p20 / p50 / p80 in a unit."""
    return " / ".join(f"{v / unit:.{digits}f}" for v in np.percentile(values, [20, 50, 80]))


def measure(
    build: Callable[[], tuple], block: int, pairs: int, scratch: Path
) -> tuple[list[list[float]], list[float], list[float]]:
    """Seconds in the hooks of each candidate, of bare steps, and per pair the loop's slowdown."""
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

    layers = [dict(model.named_parameters())[s.parameter] for g in groups for s in g.slices]
    others = (CloneAndCosine(layers), NormsByForeach(layers))
    spent: list[list[float]] = [[], [], []]
    with Monitor(model, optimizer, groups, scratch / "hooks", audit=False, quiet=True):
        turns = InTurn(optimizer, others)
        whole = [step_and_time(step, turns) for _ in range(block * 9)]
    for (first, hooks), _ in whole[block:]:
        spent[first].append(hooks)
    # What a step takes without any of this.
    rest = [seconds_of(step) for _ in range(block * 3)]
    return spent, rest, ratios


def seconds_of(step: Step) -> float:
    """Of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def step_and_time(step: Step, turns: InTurn) -> tuple[tuple[int, float], float]:
    """One step: whose turn it was and its seconds in the hooks, and those of the step."""
    lasted = seconds_of(step)
    return turns.next(), lasted


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", choices=["digits", "resnet18"])
    arguments = parser.parse_args()
    pairs = arguments.pairs
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch "
        f"{torch.__version__} with {torch.get_num_threads()} threads; p20 / p50 / p80"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name, build, block in (("digits", digits, 40), ("resnet18", resnet18, 2)):
            if arguments.only not in (None, name):
                continue
            place = Path(scratch) / name
            place.mkdir()
            spent, bare, ratios = measure(build, block, pairs, place)
            typical = float(np.median(bare))
            print(
                f"{name}: a step {spread(bare, 1e-3)} ms; whole loop {spread(ratios, 0.01)} % more"
            )
            own, names = np.array(spent[0]), ("monitor", "clone + cosine", "norms by foreach")
            for number, (candidate, times) in enumerate(zip(names, spent, strict=True)):
                line = f"  {candidate:<17} {spread(times, 1e-3, 3)} ms"
                line += f"   {spread(np.array(times) / typical, 0.01)} % of a step"
                if number:
                    count = min(len(own), len(times))
                    line += f"   {spread(np.array(times[:count]) / own[:count], 1.0)} x the monitor"
                print(line)


if __name__ == "__main__":
    main()
