"""What a run records beside its rows, as series over steps; the later record of a step counts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spherical_motion.records.dense import latest
from spherical_motion.vocabulary.gram import FIELDS, Gram, unknown

Array = NDArray[np.float64]


class Series(NamedTuple):
    """A logged scalar: increasing steps, and the value at each."""

    steps: NDArray[np.int64]
    values: Array


class CellSeries(NamedTuple):
    """The cells of a group: increasing steps, and Grams of shape (steps, cells)."""

    steps: NDArray[np.int64]
    gram: Gram


class CorrelationSeries(NamedTuple):
    """How the updates of a group resemble each other, at increasing steps.

    `rho`, shape (steps, lags), is the autocorrelation at lags 0, 1, ..., NaN beyond the last lag
    measured; `update_sq`, shape (steps,), is the mean |u|² of the updates u.
    """

    steps: NDArray[np.int64]
    rho: Array
    update_sq: Array


def scalar_series(table: pa.Table) -> Mapping[str, Series]:
    """The scalars by name, from a table of `SCALAR_SCHEMA`."""
    names = table["name"].dictionary_encode().unify_dictionaries().combine_chunks()
    step, value = table["step"].to_numpy(), table["value"].to_numpy()
    which = names.indices.to_numpy()
    series: dict[str, Series] = {}
    for i, name in sorted(enumerate(names.dictionary.to_pylist()), key=lambda pair: pair[1]):
        rows = np.flatnonzero(which == i)
        chosen = rows[latest(step[rows])]
        series[name] = Series(step[chosen], value[chosen])
    return MappingProxyType(series)


def cells_of_group(table: pa.Table, group: int) -> CellSeries:
    """The cells of a group, by its number, from a table of `CELL_SCHEMA`."""
    table = _of_group(table, group)
    step = table["step"].to_numpy()
    shape = (len(step), -1) if len(step) else (0, 0)
    chosen = latest(step)
    lists = (table[name].combine_chunks().flatten().to_numpy().reshape(shape) for name in FIELDS)
    products = [column[chosen] for column in lists]
    unmeasured = unknown(products[0].shape)
    return CellSeries(step[chosen], Gram(*products, wp=unmeasured, ws=unmeasured))


def correlations_of_group(table: pa.Table, group: int) -> CorrelationSeries:
    """The autocorrelations of a group's updates, from a table of `CORRELATION_SCHEMA`."""
    table = _of_group(table, group)
    step = table["step"].to_numpy()
    chosen = latest(step)
    lists = [np.array(rho, np.float64) for rho in table["rho"].to_pylist()]
    rho = np.full((len(chosen), max(map(len, lists), default=0)), np.nan)
    for row, i in enumerate(chosen):
        rho[row, : len(lists[i])] = lists[i]
    return CorrelationSeries(step[chosen], rho, table["update_sq"].to_numpy()[chosen])


def _of_group(table: pa.Table, group: int) -> pa.Table:
    if not table.num_rows:
        return table
    return table.filter(pa.array(table["group"].to_numpy() == group))
