"""The tug-of-war of a group in words for users: what pulls its norm in, and what pushes it out."""

from __future__ import annotations

import math

from spherical_motion.comparison.evidence import Forces, TugOfWar

SPANS = (1_000_000, 1_000, 100, 10, 1)
"""Rates are given per so many steps: per 1,000, if that is neither tiny nor more than half."""

LARGEST, SMALLEST = 0.5, 1e-4
"""The largest rate of a group lies between these shares of the norm, if the span is 1,000."""

SLIGHT = 0.02
"""A rate below this share of the largest is called no change."""

NONE = 1e-3
"""A pull of the loss below this share of weight decay's is called none."""


def words_of(tug: TugOfWar) -> str:
    """One or two sentences about what moves a group's norm, or why that is unknown."""
    forces = tug.forces
    if math.isnan(forces.inward):
        why = tug.unknown or f"the law leaves out {tug.neglects}"
        return f"What pulls this norm is unknown: {why}."
    largest = max(abs(rate) for rate in forces.known)
    if largest == 0.0:
        return "Nothing moves this norm."
    span = readable_span(largest)
    return f"{_inward(tug, span)} {_outcome(forces, span)}".strip()


def _inward(tug: TugOfWar, span: int) -> str:
    forces, per = tug.forces, f"per {span:,} steps" if span > 1 else "per step"
    inward, decay, loss = (
        _percent(abs(x), span) for x in (forces.inward, forces.decay, forces.loss)
    )
    if tug.inseparable:
        verb = "pull this layer inward by" if forces.inward > 0 else "push this layer outward by"
        return (
            f"Weight decay and the loss together {verb} {inward} {per}; their shares cannot be "
            f"told apart, because {tug.inseparable}."
        )
    pulls = "pulls this layer inward by" if forces.loss > 0 else "pushes this layer outward by"
    if forces.decay == 0.0 and abs(forces.loss) < SLIGHT * abs(forces.turning):
        return "There is no weight decay, and the loss hardly pulls on this norm."
    if forces.decay == 0.0:
        return f"Without weight decay, the loss alone {pulls} {loss} {per}."
    own = f"Weight decay pulls this layer inward by {decay} {per}"
    share = forces.loss / forces.decay
    if abs(share) < NONE:
        return f"{own}, and the loss does not change that."
    if abs(share) < SLIGHT:
        return f"{own}, and the loss hardly changes that ({share:+.1%})."
    if share > 0:
        return f"{own}, and the loss adds {share:.0%} to that."
    part = "all"
    if share > -1:
        part = f"{-share:.0%}"
    return f"{own} and the loss pushes it outward by {loss}: {part} of your decay is cancelled."


def _outcome(forces: Forces, span: int) -> str:
    """What becomes of the norm."""
    per = f"per {span:,} steps" if span > 1 else "per step"
    change = f"{_percent(abs(forces.growth), span)} {per}"
    if math.isnan(forces.growth):
        return ""
    if forces.inward <= 0:
        if forces.growth > 0:
            return f"Nothing holds this norm; it grows by {change}."
        return f"Nothing holds this norm, yet it shrank by {change}."
    turning = f"Turning pushes it outward by {_percent(forces.turning, span)}"
    if abs(forces.growth) < SLIGHT * max(forces.turning, forces.inward):
        return f"{turning}, so the norm stays where it is."
    course = "grows" if forces.growth > 0 else "shrinks"
    return f"{turning}, so the norm {course} by {change}."


def readable_span(largest: float) -> int:
    """The number of steps for which rates a step, the largest of them given, read best.

    >>> readable_span(1e-5), readable_span(2e-3), readable_span(1e-9)
    (1000, 100, 1000000)
    """
    if largest * 1_000 < SMALLEST:
        return SPANS[0]
    return next((span for span in SPANS[1:] if largest * span <= LARGEST), 1)


def _percent(rate: float, span: int) -> str:
    """A rate as a percentage over `span` steps, with two digits.

    >>> _percent(4.7e-6, 1000), _percent(1.234e-4, 1000)
    ('0.47%', '12%')
    """
    share = 100.0 * rate * span
    return f"{share:.2g}%" if share < 99.5 else f"{share:.0f}%"
