"""Numbers and names as people read them: one place, so one convention."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from spherical_motion.comparison import Row
from spherical_motion.vocabulary import Stage

UNKNOWN = "–"

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def significant(value: float, digits: int = 3) -> str:
    """`digits` significant digits, trailing zeros kept; powers of ten outside 1e-4..1e5.

    >>> significant(0.0435612), significant(1.5), significant(1.234e-7), significant(float("nan"))
    ('0.0436', '1.50', '1.23×10⁻⁷', '–')
    """
    if math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < 5:
        return f"{value:.{max(digits - 1 - power, 0)}f}"
    return f"{mantissa}×10{str(power).translate(_SUPERSCRIPT)}"


def ratio_text(value: float) -> str:
    """Two decimals from 0.1 to 100, three significant digits outside.

    >>> ratio_text(0.9712), ratio_text(12.5), ratio_text(0.00123)
    ('0.97', '12.50', '0.00123')
    """
    return f"{value:.2f}" if 0.1 <= abs(value) < 100 else significant(value)


def interval_text(interval: tuple[float, float]) -> str:
    """The two ends of a ratio's interval; nothing when neither is known.

    >>> interval_text((0.951, 1.02))
    '0.95 … 1.02'
    """
    return "" if all(map(math.isnan, interval)) else " … ".join(map(ratio_text, interval))


def percent_text(value: float) -> str:
    """A share as a whole percentage, one decimal below 10%.

    >>> percent_text(0.973), percent_text(0.0312), percent_text(float("nan"))
    ('97%', '3.1%', '–')
    """
    if not math.isfinite(value):
        return UNKNOWN
    return f"{100 * value:.0f}%" if abs(value) >= 0.0995 else f"{100 * value:.1f}%"


def shortened(name: str, longest: int = 40) -> str:
    """The name with its middle left out if it is longer than `longest` characters.

    More of the end is kept, where the names of neighbouring layers differ.

    >>> shortened("model.encoder.layer.11.attention.self.query.weight", 24)
    'model.enc…f.query.weight'
    """
    head = (longest - 1) * 2 // 5
    tail = longest - 1 - head
    return name if len(name) <= longest else f"{name[:head]}…{name[-tail:]}"


def stage_settings(stage: Stage) -> str:
    """The optimizer's settings during a stage.

    >>> from spherical_motion.vocabulary import HyperParameters
    >>> stage_settings(Stage(0, 100, HyperParameters("sgd", lr=0.1, weight_decay=0.01)))
    'lr 0.1 · wd 0.01'
    """
    hp = stage.hp
    return f"lr {hp.lr:g} · wd {hp.weight_decay:g}" if hp else "settings vary"


def stage_title(number: int, stage: Stage) -> str:
    """A stage's number and settings, as written above the charts.

    >>> stage_title(2, Stage(100, 200, None))
    'stage 2 · settings vary'
    """
    return f"stage {number} · {stage_settings(stage)}"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "step"), counted(4120, "step")
    ('1 step', '4,120 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def evidence_text(value: float) -> str:
    """A count as it is, anything else with three significant digits.

    >>> evidence_text(1200), evidence_text(0.98765)
    ('1,200', '0.988')
    """
    return f"{int(value):,}" if float(value).is_integer() else significant(value)


def share_of(part: float, whole: float) -> float:
    """part / whole; NaN if the whole is 0."""
    return part / whole if whole else math.nan


def on_ratio_scale(ratio: float) -> float:
    """Place of a ratio between 0.8 (at 0) and 1.25 (at 100) on a logarithmic scale.

    >>> on_ratio_scale(0.5), on_ratio_scale(1.0), on_ratio_scale(1.05)
    (0.0, 50.0, 60.9)
    """
    return round(50 + 50 * min(max(math.log(ratio, 1.25), -1.0), 1.0), 1) if ratio > 0 else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of the table: heading, unit, meaning, its number in a row, and how to write it."""

    name: str
    unit: str
    title: str
    value: Callable[[Row], float]
    written: Callable[[float], str]

    def text(self, row: Row) -> str:
        """The number as text."""
        return self.written(self.value(row))


BALANCE_COLUMNS = (
    NumberColumn(
        "Balance",
        "",
        "Measured over predicted angle by the balance law, which holds at rest or not",
        lambda row: row.balance,
        lambda value: ratio_text(value) if math.isfinite(value) else UNKNOWN,
    ),
    NumberColumn(
        "Pull",
        "as decay",
        "How strongly weight decay and loss draw the weights inward, in units of weight decay",
        lambda row: row.pull,
        lambda value: significant(value, 2),
    ),
    NumberColumn(
        "Decay",
        "of pull",
        "Weight decay over pull; above 1 the loss works against the decay",
        lambda row: row.decay_share,
        lambda value: ratio_text(value) if math.isfinite(value) else UNKNOWN,
    ),
    NumberColumn(
        "Growth",
        "% / 1,000",
        "Change of the norm in percent per 1,000 steps",
        lambda row: 50_000.0 * row.growth,
        lambda value: f"{'+' if value > 0 else ''}{significant(value, 2)}",
    ),
)


def balance_columns(rows: Sequence[Row]) -> list[NumberColumn]:
    """The columns of the balance law in which at least one row has a number."""
    return [c for c in BALANCE_COLUMNS if any(math.isfinite(c.value(row)) for row in rows)]
