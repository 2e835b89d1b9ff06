"""The table of rows as it was when a run was read: its steps at once, its products on demand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spherical_motion.records.parts import THREADS
from spherical_motion.records.reading.file_columns import column_of, column_of_group
from spherical_motion.records.reading.pieces import Ints, lines_of, mark, put
from spherical_motion.records.reading.pinned import PinnedPart, PinnedParts
from spherical_motion.records.reading.survey import STEP

Array = NDArray[np.float64]

WORTH_THREADS = 1 << 18
"""Values of a column in an array from which on several threads fill the columns."""


class StoredRows:
    """The rows of a run at one time, whatever its writer does to the files afterwards.

    Args:
        parts: the parts of the table.
        schema: its columns.

    Attributes:
        steps: the distinct steps of the rows, increasing, shape (steps,).
    """

    def __init__(self, parts: PinnedParts, schema: pa.Schema) -> None:
        self._parts, self._schema = parts, schema
        self.steps = parts.steps

    def dense(self, names: Sequence[str], places: Ints) -> dict[str, Array]:
        """Columns as arrays of shape (slices, steps), NaN where nothing is stored.

        Args:
            names: of the columns.
            places: per slice of the run its place in the arrays, -1 if it is not asked for.

        Raises:
            RunDirectoryError: the files are gone, or reading is strict and one is damaged.
        """

        def load(parts: Sequence[PinnedPart]) -> dict[str, Array]:
            found = self._marked(parts, places)
            arrays = {name: np.empty(found.shape) for name in names}
            if not found.all():
                for array in arrays.values():
                    array.fill(np.nan)
            shares = THREADS if found.size >= WORTH_THREADS else 1
            jobs = [{name: arrays[name] for name in names[i::shares]} for i in range(shares)]
            with ThreadPoolExecutor(shares) as pool:
                # Columns are independent; the parts of each are read in order, so that later
                # rows replace earlier ones.
                list(pool.map(lambda job: self._fill(parts, job, places), jobs))
            return arrays

        return self._parts.using(load)

    def present(self, places: Ints) -> NDArray[np.bool_] | None:
        """Which slices have a row at which steps, shape (slices, steps); None if all have."""
        found = self._parts.using(lambda parts: self._marked(parts, places))
        return None if found.all() else found

    def raw(self, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Columns as stored: a value for each row that counts, in the order of the files."""
        fields = [self._schema.field(name) for name in names]

        def collect(parts: Sequence[PinnedPart]) -> Mapping[str, NDArray[Any]]:
            pieces = [[np.empty(0, field.type.to_pandas_dtype())] for field in fields]
            for part in parts:
                with part.opened() as file:
                    kept = lines_of(column_of(file, STEP), self.steps, part.limit) >= 0
                    for column, field in zip(pieces, fields, strict=True):
                        column.append(column_of(file, field)[kept])
            return dict(zip(names, map(np.concatenate, pieces), strict=True))

        return MappingProxyType(self._parts.using(collect))

    def _fill(self, parts: Sequence[PinnedPart], arrays: Mapping[str, Array], places: Ints) -> None:
        for part in parts:
            with part.opened() as file:
                for group, pieces in enumerate(part.layout):
                    if all((places[piece.slices] < 0).all() for piece in pieces):
                        continue
                    lines = [lines_of(piece.steps, self.steps, part.limit) for piece in pieces]
                    for name, array in arrays.items():
                        column = column_of_group(file, self._schema.field(name), group)
                        for piece, own in zip(pieces, lines, strict=True):
                            put(piece, column, array, places, own)

    def _marked(self, parts: Sequence[PinnedPart], places: Ints) -> NDArray[np.bool_]:
        found = np.zeros((int(places.max(initial=-1)) + 1, len(self.steps)), bool)
        for part in parts:
            for piece in itertools.chain.from_iterable(part.layout):
                mark(piece, found, places, lines_of(piece.steps, self.steps, part.limit))
        return found
