"""What the audit of steps costs a run of 10,000 steps: the demo's network and a ResNet-18.

    python benchmarks/audit_cost.py [--times 15] [--only digits]

Every third step of a watched loop is audited. "an audited step" is its extra time over the mean of
its two neighbours, one ratio for each. "any other step" is the time spent in the audit when it does
nothing. "a run" adds them up: 46 of 10,000 steps are audited with constant settings, and each drop
of the rate adds 3.
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
from monitor_overhead import digits, resnet18, stepper

from spherical_motion.invariance import find_groups
from spherical_motion.monitor import Monitor
from spherical_motion.monitor.audit import AuditTimes, auditor

STEPS = 10_000


class EveryThird(AuditTimes):
    """Audits every third step."""

    def expects(self, step: int) -> bool:
        """Whether a step is audited."""
        return step % 3 == 1

    def takes(self, step: int, settings: object) -> bool:
        """Whether a step is audited."""
        return self.expects(step)


class Clock:
    """Adds up the time in some methods of an object."""

    def __init__(self, owner: object, names: tuple[str, ...]) -> None:
        self.spent = 0.0
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable) -> Callable:
        def timed(*args: object, **given: object) -> object:
            start = time.perf_counter()
            found = method(*args, **given)
            self.spent += time.perf_counter() - start
            return found

        return timed


def audited_steps(steps: int) -> int:
    """How many steps of a run with constant settings are audited."""
    times = AuditTimes(0)
    return sum(times.takes(step, 0.1) for step in range(steps))


def measure(
    build: Callable[[], tuple], count: int, directory: Path
) -> tuple[list[float], list[float], list[float]]:
    """Per audited step: seconds of its neighbours, its extra, and the audit's in a plain step."""
    model, optimizer, x = build()
    groups = find_groups(model, x[:16])
    step = stepper(model, optimizer, x)
    plain, extra, idle = [], [], []
    auditor.AuditTimes = EveryThird
    try:
        with Monitor(model, optimizer, groups, directory, quiet=True) as monitor:
            station = monitor._stations[0]
            names = ("before", "compare_gradients", "gradients", "after")
            clock = Clock(station._auditor, names)
            for _ in range(24):  # the gradients of the first 20 steps are copied in any case
                step()
            for _ in range(count):
                marks, spent = [time.perf_counter()], []
                for _ in range(3):  # a plain step, an audited one, and one far from the next
                    step()
                    marks.append(time.perf_counter())
                    spent.append(clock.spent)
                first, audited, last = np.diff(marks)
                plain.append((first + last) / 2.0)
                extra.append(audited - plain[-1])
                idle.append(spent[2] - spent[1])
    finally:
        auditor.AuditTimes = AuditTimes
    return plain, extra, idle


def percentiles(values: np.ndarray, unit: float, digits: int) -> str:
    """p20 / p50 / p80 in a unit."""
    return " / ".join(f"{v / unit:.{digits}f}" for v in np.percentile(values, [20, 50, 80]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--only", choices=("digits", "resnet18"))
    options = parser.parse_args()
    count = audited_steps(STEPS)
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {platform.machine()}, {threads} of {os.cpu_count()} cores")
    print(f"{count} of {STEPS:,} steps are audited; p20 / p50 / p80")
    for name, build in (("digits", digits), ("resnet18", resnet18)):
        if options.only not in (None, name):
            continue
        repeats = options.times * (20 if name == "digits" else 1)
        with tempfile.TemporaryDirectory() as scratch:
            plain, extra, idle = map(np.array, measure(build, repeats, Path(scratch) / "run"))
        share = (count * extra + (STEPS - count) * idle) / (STEPS * plain)
        print(f"{name}: a step {percentiles(plain, 1e-3, 1)} ms")
        print(f"  an audited step: {percentiles(extra / plain, 0.01, 0)} % more")
        print(f"  any other step:  {percentiles(idle, 1e-6, 1)} us")
        print(f"  a run:           {percentiles(share, 0.01, 3)} %")


if __name__ == "__main__":
    main()
