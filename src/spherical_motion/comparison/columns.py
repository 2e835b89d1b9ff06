"""The columns of numbers that a table of rows shows, in a terminal as on paper."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from spherical_motion.comparison.findings import Row


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column: how to take its number from a row, and how to write it.

    Attributes:
        value: the number; NaN where a row has none.
        spec: its format.
        always: whether the column stays where no row has a number for it.
    """

    value: Callable[[Row], float]
    spec: str
    always: bool = False

    def text(self, row: Row) -> str:
        """The number as text, or a dash."""
        value = self.value(row)
        return format(value, self.spec) if math.isfinite(value) else "–"


COLUMNS = {
    "measured": Column(lambda row: row.measured, ".3g", always=True),
    "predicted": Column(lambda row: row.predicted, ".3g", always=True),
    "ratio": Column(lambda row: row.ratio, ".2f", always=True),
    "of equil.": Column(lambda row: row.measured / row.equilibrium, ".2f"),
    "balance": Column(lambda row: row.balance, ".3f"),
    "pull": Column(lambda row: row.pull, ".2g"),
    "decay share": Column(lambda row: row.decay_share, ".2f"),
    "growth": Column(lambda row: row.growth, "+.1e"),
}
"""By heading."""


def known_columns(rows: Sequence[Row]) -> dict[str, Column]:
    """The columns in which at least one of the rows has a number."""
    return {
        name: column
        for name, column in COLUMNS.items()
        if column.always or any(math.isfinite(column.value(row)) for row in rows)
    }
