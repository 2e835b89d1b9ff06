"""The evidence of many groups in one stage at once, as `comparison.gathering` has it of one.

Which steps are judged differs between groups, since each comes to rest at a step of its own. All of
these windows end with the stage, so that they are the last samples of each row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spherical_motion import theory
from spherical_motion.comparison.alike.motions import Alike
from spherical_motion.comparison.alike.ranks import medians
from spherical_motion.comparison.alike.sums import (
    Array,
    First,
    Ints,
    common,
    least,
    mean_ratios,
    means,
)
from spherical_motion.comparison.evidence import (
    Approaching,
    Evidence,
    Laws,
    Measured,
    Rest,
    Settled,
)
from spherical_motion.comparison.forces import TugOfWar
from spherical_motion.comparison.gathering import (
    FEWEST_MEMORIES,
    FEWEST_SAMPLES,
    MOMENTUM_MEMORIES,
    steps_to_rest,
    window_to_judge,
)
from spherical_motion.comparison.resting import pulled_to
from spherical_motion.errors import InvalidArgument
from spherical_motion.estimates import Estimate
from spherical_motion.forecasting.state import WITHIN
from spherical_motion.theory.driven import norms_under, step_ratios_under
from spherical_motion.theory.late_pull import start_up
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary import HyperParameters, Stage

NOTHING = Estimate()

Variant = tuple[type[Measured], dict[str, Any]]
"""A variant of evidence, and the theory's numbers for it."""


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def gathered(
    found: Alike, stage: Stage, laws: Sequence[Laws], tugs: Sequence[TugOfWar], band: float
) -> list[Evidence | None]:
    """`gather` of each group; None for those that must be looked at alone.

    Args:
        found: the groups' whole run.
        stage: the steps to judge.
        laws: what each law says of each group.
        tugs: the tug-of-war of each.
        band: the ratio of the angle must lie within 1 ± this.
    """
    here = found.within(stage.start, stage.stop)
    if len(here.steps) < 2:
        return [None] * len(found)
    judged = _judged(here, stage)
    if judged is None:
        return [None] * len(found)
    first, variants = judged
    numbers = _numbers(here, first, found.norm[:, 0])
    shared: dict[str, Any] = {
        "stage": stage,
        "samples": len(here.steps),
        "non_finite": 0,
        "moved": True,
        "lr_is_zero": not here.lr.any(),
        "no_decay": not here.weight_decay.any(),
        "driven": int(np.isfinite(here.drive[0]).sum()),
        "no_theory": found.first.no_theory,
        "band": band,
        "prediction_error": 0.0,
        "correlation": math.nan,
        "bursts": 0,
    }
    pulled = _where_they_are(here, first)
    together: list[Evidence | None] = []
    for i, ((kind, own), group) in enumerate(zip(variants, found.groups, strict=True)):
        if (rest := own.get("rest")) is not None and stage.hp is not None:
            own["rest"] = pulled_to(rest, stage.hp, tugs[i], *pulled[i], None)
        row = {name: column[i] for name, column in numbers.items()}
        row["expected_defect"] = group.defect * row.pop("shrunk") ** 2
        together.append(kind(group=group, laws=laws[i], tug=tugs[i], **(shared | row | own)))
    return together


def _judged(here: Alike, stage: Stage) -> tuple[First, list[Variant]] | None:
    """(first judged sample, variant and numbers of each group); None where facts part them."""
    count = len(here.steps)
    tail = count - max(count // 4, min(FEWEST_SAMPLES, count))
    plain: list[Variant] = [(Measured, {}) for _ in here.groups]
    if here.first.group.kind == "plain":
        begins = here.place(stage.start + start_up(here.momentum))
        return (begins if count - begins > 1 else tail), plain
    driven = np.isfinite(here.drive[0])
    lawful = here.first.no_theory is None and bool(driven.any())
    if not lawful or not here.weight_decay.any():
        return tail, plain
    family = theory.family_of(here.hp)
    if family.drive in family.needs or np.isfinite(here.cross[0]).any() or not driven.all():
        return None  # the formulas need a fact that each group has of its own
    facts = theory.GroupFacts(numel=here.first.group.numel)
    if stage.hp is None:
        return _varying(here, facts)
    try:
        angle = theory.family_of(stage.hp).angle(stage.hp, facts)
    except InvalidArgument:
        return None
    return _constant(here, tail, stage, stage.hp, angle, facts)


def _varying(here: Alike, facts: theory.GroupFacts) -> tuple[First, list[Variant]] | None:
    """A stage without one equilibrium: the driven recursion against all its samples."""
    squares = _driven_step_ratios(here, _driven_norms(here, facts), facts)
    if not np.isfinite(squares).all():
        return None
    square = means(squares, 0)
    transient = np.where(square >= 0.0, np.sqrt(square), np.nan)
    ratios = _ratios(here, 0, transient, squares, np.ones(len(here), bool))
    found: list[Variant] = []
    for predicted, own in zip(transient.tolist(), ratios, strict=True):
        found.append((Approaching, {"transient": predicted, "rest": None, **own}))
    return 0, found


def _constant(
    here: Alike, tail: int, stage: Stage, hp: HyperParameters, angle: float,
    facts: theory.GroupFacts,
) -> tuple[First, list[Variant]] | None:  # fmt: skip
    """A stage with an equilibrium: the time to it, and the numbers of the judged samples."""
    family = theory.family_of(hp)
    count = len(here.steps)
    half, quarter = count // 2, max(count // 4, 1)
    drives = zip(here.norm[:, 0].tolist(), here.drive[:, half:].mean(axis=1).tolist(), strict=True)
    shortest = MOMENTUM_MEMORIES / (1.0 - hp.momentum)
    needed = np.array([max(steps_to_rest(hp, *pair, facts), shortest) for pair in drives])
    late = np.searchsorted(here.steps, stage.start + needed)
    lasts = stage.stop - stage.start - needed >= FEWEST_MEMORIES / (1.0 - hp.momentum)
    enough = (count - late >= FEWEST_SAMPLES) & lasts
    first = common(np.where(enough, late, tail))

    driven = _driven_norms(here, facts)
    transient = _transients(here, first, driven, angle, hp, facts)
    settled = enough & (np.abs(transient / angle - 1.0) < WITHIN)
    latest = here.drive[:, -quarter:].mean(axis=1)
    outward, inward = family.balance(hp, here.gram, facts)
    laws = mean_ratios(outward, inward, first, slow=False).rooted().each()
    course = np.zeros(here.gram.shape)
    if not settled.all():
        course = _driven_step_ratios(here, driven, facts)
        if not np.isfinite(course).all():
            return None
    ratios = _ratios(here, first, np.where(settled, angle, transient), course, ~settled)
    changes = _drive_changes(here, quarter)
    window = window_to_judge(stage, hp, count)
    found: list[Variant] = []
    for i, rests in enumerate(settled.tolist()):
        more = 0.0
        if not rests:
            more = steps_to_rest(hp, float(here.norm[i, -1]), float(latest[i]), facts)
        rest = Rest(
            equilibrium=angle,
            steps_needed=float(needed[i]),
            steps_more=more,
            drive_change=changes[i],
            step_law=laws[i],
            steps_to_judge=float(needed[i]) + window - stage.steps,
        )
        own = {"transient": float(transient[i]), "rest": rest, **ratios[i]}
        found.append((Settled if rests else Approaching, own))
    return first, found


def _transients(
    here: Alike, first: First, driven: Array, angle: float, hp: HyperParameters,
    facts: theory.GroupFacts,
) -> Array:  # fmt: skip
    """RMS of the predicted angle over the judged samples; NaN where it is not known."""
    family = theory.family_of(hp)
    found = np.full(len(here), np.nan)
    starts = np.broadcast_to(np.asarray(first), len(here)).tolist()
    for i, start in enumerate(starts):
        lasted = float(here.steps[-1] - here.steps[start])
        if lasted > 0 and driven[i, -1] > 0:
            square = family.window_ratio_sq(hp, driven[i, start:], lasted, facts)
            found[i] = angle * math.sqrt(square)
    return found


def _driven_norms(here: Alike, facts: theory.GroupFacts) -> Array:
    """`Motion.driven_norm` of each group."""
    s = Steps(here.lr[:-1], here.weight_decay[:-1], here.momentum[:-1])
    spans = np.diff(here.steps)
    norms = norms_under(here.hp, here.norm[:, 0], s, here.drive.T[:-1], spans, facts)
    return np.ascontiguousarray(norms.T)


def _driven_step_ratios(here: Alike, norms: Array, facts: theory.GroupFacts) -> Array:
    """`Motion.driven_step_ratio_sq` of each group."""
    s = Steps(here.lr, here.weight_decay, here.momentum)
    return np.broadcast_to(step_ratios_under(here.hp, norms, s, here.drive, facts), here.gram.shape)


def _drive_changes(here: Alike, quarter: int) -> list[float]:
    """The drive of the last quarter over that of the first, positive numbers or NaN."""
    found = np.full(len(here), np.nan)
    for drive in (here.gram.ww * here.gram.gg, here.drive):  # the drive's own goes first
        early, late = drive[:, :quarter].mean(axis=1), drive[:, -quarter:].mean(axis=1)
        found = np.where((early > 0) & (late > 0), late / early, found)
    return found.tolist()


def _ratios(
    here: Alike, first: First, predicted: Array, course: Array, paired: np.ndarray
) -> list[dict[str, Any]]:
    """Measured over predicted angle; those of `paired` with the interval of the pairs."""
    squares = here.angle * here.angle
    middle = (means(here.angle, first) / predicted).tolist()
    plain = mean_ratios(squares, (predicted * predicted)[:, None], first, slow=False)
    ratios = plain.rooted().each()
    pairs = mean_ratios(squares, course, first, slow=False).rooted().each() if paired.any() else ()
    found = []
    for i, known in enumerate(((predicted > 0.0) & (predicted <= math.pi)).tolist()):
        if not known:
            found.append({"ratio": NOTHING, "mean_ratio": math.nan})
            continue
        ratio = ratios[i]
        if paired[i] and pairs[i].value > 0:  # the same relative interval
            scale = ratio.value / pairs[i].value
            ratio = Estimate(ratio.value, pairs[i].low * scale, pairs[i].high * scale)
        found.append({"ratio": ratio, "mean_ratio": middle[i]})
    return found


def _numbers(here: Alike, first: First, start_norm: Array) -> dict[str, list[Any]]:
    """Numbers of `Measured` that need no theory, by name."""
    gram, count = here.gram, len(here.steps)
    starts = np.broadcast_to(np.asarray(first), len(here))
    judged_norm = here.norm[np.arange(len(here)), starts]
    pull = means(here.weight_decay * gram.ww, first)
    toward = gram.wg
    if here.hp.decoupled:
        toward = gram.wg / np.sqrt(gram.gg) * math.sqrt(here.first.group.numel)
    shares = np.where(pull != 0.0, means(toward, first) / pull, np.nan)
    defect = np.sqrt(means(gram.wg**2, first) / means(gram.ww * gram.gg, first))
    columns = {
        "norm_change": here.norm[:, -1] / here.norm[:, 0],
        "residual": _residuals(here),
        "drift": here.norm[:, -1] / judged_norm - 1.0,
        "measured": np.sqrt(means(here.angle * here.angle, first)),
        "lasted": (here.steps[-1] - here.steps[starts]).astype(np.float64) + 1.0,
        "memory": 1.0 / (1.0 - np.maximum.accumulate(here.momentum[::-1])[::-1][starts]),
        "radial_share": shares,
        "defect": defect,
        "shrunk": start_norm / least(here.norm, first),
    }
    numbers: dict[str, list[Any]] = {name: column.tolist() for name, column in columns.items()}
    return numbers | {"judged": (count - starts).tolist()}


def _residuals(here: Alike) -> Array:
    """Median residual of the law of motion."""
    known = np.isfinite(here.residual[0])
    if not known.any():
        return np.full(len(here), np.nan)
    return medians(here.residual if known.all() else here.residual[:, known])


def _where_they_are(here: Alike, first: First) -> list[tuple[float, float]]:
    """(|d|²/|w|² over the last quarter of the judged samples, the norm at the end)."""
    count = len(here.steps)
    judged: Ints = count - np.broadcast_to(np.asarray(first), len(here))
    recent = common(count - np.maximum(judged // 4, 1))
    squares = means(here.gram.dd, recent) / means(here.gram.ww, recent)
    return list(zip(squares.tolist(), here.norm[:, -1].tolist(), strict=True))
