"""Data from the training loop that wait to be stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.records.events import Event
from spherical_motion.records.schema import SETTINGS
from spherical_motion.vocabulary.gram import FIELDS


class RowBlock(NamedTuple):
    """The rows of one step."""

    step: int
    gram: NDArray[np.float64]  # (rows, 6)
    settings: NDArray[np.float64]  # (rows, 4)
    slices: NDArray[np.int32]  # (rows,)

    @classmethod
    def copied(
        cls, step: int, gram: ArrayLike, settings: ArrayLike, slices: NDArray[np.int32]
    ) -> RowBlock:
        """A copy of rows whose shapes fit `slices`, else InvalidArgument."""
        block = cls(int(step), np.array(gram, np.float64), np.array(settings, np.float64), slices)
        expected = (len(slices), len(FIELDS)), (len(slices), len(SETTINGS))
        if (block.gram.shape, block.settings.shape) != expected:
            raise InvalidArgument(
                f"gram and settings of shapes {block.gram.shape} and {block.settings.shape}; "
                f"expected {expected[0]} and {expected[1]}"
            )
        return block

    @property
    def nbytes(self) -> int:
        """Memory of its products and settings."""
        return self.gram.nbytes + self.settings.nbytes


class CellBlock(NamedTuple):
    """The cells of one group at one step."""

    step: int
    group: int
    gram: NDArray[np.float64]  # (cells, 6)

    @classmethod
    def copied(cls, step: int, group: int, gram: ArrayLike, cells: int) -> CellBlock:
        """A copy of the products of `cells` cells; InvalidArgument for another number."""
        block = cls(int(step), int(group), np.array(gram, np.float64))
        if block.gram.shape != (cells, len(FIELDS)):
            raise InvalidArgument(
                f"gram of shape {block.gram.shape}; expected {(cells, len(FIELDS))}"
            )
        return block

    @property
    def nbytes(self) -> int:
        """Memory of its products."""
        return self.gram.nbytes


@dataclasses.dataclass(slots=True)
class Pending:
    """Blocks, scalars and events in the order in which they came, and their size in memory."""

    rows: list[RowBlock] = dataclasses.field(default_factory=list)
    cells: list[CellBlock] = dataclasses.field(default_factory=list)
    scalars: list[tuple[int, Mapping[str, object]]] = dataclasses.field(default_factory=list)
    events: list[Event] = dataclasses.field(default_factory=list)
    nbytes: int = 0
