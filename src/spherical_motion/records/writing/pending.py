"""Data from the training loop that wait to be stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import listed, shown
from spherical_motion.records.files.events import MOST_STEPS, Event

SMALL_ITEM = 500
"""Estimated bytes of a waiting scalar, event or row of settings."""


class RowBlock(NamedTuple):
    """The rows of one step."""

    step: int
    gram: NDArray[np.float64]  # (rows, products)
    slices: NDArray[np.int32]  # (rows,)


class SettingsRow(NamedTuple):
    """The settings of a param group from a step on."""

    step: int
    param_group: int
    values: NDArray[np.float64]  # (4,)


class CellBlock(NamedTuple):
    """The cells of one group at one step."""

    step: int
    group: int
    gram: NDArray[np.float64]  # (cells, 6)


class CorrelationRow(NamedTuple):
    """The autocorrelation of one group's updates over a burst of steps."""

    step: int
    group: int
    rho: NDArray[np.float64]  # (lags,)
    update_sq: float


class AuditBlock(NamedTuple):
    """The parameters of one audited step."""

    step: int
    sums: NDArray[np.float64]  # (rows, AUDIT_SUMS)
    parameters: NDArray[np.int32]  # (rows,)


class AuditStepRow(NamedTuple):
    """One audited step of one optimizer."""

    step: int
    optimizer: int
    values: NDArray[np.float64]  # counter, taken, grad_norm
    skipped: str


Block: TypeAlias = RowBlock | SettingsRow | CellBlock | CorrelationRow | AuditBlock | AuditStepRow


def step_number(step: object) -> int:
    """A step as it is recorded; InvalidArgument if it is no whole number from 0 on."""
    found = int(step)  # pyright: ignore[reportArgumentType]
    if not 0 <= found < MOST_STEPS:
        raise InvalidArgument(f"step {shown(step)}; expected 0 to {MOST_STEPS - 1:,}")
    return found


def copied(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A copy of `values` in float64; InvalidArgument if they do not have this shape."""
    array = np.array(values, np.float64)
    if array.shape != shape:
        raise InvalidArgument(f"{name} of shape {array.shape}; expected {shape}")
    return array


@dataclasses.dataclass(slots=True)
class Pending:
    """Blocks, scalars and events in the order in which they came, and their size in memory."""

    rows: list[RowBlock] = dataclasses.field(default_factory=list)
    settings: list[SettingsRow] = dataclasses.field(default_factory=list)
    cells: list[CellBlock] = dataclasses.field(default_factory=list)
    correlations: list[CorrelationRow] = dataclasses.field(default_factory=list)
    audits: list[AuditBlock] = dataclasses.field(default_factory=list)
    audit_steps: list[AuditStepRow] = dataclasses.field(default_factory=list)
    scalars: list[tuple[int, Mapping[str, object]]] = dataclasses.field(default_factory=list)
    events: list[Event] = dataclasses.field(default_factory=list)
    nbytes: int = 0

    def add(self, block: Block) -> int:
        """Append a block to those of its sort; returns its size in memory, roughly."""
        if isinstance(block, RowBlock):
            self.rows.append(block)
            return block.gram.nbytes
        if isinstance(block, SettingsRow):
            self.settings.append(block)
            return SMALL_ITEM
        if isinstance(block, CellBlock):
            self.cells.append(block)
            return block.gram.nbytes
        if isinstance(block, AuditBlock):
            self.audits.append(block)
            return block.sums.nbytes
        if isinstance(block, AuditStepRow):
            self.audit_steps.append(block)
            return SMALL_ITEM
        self.correlations.append(block)
        return SMALL_ITEM + block.rho.nbytes

    def add_event(self, event: Event, characters: int) -> int:
        """Append an event of so many characters; returns its size in memory, roughly."""
        self.events.append(event)
        return SMALL_ITEM + characters

    def add_scalars(self, step: int, values: Mapping[str, object]) -> int:
        """Append scalars of one step; returns their size in memory, roughly."""
        self.scalars.append((step, values))
        return SMALL_ITEM * len(values)

    def summary(self) -> str:
        """What it holds, in words; "" if it is empty.

        >>> pending = Pending(scalars=[(7, {"loss": 0.5}), (8, {"loss": 0.4})])
        >>> pending.summary()
        '2 scalars'
        """
        steps = {block.step for block in self.rows}
        counts = {
            "audited step": len(self.audit_steps),
            "scalar": sum(len(values) for _, values in self.scalars),
            "event": len(self.events),
        }
        found = [f"{n:,} {what}{'s' * (n != 1)}" for what, n in counts.items() if n]
        if steps:
            span = f"step {min(steps):,}"
            if len(steps) > 1:
                span = f"{len(steps):,} steps ({min(steps):,} to {max(steps):,})"
            found.insert(0, span)
        return listed(found) if found else ""
