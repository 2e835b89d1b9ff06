"""All runs of the table: faults paired with nets and optimizers, and healthy runs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from verdicts import faults_gradients, faults_model, faults_settings, faults_steps, faults_weights
from verdicts.fault import Fault, known_faults
from verdicts.healthy import REAL_EPSILON, VARIANTS
from verdicts.nets import TASKS, Task
from verdicts.optimizers import OPTIMIZERS

__all__ = ["FAULTS", "LENGTH", "Run", "every_run", "fault_runs", "healthy_runs", "quick_runs"]

ROOMS = (faults_weights, faults_settings, faults_steps, faults_gradients, faults_model)
"""Importing them enters the faults."""

FAULTS = known_faults()
LENGTH = 1200
"""Steps of a run: beyond the second audit, which is at step 1,000."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        fault: name of the fault; "" if healthy.
        net: key in `TASKS`.
        optimizer: name in `OPTIMIZERS`.
        schedule: name in `SCHEDULES`.
        variant: of a healthy loop, name in `VARIANTS`.
        length: steps.
        seed: of weights and batches.
    """

    fault: str
    net: str
    optimizer: str
    schedule: str = "constant"
    variant: str = ""
    length: int = LENGTH
    seed: int = 0

    @property
    def key(self) -> str:
        """A file name of its own."""
        parts = (self.fault or "healthy", self.net, self.optimizer, self.schedule, self.variant)
        return "__".join(re.sub(r"[^\w.-]+", "-", part) for part in parts if part)

    @property
    def title(self) -> str:
        """In one line."""
        parts = (self.net, self.optimizer, self.schedule, self.variant)
        return f"{self.fault or 'healthy'}: {', '.join(part for part in parts if part)}"


def concerned(fault: Fault, task: Task) -> tuple[str, ...]:
    """The optimizers with which a fault is tried on a net; none if it does not concern it."""
    return tuple(o for o in fault.optimizers if has(task, o)) if fault.needs(task) else ()


def has(task: Task, optimizer: str) -> bool:
    """Whether an optimizer steps the hidden layers of a net: torch's Muon takes matrices only."""
    return not OPTIMIZERS[optimizer].matrices_only or not task.key.startswith("conv")


def fault_runs() -> Iterator[Run]:
    """Each fault on each net that it concerns, and each of its optimizers at least once."""
    tasks = list(TASKS.values())
    for number, fault in enumerate(FAULTS.values()):
        missing = list(fault.optimizers)
        for i, task in enumerate(tasks):
            choice = concerned(fault, task)
            if not choice:
                continue
            new = [o for o in missing if o in choice]
            optimizer = new[0] if new else choice[(number + i) % len(choice)]
            missing = [o for o in missing if o != optimizer]
            yield Run(fault.name, task.key, optimizer, fault.schedule)
        for optimizer in missing:
            possible = [t for t in tasks if optimizer in concerned(fault, t)]
            if possible:
                task = possible[(number + len(optimizer)) % len(possible)]
                yield Run(fault.name, task.key, optimizer, fault.schedule)


USUAL = ("constant", "steps", "cosine", "warm-up", "one-cycle", "restarts")


def healthy_runs() -> Iterator[Run]:
    """Three schedules for each net and optimizer, and each variant of the loop on three nets."""
    tasks = list(TASKS.values())
    for i, task in enumerate(tasks):
        for j, optimizer in enumerate(o for o in OPTIMIZERS if has(task, o)):
            for k in range(3):
                yield Run("", task.key, optimizer, USUAL[(i + j + 2 * k) % len(USUAL)])
    for number, (variant, (_, optimizers)) in enumerate(VARIANTS.items()):
        if not variant:
            continue
        for k in range(4):
            task = tasks[(number + k) % len(tasks)]
            if variant == REAL_EPSILON and not task.norms:
                continue
            choice = [o for o in optimizers if has(task, o)]
            optimizer = choice[(number // 2 + k) % len(choice)]
            schedule = USUAL[(number + k) % 3]
            yield Run("", task.key, optimizer, schedule, variant)
    for task in tasks:
        yield Run("", task.key, "momentum", "one-cycle with momentum")


def every_run() -> list[Run]:
    """The whole table, in rounds: a part of it has each fault on some nets and healthy runs."""
    by_fault = by_name()
    healthy = list(healthy_runs())
    rounds = max(map(len, by_fault.values()))
    runs: list[Run] = []
    for k in range(rounds):
        for i, mine in enumerate(by_fault.values()):
            turned = mine[i % len(mine) :] + mine[: i % len(mine)]
            runs += turned[k : k + 1]
        runs += healthy[k :: len(TASKS)] if k < len(TASKS) else []
    return list(dict.fromkeys([*runs, *healthy]))


def by_name() -> dict[str, list[Run]]:
    """The runs of each fault."""
    runs: dict[str, list[Run]] = {}
    for run in fault_runs():
        runs.setdefault(run.fault, []).append(run)
    return runs


def quick_runs() -> list[Run]:
    """One net for each fault, and every fifth healthy run."""
    firsts = [runs[i % len(runs)] for i, runs in enumerate(by_name().values())]
    return [*firsts, *list(healthy_runs())[::5]]
