"""How fast the norm is stepped: recursion steps a second on one core, and against plain Python.

python benchmarks/simulate.py [settings] [steps]

The last line times a full sweep: 1,000 settings over 10⁶ steps, thinned.
"""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Callable

import numba
import numpy as np

from spherical_motion import simulate

ROUNDS = 7


def reference(lr: float, decay: float, x: float, drive: float, steps: int) -> float:
    """The plain recursion of one setting, as Python runs it."""
    keep, gain = (1.0 - lr * decay) ** 2, lr * lr * drive
    for _ in range(steps):
        x = keep * x + gain / x
    return x


def seconds(task: Callable[[], object]) -> float:
    """Processor time of one run: other work may share the machine."""
    started = time.process_time()
    task()
    return time.process_time() - started


def main(settings: int, steps: int) -> None:
    """Time every drive of both recursions, alternating with the reference in each round."""
    lr = np.linspace(0.01, 0.1, settings)
    tasks: dict[str, tuple[int, Callable[[], object]]] = {}
    for panel, drive in simulate.WAN2021_DRIVES.items():
        what = {"a": "constant", "b": "noise", "c": "sine", "d": "noise and sine"}[panel]
        tasks[f"SGD, {what}"] = (
            settings * steps,
            lambda drive=drive: simulate.norm_sgd(lr, 1e-3, drive, norm0=3.0, steps=steps),
        )
        tasks[f"SGDM, {what}"] = (
            settings * steps,
            lambda drive=drive: simulate.norm_sgdm(lr, 1e-3, 0.9, drive, norm0=3.0, steps=steps),
        )
    tasks["SGD, constant, one setting"] = (
        100 * steps,
        lambda: simulate.norm_sgd(0.1, 1e-3, 10.0, norm0=3.0, steps=100 * steps),
    )
    for _, task in tasks.values():
        task()  # compiles
    plain, rates = [], {name: [] for name in tasks}
    for _ in range(ROUNDS):
        plain.append(200_000 / seconds(lambda: reference(0.1, 1e-3, 9.0, 10.0, 200_000)))
        for name, (count, task) in tasks.items():
            rates[name].append(count / seconds(task))
    print(f"{platform.machine()}, numpy {np.__version__}, numba {numba.__version__}; one core")
    print(f"{settings:,} settings × {steps:,} steps; million steps a second, p20 / p50 / p80")
    low, middle, high = np.percentile(plain, [20, 50, 80]) / 1e6
    print(f"{'plain Python, SGD, constant':30} {low:7.1f} / {middle:7.1f} / {high:7.1f}")
    for name, rate in rates.items():
        ratio = np.median(np.array(rate) / np.array(plain))
        low, middle, high = np.percentile(rate, [20, 50, 80]) / 1e6
        print(f"{name:30} {low:7.0f} / {middle:7.0f} / {high:7.0f}   {ratio:4.0f} × Python")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sweep = np.linspace(0.01, 0.1, 1000)
    drive = simulate.WAN2021_DRIVES["d"]
    took = seconds(lambda: simulate.norm_sgdm(sweep, 1e-3, 0.9, drive, norm0=3.0, steps=1_000_000))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"1,000 settings × 1,000,000 steps of SGDM with noise and sine: {took:.1f} s, {grown:.0f}"
        " MB more"
    )


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers + [1000, 20_000][len(numbers) :]))
