"""The radial law: a certified group has <w, g> = 0; if not, what the recorded steps say of why.

A norm layer's epsilon gives <w, g> of either sign, most often below 0, which fades as |w| grows and
follows the loss. Weight decay inside the loss adds κ·w to the gradient: <w, g>/<w, w> = κ > 0, the
same at every step, at every |w| and in every group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.motion import Motion
from spherical_motion.estimates import NO_ESTIMATE, Estimate, slow_mean_ratio
from spherical_motion.vocabulary import InvariantGroup, Stage

KAPPA_STEADY = 0.2
"""The 95% interval of a hidden decay reaches no farther than this share of it."""

KAPPAS_ALIKE = 0.1
"""Groups agree if their κ differ by less than this share, beside their intervals."""

BEYOND_CERTIFIED = 2.0
"""The defect of a hidden decay is larger than this many times the certified one."""

LEAST_POWER = -1.0
"""Between the power of hidden decay, 0, and that of epsilon, -4: κ's power in |w|."""

PARTS_FOR_POWER = 10
"""So many parts of a stage show how κ depends on |w|."""

FEWEST_FOR_KAPPA = 20
"""Fewer steps have no power and no hidden decay."""

NORM_MOVED = 0.05
"""The norm must move by this share to show a power."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RadialLaw:
    """The radial part of one certified group's gradient in one stage.

    Attributes:
        samples: steps with a gradient.
        share: mean <w, g> over mean λ|w|², the loss's radial part beside weight decay's, as
            `Measured.radial_share`; NaN without decay.
        defect: √(mean <w, g>² / mean |w|²|g|²).
        expected_defect: the certified defect at the smallest norm, which grows as 1/|w|².
        kappa: κ = mean <w, g> / mean |w|² with its 95% interval, in units of weight decay.
        spread: how much κ differs from step to step, over |κ|: half of the distance of its 16% and
            84% quantiles.
        power: d ln|κ| / d ln|w| within the stage: 0 for hidden decay, -4 for epsilon if the loss
            stays as it is; NaN where the norm moved too little to tell, or κ changes its sign.
        positive: share of the steps at which κ > 0.
        agreeing: other certified groups whose κ is the same within its error.
        others: other certified groups whose κ is known.
        hidden: whether κ is what decay hidden in the gradient gives: positive, steady over the
            steps, beyond the certified defect, and the same in most other groups.
        peak: share of the non-zero gradient entries that have exactly the largest size, from the
            audit; NaN if it has none.
        epsilon: mean of ε/(var + ε) over the norm layers, from the audit.
        eval_mode: share of the audited steps at which a norm layer was in eval mode.
    """

    samples: int = 0
    share: float = math.nan
    defect: float = math.nan
    expected_defect: float = math.nan
    kappa: Estimate = NO_ESTIMATE
    spread: float = math.nan
    power: float = math.nan
    positive: float = math.nan
    agreeing: int = 0
    others: int = 0
    hidden: bool = False
    peak: float = math.nan
    epsilon: float = math.nan
    eval_mode: float = math.nan


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RadialPulls:
    """κ of every certified group of a run: their places, values, and how far intervals reach."""

    places: Mapping[str, int] = dataclasses.field(default_factory=dict)
    values: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.empty(0))
    reaches: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.empty(0))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HiddenBeside:
    """Decay hidden in the gradients of certified groups, which a plain group cannot show.

    Attributes:
        hidden: certified groups of the same optimizer whose gradient holds a decay.
        certified: all of them.
        kappa: the median of that decay.
    """

    hidden: int
    certified: int
    kappa: float


NO_PULLS = RadialPulls()
"""No other group is known."""


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def radial_pulls(
    motions: Iterable[Motion], start: float = -math.inf, stop: float = math.inf
) -> RadialPulls:
    """κ of every certified group at the steps `start <= step < stop`.

    For `radial_law_of`, which asks whether κ is the same in all of them.
    """
    found = {}
    for motion in motions:
        if motion.group.kind == "scale":
            kappa = _kappa(_with_gradient(motion.within(start, stop)))
            if math.isfinite(kappa.low):
                found[motion.group.name] = (kappa.value, (kappa.high - kappa.low) / 2.0)
    values = np.array(list(found.values())).reshape(len(found), 2)
    return RadialPulls({name: i for i, name in enumerate(found)}, values[:, 0], values[:, 1])


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def radial_law_of(
    motion: Motion,
    stage: Stage,
    *,
    pulls: RadialPulls = NO_PULLS,
    peak: float = math.nan,
    epsilon: float = math.nan,
    eval_mode: float = math.nan,
) -> RadialLaw:
    """The radial part of a group's gradient in a stage; only a certified one can hide a decay.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
        pulls: `radial_pulls` of the run; without it no group has others to agree with.
        peak, epsilon, eval_mode: what the audit has of the group in this stage (`AuditedSteps`).
    """
    here = _with_gradient(motion.within(stage.start, stage.stop))
    audited = RadialLaw(peak=peak, epsilon=epsilon, eval_mode=eval_mode)
    if not len(here):
        return audited
    gram = here.gram
    single, kappa = gram.wg / gram.ww, _kappa(here)
    low, middle, high = np.quantile(single, (0.16, 0.5, 0.84)).tolist()
    decay = float((here.weight_decay * gram.ww).mean())
    toward = gram.wg
    if here.hp.decoupled:  # an adaptive step scales the gradient's entries to size one
        toward = gram.wg / np.sqrt(gram.gg) * math.sqrt(here.group.numel)
    law = dataclasses.replace(
        audited,
        samples=len(here),
        share=float(toward.mean()) / decay if decay else math.nan,
        defect=math.sqrt(float((gram.wg**2).mean() / (gram.ww * gram.gg).mean())),
        expected_defect=here.group.defect * float((motion.norm[0] / here.norm.min()) ** 2),
        kappa=kappa,
        spread=(high - low) / 2.0 / abs(middle) if middle else math.nan,
        power=_power(here),
        positive=float((single > 0).mean()),
    )
    return beside_others(law, here.group, pulls)


def beside_others(law: RadialLaw, group: InvariantGroup, pulls: RadialPulls) -> RadialLaw:
    """The law of a group with what the others say of it."""
    others, agreeing = _others(law.kappa, group.name, pulls)
    law = dataclasses.replace(law, others=others, agreeing=agreeing)
    return dataclasses.replace(law, hidden=group.kind == "scale" and _is_hidden(law))


def hidden_beside(
    motions: Sequence[Motion], stage: Stage, pulls: RadialPulls
) -> HiddenBeside | None:
    """The decay that most of these certified groups hide, two at least; None if they do not.

    Args:
        motions: the certified groups of one optimizer.
        stage: the steps to look at.
        pulls: `radial_pulls` of the run in this stage.
    """
    inward = [m for m in motions if _pull(m, pulls) > 0]
    laws = [radial_law_of(motion, stage, pulls=pulls) for motion in inward]
    return hidden_among(laws, len(motions))


def hidden_among(laws: Iterable[RadialLaw], certified: int) -> HiddenBeside | None:
    """The decay that most of so many certified groups hide, by the laws of those that may."""
    found = [law.kappa.value for law in laws if law.hidden]
    if len(found) < 2 or 2 * len(found) <= certified:
        return None
    return HiddenBeside(hidden=len(found), certified=certified, kappa=float(np.median(found)))


def _pull(motion: Motion, pulls: RadialPulls) -> float:
    place = pulls.places.get(motion.group.name)
    return math.nan if place is None else float(pulls.values[place])


def _is_hidden(law: RadialLaw) -> bool:
    """Whether κ is that of weight decay in the loss."""
    kappa = law.kappa
    steady = (
        law.samples >= FEWEST_FOR_KAPPA
        and kappa.high - kappa.low <= 2.0 * KAPPA_STEADY * kappa.value
    )
    beyond = not law.defect <= BEYOND_CERTIFIED * law.expected_defect
    constant = not law.power < LEAST_POWER
    return kappa.low > 0 and steady and beyond and constant and 2 * law.agreeing >= law.others


def _with_gradient(here: Motion) -> Motion:
    gram = here.gram
    return here[np.isfinite(gram.wg) & np.isfinite(gram.gg) & (gram.gg > 0)]


def _kappa(here: Motion) -> Estimate:
    return slow_mean_ratio(here.gram.wg, here.gram.ww)


def _others(kappa: Estimate, name: str, pulls: RadialPulls) -> tuple[int, int]:
    """(other groups whose κ is known as well, those of them whose κ is the same).

    Both are 0 where κ is not positive: it is no hidden decay then, and nothing is asked of others.
    """
    if not kappa.low > 0:
        return 0, 0
    size = abs(kappa.value)
    known = 2.0 * pulls.reaches <= size
    if (own := pulls.places.get(name)) is not None:
        known[own] = False
    reach = np.hypot((kappa.high - kappa.low) / 2.0, pulls.reaches)
    same = np.abs(pulls.values - kappa.value) <= KAPPAS_ALIKE * size + reach
    return int(known.sum()), int((known & same).sum())


def _power(here: Motion) -> float:
    """d ln|κ| / d ln|w|, from means over parts of the stage; NaN if they do not show one."""
    if len(here) < FEWEST_FOR_KAPPA:
        return math.nan
    parts = np.array_split(np.arange(len(here)), PARTS_FOR_POWER)
    radial, square = (np.array([x[i].mean() for i in parts]) for x in (here.gram.wg, here.gram.ww))
    norms = 0.5 * np.log(square)
    if not NORM_MOVED <= np.ptp(norms) < math.inf or not ((radial > 0).all() or (radial < 0).all()):
        return math.nan
    return float(np.polyfit(norms, np.log(np.abs(radial) / square), 1)[0])
