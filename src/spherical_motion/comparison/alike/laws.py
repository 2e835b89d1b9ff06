"""What each law says of many groups at once; None for a group that its law must look at alone.

The laws of `comparison.laws` are the reference. A group in which a law finds something is handed
back to it, so that what is said of a fault is worked out in one place only.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.alike.motions import Alike
from spherical_motion.comparison.alike.ranks import medians, quantiles
from spherical_motion.comparison.alike.sums import Array, mean_ratios, means
from spherical_motion.comparison.laws.continuity import (
    EXACT,
    FEWEST_GAPS,
    Continuity,
)
from spherical_motion.comparison.laws.gradient import Silence, Stale
from spherical_motion.comparison.laws.radial_law import (
    FEWEST_FOR_KAPPA,
    NORM_MOVED,
    PARTS_FOR_POWER,
    RadialLaw,
)
from spherical_motion.comparison.laws.spike import may_spike
from spherical_motion.comparison.laws.step_law import DEVIATIONS_OF_ROUNDING, FAILS, StepLaw
from spherical_motion.comparison.laws.tested import FINEST, why_untested
from spherical_motion.theory.rounding import roundoff_of
from spherical_motion.vocabulary import Stage

Mask = NDArray[np.bool_]


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def continuities(found: Alike, stage: Stage) -> list[Continuity | None]:
    """`continuity_of` each group."""
    start, stop = found.place(stage.start - 1), found.place(stage.stop)
    steps, counted = found.steps[start:stop], found.counted[start:stop]
    missing = np.diff(steps) - 1
    if (missing > 0).sum() >= FEWEST_GAPS:
        return [None] * len(found)
    inside = steps >= stage.start
    known: Mask = inside & np.isfinite(found.written[0, start:stop])
    again = np.zeros(len(steps), bool)
    again[1:] = (np.diff(steps) == 1) & (np.diff(counted) > 1)
    if again.any() or not len(steps):
        return [None] * len(found)
    wrote = np.any(_wrote(found, start, stop) & known[1:], axis=1)
    own = Continuity(
        pairs=int(known.sum()),
        whole=bool(inside.sum() == stage.steps) and bool(known[1:].all()),
    )
    return [None if told else own for told in wrote.tolist()]


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def step_laws(found: Alike, stage: Stage) -> list[StepLaw | None]:
    """`step_law_of` each group."""
    alone: list[StepLaw | None] = [None] * len(found)
    if unknown := why_untested(found.first, ()):
        return [StepLaw(unknown=unknown)] * len(found)
    start, stop = found.place(stage.start - 1), found.place(stage.stop)
    steps = found.steps[start:stop]
    linked = np.diff(steps, prepend=steps[:1] - 2) == 1
    if found.hp.maximize or not linked[1:].all() or not (found.momentum[start:stop] > 0).all():
        return alone
    if not np.isfinite(found.written[:, start + 1 : stop]).all():
        return alone
    # Every step but the first is the neighbour of the one before, and nothing wrote in between.
    first = start + 1 if steps[:1] < stage.start else start
    rows = slice(max(first, start + 1), stop)
    left, largest = found.left[:, rows], found.largest[:, rows]
    wrote = _wrote(found, start, stop).any(axis=1)
    usable = np.isfinite(left).all(axis=1) & (largest.min(axis=1, initial=np.inf) > 0) & ~wrote
    if rows.stop <= rows.start:
        return alone
    gram = found.gram[:, rows]
    turn = gram.dd / gram.ww
    fine = FINEST * 2.0 * roundoff_of(found.first.dtype)
    usable &= np.sqrt(turn.min(axis=1)) >= fine  # then the median is, too
    residual = np.abs(left) / largest
    noise, most = found.noise[:, rows], found.most[:, rows]
    explained = np.minimum(DEVIATIONS_OF_ROUNDING * noise, most) / largest
    allowed = np.maximum(explained, FAILS)
    usable &= ~(residual > allowed).any(axis=1)
    middle, bound = medians(residual), medians(allowed)
    return [
        StepLaw(pairs=rows.stop - rows.start, median=m, allowed=b) if use else None
        for use, m, b in zip(usable.tolist(), middle.tolist(), bound.tolist(), strict=True)
    ]


def _wrote(found: Alike, start: int, stop: int) -> Mask:
    """Whether something wrote the weights before each of these samples but the first."""
    ww, dd = found.gram.ww[:, start:stop], found.gram.dd[:, start:stop]
    size = (np.sqrt(ww) + np.sqrt(dd))[:, :-1] ** 2 / ww[:, 1:]
    change = np.abs(2.0 * found.written[:, start + 1 : stop])
    return change > EXACT * np.maximum(size, 1.0)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def radial_laws(found: Alike, stage: Stage) -> list[RadialLaw]:
    """`radial_law_of` each group, without what other groups and the audit say."""
    start, stop = found.place(stage.start), found.place(stage.stop)
    if start == stop:
        return [RadialLaw()] * len(found)
    here = found.gram[:, start:stop]
    single = here.wg / here.ww
    low, middle, high = quantiles(single, (0.16, 0.5, 0.84))
    decay = means(found.weight_decay[start:stop] * here.ww, 0)
    toward = here.wg
    if found.hp.decoupled:
        toward = here.wg / np.sqrt(here.gg) * math.sqrt(found.first.group.numel)
    share = np.where(decay != 0.0, means(toward, 0) / decay, np.nan)
    defect = np.sqrt(means(here.wg**2, 0) / means(here.ww * here.gg, 0))
    shrunk = (found.norm[:, 0] / found.norm[:, start:stop].min(axis=1)) ** 2
    kappa = mean_ratios(here.wg, here.ww, 0, slow=True).each()
    spread = np.where(middle != 0.0, (high - low) / 2.0 / np.abs(middle), np.nan)
    power = _powers(here.wg, here.ww)
    positive = (single > 0).mean(axis=1)
    numbers = zip(
        share.tolist(), defect.tolist(), shrunk.tolist(), kappa, spread.tolist(), power,
        positive.tolist(), found.groups, strict=True,
    )  # fmt: skip
    return [
        RadialLaw(
            samples=stop - start,
            share=s,
            defect=d,
            expected_defect=group.defect * r,
            kappa=k,
            spread=w,
            power=p,
            positive=q,
        )
        for s, d, r, k, w, p, q, group in numbers
    ]


def _powers(radial: Array, square: Array) -> list[float]:
    """d ln|κ| / d ln|w| of each group, NaN where the parts of a stage do not show one."""
    groups, n = radial.shape
    if n < FEWEST_FOR_KAPPA:
        return [math.nan] * groups
    edges = np.cumsum([0, *(len(part) for part in np.array_split(np.arange(n), PARTS_FOR_POWER))])
    pairs = list(itertools.pairwise(edges))
    pulls = np.stack([radial[:, a:b].mean(axis=1) for a, b in pairs], axis=1)
    squares = np.stack([square[:, a:b].mean(axis=1) for a, b in pairs], axis=1)
    norms = 0.5 * np.log(squares)
    moved = np.ptp(norms, axis=1)
    shown = (moved >= NORM_MOVED) & (moved < math.inf)
    shown &= (pulls > 0).all(axis=1) | (pulls < 0).all(axis=1)
    found = [math.nan] * groups
    for i in np.flatnonzero(shown).tolist():
        found[i] = float(np.polyfit(norms[i], np.log(np.abs(pulls[i]) / squares[i]), 1)[0])
    return found


def silences(found: Alike, stage: Stage) -> list[Silence]:
    """`silence` of each group: every step of it moved and had a gradient."""
    count = found.place(stage.stop) - found.place(stage.start)
    own = Silence(samples=count, dead=0.0, absent=0.0, frozen=0.0) if count else Silence()
    return [own] * len(found)


def stales(found: Alike, stage: Stage) -> list[Stale | None]:
    """`stale` of each group."""
    start, stop = found.place(stage.start - 1), found.place(stage.stop)
    if found.first.group.numel < 2 or stop - start < 2:
        return [Stale()] * len(found)
    sizes = found.gram.gg[:, start:stop]
    again = (sizes[:, 1:] == sizes[:, :-1]).any(axis=1)
    own = Stale(pairs=int((np.diff(found.steps[start:stop]) == 1).sum()))
    return [None if same else own for same in again.tolist()]


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def spiking(found: Alike, stage: Stage) -> list[bool]:
    """Which groups may have a spike in their gradient, so that `spike_of` must look."""
    rows = slice(found.place(stage.start), found.place(stage.stop))
    square = found.gram.gg[:, rows]
    if found.first.group.kind == "scale":
        square = square * found.gram.ww[:, rows]
    return np.any(may_spike(0.5 * np.log(square)), axis=1).tolist()
