"""Data from the training loop that wait to be stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.records.events import Event


class RowBlock(NamedTuple):
    """The rows of one step."""

    step: int
    gram: NDArray[np.float64]  # (rows, 6)
    settings: NDArray[np.float64]  # (rows, 4)
    slices: NDArray[np.int32]  # (rows,)


class CellBlock(NamedTuple):
    """The cells of one group at one step."""

    step: int
    group: int
    gram: NDArray[np.float64]  # (cells, 6)


def copied(name: str, values: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A copy of `values` in float64; InvalidArgument if they do not have this shape."""
    array = np.array(values, np.float64)
    if array.shape != shape:
        raise InvalidArgument(f"{name} of shape {array.shape}; expected {shape}")
    return array


@dataclasses.dataclass(slots=True)
class Pending:
    """Blocks, scalars and events in the order in which they came, and their size in memory."""

    rows: list[RowBlock] = dataclasses.field(default_factory=list)
    cells: list[CellBlock] = dataclasses.field(default_factory=list)
    scalars: list[tuple[int, Mapping[str, object]]] = dataclasses.field(default_factory=list)
    events: list[Event] = dataclasses.field(default_factory=list)
    nbytes: int = 0
