"""Which settings the steps of SGD were made with: least squares on the law of motion.

The law is linear in momentum, lr × weight decay and lr, or nearly so, and its noise is the rounding
of the weights, the same share of |w|² at each step once it is multiplied by η/|w|².
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.laws.tested import Tested
from spherical_motion.estimates import NO_ESTIMATE, Estimate, t_quantile
from spherical_motion.theory.motion import has_law_of_motion
from spherical_motion.vocabulary import HyperParameters

Array = NDArray[np.float64]

FITTED_SETTINGS = ("momentum", "weight_decay", "lr")
"""In this order they are tried; the first goes before others that explain as well."""

FEWEST_TO_FIT = 5
"""So many steps allow a fit of up to three settings."""

HEALTHY_RESIDUAL = 1e-5
"""Median residual of healthy steps where rounding explains less: 1e-7 to 4e-6 in float32. Small
groups at small lr × weight decay have up to 1e-2, all of it rounding."""

DEVIATIONS_FITTED = 3.0
"""Or this many standard deviations of what rounding leaves."""

RESIDUALS_ALIKE = 1.5
"""Sets of settings whose residuals differ by less than this factor explain equally well."""

LARGEST_TERM = 1e100
"""Terms of the law above this are left out."""

FITTING_ROUNDS = 30
"""Gauss-Newton on a law that is bilinear needs two or three rounds."""

FAR_IN_DEVIATIONS = 8.0
"""Steps farther off than this many median deviations are left out of the fit: single ones."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The settings that the recorded steps were made with, fitted where the declared ones fail.

    The fit changes as few settings as explain the steps. A setting that it leaves as declared has
    the declared value without an interval. Rates and decays that vary are given by their mean.

    Attributes:
        first, last: the steps between which the declared settings fail.
        pairs: neighbouring steps that were used.
        lr, weight_decay, momentum: the real settings with their 95% intervals; NaN where the steps
            do not determine them. Where <w, g> is 0, as in certified groups, only lr × weight_decay
            is determined: lr is NaN then, and weight_decay is what it would be at the declared lr.
        declared: (lr, weight_decay, momentum) as recorded, means over the same steps.
        changed: names of the settings that differ from what was declared; empty if no settings
            explain the steps, or another `form` does.
        possible: every set of as few settings that explains the steps, the best first.
        form: an update rule other than the declared one that explains the steps with the declared
            settings: "decoupled weight decay", "weight decay through the gradient", "Nesterov
            momentum", "heavy-ball momentum"; empty if none does.
        residual: median residual that the fit leaves, as a share of the largest term of the law.
        before: median residual of the same steps with the declared settings.
        explains: whether the residual is one that rounding explains.
    """

    first: int
    last: int
    pairs: int
    lr: Estimate = NO_ESTIMATE
    weight_decay: Estimate = NO_ESTIMATE
    momentum: Estimate = NO_ESTIMATE
    declared: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    changed: tuple[str, ...] = ()
    possible: tuple[tuple[str, ...], ...] = ()
    form: str = ""
    residual: float = math.nan
    before: float = math.nan
    explains: bool = False


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Settings as the steps have them: lr × `lr`, and what is added to the other two.

    `errors` are their standard errors, 0 for those not fitted.
    """

    names: tuple[str, ...]
    values: Array
    errors: Array
    residual: float
    explains: bool


def fit_settings(tested: Tested) -> Fit:
    """The settings that the tested steps were made with."""
    steps = tested.steps[tested.pair]
    lr, decay, momentum = (
        float(x[tested.pair].mean()) for x in (tested.lr, tested.weight_decay, tested.momentum)
    )
    before = _judged(tested, tested.hp, (), np.array([0.0, 0.0, 1.0]), np.zeros(3))
    form, other = "", None
    for name, hp in _other_forms(tested.hp, momentum):
        found = _judged(tested, hp, (), np.array([0.0, 0.0, 1.0]), np.zeros(3))
        if found.explains and (other is None or found.residual < other.residual):
            form, other = name, found
    sets = _fewest_changes(tested)
    found = Fit(
        first=int(steps[0]),
        last=int(steps[-1]),
        pairs=steps.size,
        declared=(lr, decay, momentum),
        possible=tuple(change.names for change in sets),
        form=form,
        before=before.residual,
        residual=before.residual,
    )
    if other is not None and (not sets or other.residual <= RESIDUALS_ALIKE * sets[0].residual):
        declared = [Estimate(x) for x in (lr, decay, momentum)]
        return dataclasses.replace(
            found, lr=declared[0], weight_decay=declared[1], momentum=declared[2],
            residual=other.residual, explains=True,
        )  # fmt: skip
    if not sets:
        return dataclasses.replace(found, form="")
    best = sets[0]
    freedom = max(steps.size - len(best.names), 1)
    reach = t_quantile(freedom) * best.errors
    values = np.array([momentum + best.values[0], decay + best.values[1], lr * best.values[2]])
    reach[2] *= lr
    fitted = {
        name: Estimate(value, value - by, value + by) if name in best.names else Estimate(value)
        for name, value, by in zip(FITTED_SETTINGS, values.tolist(), reach.tolist(), strict=True)
    }
    # Where another set has lr in the place of weight decay, only their product is known.
    if any("lr" in change.names for change in sets) and "lr" not in best.names:
        fitted["lr"] = NO_ESTIMATE
    return dataclasses.replace(
        found, changed=best.names, form="", residual=best.residual, explains=True, **fitted
    )


def _fewest_changes(tested: Tested) -> list[Change]:
    """The sets of settings that explain the steps, of the smallest size that does; best first."""
    for size in (1, 2, 3):
        if tested.pair.sum() < size + 2:
            break
        tried = (_fitted(tested, names) for names in itertools.combinations(FITTED_SETTINGS, size))
        found = [change for change in tried if change is not None and change.explains]
        if found:
            least = min(change.residual for change in found)
            floor = max(RESIDUALS_ALIKE * least, 1e-15)
            return [change for change in found if change.residual <= floor]
    return []


def _fitted(tested: Tested, names: tuple[str, ...]) -> Change | None:
    """Gauss-Newton for these settings, the others as declared; None if they leave their range."""
    pair, index = tested.pair, [FITTED_SETTINGS.index(name) for name in names]
    unit = float(np.median(tested.declared()[1][pair] / tested.gram.ww[pair]))
    scales = np.array([1e-3, 1e-3 * unit, 1e-3])
    values, used = np.array([0.0, 0.0, 1.0]), np.ones(int(pair.sum()), bool)
    slopes = np.empty((used.size, len(names)))
    left = _left(tested, tested.hp, values)
    for _ in range(FITTING_ROUNDS):
        for column, i in enumerate(index):
            step = np.zeros(3)
            step[i] = scales[i]
            above, below = (_left(tested, tested.hp, values + s * step) for s in (1.0, -1.0))
            slopes[:, column] = (above - below) / (2.0 * scales[i])
        # Larger numbers are no steps, and their squares no numbers.
        used = (np.abs(left) < LARGEST_TERM) & (np.abs(slopes) < LARGEST_TERM).all(axis=1)
        away = np.abs(left - np.median(left[used])) if used.any() else left
        used &= away <= FAR_IN_DEVIATIONS * np.median(away[used]) + 1e-300 if used.any() else used
        if used.sum() <= len(names):
            return None
        sizes = np.linalg.norm(slopes[used], axis=0)
        if not (sizes > 0).all():
            return None
        move = np.linalg.lstsq(slopes[used] / sizes, -left[used], rcond=None)[0] / sizes
        values[index] += move
        left = _left(tested, tested.hp, values)
        if not np.isfinite(values).all() or (np.abs(move) <= 1e-12 * np.abs(values[index])).all():
            break
    if not np.isfinite(values).all():
        return None
    errors = np.zeros(3)
    spread = float((left[used] ** 2).sum() / max(used.sum() - len(names), 1))
    variances = np.diag(np.linalg.pinv(slopes[used].T @ slopes[used]))
    errors[index] = np.sqrt(spread * np.maximum(variances, 0.0))
    if not _put_in_range(tested, values, errors):
        return None
    return _judged(tested, tested.hp, names, values, errors)


def _put_in_range(tested: Tested, values: Array, errors: Array) -> bool:
    """Whether the settings are possible; those below 0 by less than their error are set to 0."""
    pair = tested.pair
    for i, declared in enumerate((tested.momentum[pair], tested.weight_decay[pair])):
        least = float(declared.min() + values[i])
        if least < -DEVIATIONS_FITTED * errors[i] - 1e-15:
            return False
        values[i] = max(values[i], -float(declared.min()))
    return values[2] > 0 and float(tested.momentum[pair].max() + values[0]) < 1.0


def _left(tested: Tested, hp: HyperParameters, values: Array) -> Array:
    """What is left of the law at the tested steps, times η/|w|²: the same noise at each of them."""
    left, _ = _sides(tested, hp, values)
    scale = values[2] * tested.lr / tested.gram.ww
    return (left * scale)[tested.pair]


def _sides(tested: Tested, hp: HyperParameters, values: Array) -> tuple[Array, Array]:
    return tested.sides(
        hp,
        tested.lr * values[2],
        tested.weight_decay + values[1],
        tested.momentum + values[0],
    )


def _judged(
    tested: Tested, hp: HyperParameters, names: tuple[str, ...], values: Array, errors: Array
) -> Change:
    """The change with its median residual."""
    left, largest = (side[tested.pair] for side in _sides(tested, hp, values))
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = float(np.nanmedian(np.abs(left) / largest))
        # What rounding leaves is in the unit of 1/η, of these settings and not the declared ones.
        noise = float(np.nanmedian(tested.noise[tested.pair] / values[2] / largest))
    explains = residual <= max(HEALTHY_RESIDUAL, DEVIATIONS_FITTED * noise)
    return Change(names, values, errors, residual, explains)


def _other_forms(hp: HyperParameters, momentum: float) -> Iterator[tuple[str, HyperParameters]]:
    """Update rules of the same settings that have a law of motion, with their names."""
    forms: Sequence[tuple[str, HyperParameters]] = (
        (
            "weight decay through the gradient" if hp.decoupled else "decoupled weight decay",
            dataclasses.replace(hp, decoupled=not hp.decoupled, nesterov=False),
        ),
        (
            "heavy-ball momentum" if hp.nesterov else "Nesterov momentum",
            dataclasses.replace(hp, nesterov=not hp.nesterov, momentum=max(momentum, 0.0)),
        ),
    )
    for name, form in forms:
        plain = form.nesterov and not momentum
        if not plain and has_law_of_motion(form):
            yield name, form
