"""The tug-of-war of a group in words for users: what pulls its norm in, and what pushes it out."""

from __future__ import annotations

import math
from collections.abc import Iterable

from spherical_motion.comparison.forces import Forces, TugOfWar

SPANS = (1_000, 100, 10, 1)
"""Rates are given per so many steps: the most in which none of them is more than all of the norm,
since nothing shrinks by more than 100%."""

SLIGHT = 0.02
"""A rate below this share of what decay and loss leave, or of the growth, is not worth a sentence.
The two may be far larger and nearly cancel: what is left of them is what the other parts meet."""

NONE = 5e-3
"""A pull of the loss up to this share of weight decay's, which rounds to 0%, is called none."""

STILL = 5e-3
"""A norm that changes by less than this over the whole window stays where it is."""

NEARLY_ALL = 0.995
"""From this share on, decay is called cancelled, without a number."""

SMALLEST = 1e-4
"""Percentages below this one are not written out."""


def words_of(tug: TugOfWar) -> str:
    """A few short sentences about what moves a group's norm now, or why that is unknown."""
    stage = " of this stage" if tug.over else ""
    forces, when = tug.forces, f"In the last {tug.window:,} steps{stage}"
    before = ""
    if tug.stopped:
        before = (
            f"Its gradient stopped {tug.stopped:,} steps before the end{stage}, and the optimizer "
            f"{'did not move it then' if tug.over else 'has not moved it since'}"
        )
        before += "; something else wrote these weights. " if tug.written_after else ". "
        when = f"In the {tug.window:,} steps before that,"
    if not forces.known:
        return before.rstrip() or f"What pulls this norm is unknown: {tug.unknown.rstrip('.')}."
    return before + _account(tug, when)


def _account(tug: TugOfWar, when: str) -> str:
    """What moved the norm in its window, which `when` names."""
    forces = tug.forces
    if tug.idle > 0:
        when = f"{when.rstrip(',')} (no gradient in {tug.idle:.0%} of them)"
    if math.isnan(forces.inward):
        moved = f"{when} this norm {_course(tug, tug.window)}."
        if tug.unexplained:
            return f"{moved} Pull and turning do not explain it: {tug.unexplained}."
        why = tug.unknown or f"the law leaves out {tug.neglects}"
        return f"{moved} What pulls it is unknown: {why.rstrip('.')}."
    if max(abs(rate) for rate in forces.known) == 0.0:
        return f"{when} nothing moved this norm."
    return " ".join([f"{when} {_inward(tug)}", *_outcome(tug)])


def _inward(tug: TugOfWar) -> str:
    """Who pulls inward and who pushes outward."""
    forces, per = tug.forces, _per(tug.span)
    inward, decay, loss = (
        _percent(abs(x), tug.span) for x in (forces.inward, forces.decay, forces.loss)
    )
    if tug.inseparable:
        verb = (
            "pulled this layer inward by" if forces.inward > 0 else "pushed this layer outward by"
        )
        return (
            f"weight decay and the loss together {verb} {inward} {per}; their shares cannot be "
            f"told apart, because {tug.inseparable}."
        )
    if forces.decay == 0.0:
        verb = "pulled this layer inward" if forces.loss > 0 else "pushed this layer outward"
        return f"the loss alone {verb} by {loss} {per}; there is no weight decay."
    own = f"weight decay pulled this layer inward by {decay} {per}"
    share = forces.loss / forces.decay
    if abs(share) <= NONE:
        return f"{own}, and the loss did not change that."
    if share > 0:
        return f"{own} and the loss by another {loss}."
    own = f"{own} and the loss pushed it outward by {loss}"
    if tug.pull.high < 0:
        return f"{own}. The loss outweighs your decay: decay only slows the growth."
    if -share > 2.0 - NEARLY_ALL:
        return f"{own}, more than your decay pulls."
    part = f"{-share:.0%}" if -share < NEARLY_ALL else "about all"
    return f"{own}: {part} of your decay is cancelled."


def _outcome(tug: TugOfWar) -> Iterable[str]:
    """What becomes of the norm."""
    forces, moved = tug.forces, f"the norm {_course(tug, tug.window)}"
    slight = SLIGHT * max(abs(forces.inward), abs(forces.growth))
    turning = _percent(abs(forces.turning), tug.span)
    if forces.turning > slight:
        yield f"Turning pushed it outward by {turning}, and {moved}."
    elif forces.turning < -slight:
        yield f"The rest moved it inward by {turning}, and {moved}."
    else:
        yield f"{moved[0].upper()}{moved[1:]}."
    if abs(forces.change) > slight:
        way = "inward" if forces.change > 0 else "outward"
        share = _percent(abs(forces.change), tug.span)
        yield f"The change of the optimizer's preconditioner moved it {way} by {share}."
    elif abs(forces.unexplained) > slight:
        left, why = _percent(abs(forces.unexplained), tug.span), tug.neglects or "a small part"
        yield f"The parts leave {left} unexplained: the law leaves out {why}."
    if tug.stopped or abs(forces.growth) * tug.window < STILL:
        return
    if not (tug.pull.low > 0 or tug.pull.high < 0):
        settle = "would have settled" if tug.over else "will settle"
        yield f"The pull is too close to 0 to say whether this norm {settle}."
    elif tug.pull.high < 0:
        yield f"Nothing {'held' if tug.over else 'holds'} this norm."


def _course(tug: TugOfWar, window: int) -> str:
    """What the norm did; its rate is the row's growth, halved since that is of |w|²."""
    growth = tug.forces.growth
    rate = f"{_percent(abs(growth), tug.span)} {_per(tug.span)}"
    verb = "grew" if growth > 0 else "shrank"
    if abs(growth) * window < STILL:
        return f"hardly moved (it {verb} by {rate})"
    return f"{verb} by {rate}"


def common_span(all_forces: Iterable[Forces]) -> int:
    """The number of steps for which all rows of a comparison give their rates.

    >>> [common_span([Forces(), Forces(turning=rate)]) for rate in (2e-4, 2e-3, 2e-2)]
    [1000, 100, 10]
    """
    largest = max((abs(rate) for forces in all_forces for rate in forces.known), default=0.0)
    return next((span for span in SPANS if largest * span <= 1.0), SPANS[-1])


def _per(span: int) -> str:
    return f"per {span:,} steps" if span > 1 else "per step"


def _percent(rate: float, span: int) -> str:
    """A rate as a percentage over `span` steps, with two digits.

    >>> _percent(4.7e-6, 1000), _percent(1.234e-4, 1000), _percent(1e-12, 1000)
    ('0.47%', '12%', 'less than 0.0001%')
    """
    share = 100.0 * rate * span
    if 0.0 < share < SMALLEST:
        return f"less than {SMALLEST:.4f}%"
    return f"{share:.2g}%" if share < 99.5 else f"{share:.0f}%"
