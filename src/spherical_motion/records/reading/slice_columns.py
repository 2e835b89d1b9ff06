"""The stored columns of some slices as arrays of (steps, slices), read when they are first used."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion.records.reading.rows import StoredRows

Array = NDArray[np.float64]


class SliceColumns:
    """Columns of the table of rows; a slice is a column of each array, contiguous in memory.

    Args:
        rows: the table.
        slices: the slices, by their numbers in the run.
        width: how many slices the run has.
        products: the columns that are read together.
    """

    def __init__(
        self, rows: StoredRows, slices: Sequence[int], width: int, products: tuple[str, ...]
    ) -> None:
        self._rows, self._width, self.products = rows, width, products
        self._slices = np.asarray(slices, np.intp)
        self._places = np.full(width, -1)
        self._places[self._slices] = np.arange(len(slices))
        self._loaded: dict[str, Array] = {}

    @property
    def steps(self) -> NDArray[np.int64]:
        """The recorded steps of the run, increasing, shape (steps,)."""
        return self._rows.steps

    @property
    def shape(self) -> tuple[int, int]:
        """(steps, slices), the shape of each array."""
        return len(self.steps), len(self._slices)

    def __getitem__(self, name: str) -> Array:
        """A column, NaN where nothing is stored; read-only.

        Raises:
            RunDirectoryError: the files of the run are gone.
        """
        if name not in self._loaded:
            names = self.products if name in self.products else (name,)
            for own, array in self._rows.dense(names, self._places).items():
                self._loaded[own] = array.T
                self._loaded[own].flags.writeable = False
        return self._loaded[name]

    @property
    def present(self) -> NDArray[np.bool_] | None:
        """Which slices have a row at which steps, shape (steps, slices); None if all have."""
        return self._present

    @functools.cached_property
    def _present(self) -> NDArray[np.bool_] | None:
        found = self._rows.present(self._places)
        return None if found is None else found.T

    def of(self, slices: Sequence[int]) -> SliceColumns:
        """The columns of some of these slices; what was read already is not read again."""
        part = SliceColumns(
            self._rows, self._slices[list(slices)].tolist(), self._width, self.products
        )
        which = _consecutive(slices)
        part._loaded = {name: array[:, which] for name, array in self._loaded.items()}
        return part

    def stored(self, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Columns as stored, a value for each row of these slices, read anew from the files."""
        rows = self._rows.raw(("slice", *names))
        own = self._places[rows["slice"]]
        if len(self._slices) == self._width and np.array_equal(own, rows["slice"]):
            return MappingProxyType({name: rows[name] for name in names})
        kept = own >= 0
        found = {name: rows[name][kept] for name in names}
        if "slice" in found:
            found["slice"] = own[kept].astype(rows["slice"].dtype)
        return MappingProxyType(found)


def _consecutive(numbers: Sequence[int]) -> slice | list[int]:
    """Numbers as a slice if they follow each other: an array of them is then no copy."""
    listed = list(numbers)
    if listed and listed == list(range(listed[0], listed[0] + len(listed))):
        return slice(listed[0], listed[-1] + 1)
    return listed
