"""Which other rate or weight decay would make the steps that an audit found to differ.

Of each step the audit has the products of w, d (real) and e (expected). The miss d - e has a part
along e and a part along w:

    decay only    d = e + b·w       b = <d - e, w>/|w|²
    rate only     d = a·e           a = <d, e>/|e|²
    both          d = a·e + b·w     the normal equations of both

The fewest that explain the miss are taken. If none do, momentum is tried: heavy-ball SGD repeats
the last step d' times momentum, so with another one d - e = (difference)·(η/η')·d'. Then
|d - e|/|d'| is the same at every step; so it is where noise of one size is added to every step.
But <d - e, w>/<d', w> must also be the same, and of the same size: this tells momentum from noise,
and the sign of the difference.

A weight decay λ enters a step of SGD and of optimizers
with decoupled decay as -ηλ·w, and with Nesterov momentum α as -ηλ(1 + α)·w; so b tells which λ was
used. Inside Adam with L2 decay it passes the preconditioner, and only b itself is known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spherical_motion.records import Records
from spherical_motion.vocabulary import HyperParameters

Array = NDArray[np.float64]
Sums = Mapping[str, Array]

FIT_LEAVES = 0.03
"""A fit explains a step if it leaves at most this share of the miss |d - e|, or what rounding
does."""

DECAYS_ALIKE = 0.1
"""Steps are made with one weight decay if those fitted at most of them differ by at most this."""

ALONG_ALIKE = 0.1
"""Another momentum explains a step if its parts along the weights and in length differ by at most
this share."""

FEWEST_FOR_MOMENTUM = 3
"""Pairs of neighbouring steps that tell another momentum."""

Kind = Literal["decay", "rate", "both", "momentum", ""]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepFit:
    """The rate and decay of the steps that differ from the rule.

    Attributes:
        kind: what explains them: "decay", "rate", "both", "momentum", or "" for none of these.
        factor: a, the steps' length along the rule's; 1 if the decay alone explains them.
        pull: b, what is added along the weights in each step, relative to them; 0 if the rate alone
            explains them.
        left: median share of the miss that the fit leaves.
        lr, weight_decay, momentum: as recorded, medians over these steps.
        real_decay: the weight decay with which the steps were made; NaN if b does not tell.
        real_momentum: the momentum, if that explains them.
    """

    kind: Kind = ""
    factor: float = math.nan
    pull: float = math.nan
    left: float = math.nan
    lr: float = math.nan
    weight_decay: float = math.nan
    momentum: float = math.nan
    real_decay: float = math.nan
    real_momentum: float = math.nan


def fit_of(
    records: Records,
    column: int,
    steps: NDArray[np.int64],
    sums: Sums,
    dd_before: Array,
    wd_before: Array,
) -> StepFit:
    """The fit of some audited steps of a group.

    Args:
        records: the run, for its settings.
        column: number of the group.
        steps: the steps, increasing.
        sums: for each the products of `records.AUDIT_SUMS`, over the group's parameters.
        dd_before: |d'|² of the step d' before each; NaN if that was not audited.
        wd_before: <w, d'>, with the weights after that step.
    """
    settings = records.info.param_groups[
        records.info.slice_param_group[records.main_slices[column]]
    ]
    hp = HyperParameters.from_param_group(str(settings["class"]), settings)
    schedule = records.schedule(records.groups[column])
    at = np.clip(steps - schedule.start, 0, schedule.steps - 1)
    lr, decay, momentum = (x[at] for x in (schedule.lr, schedule.weight_decay, schedule.momentum))
    found = fit_products(sums)
    fit = dataclasses.replace(
        found.fit,
        lr=float(np.median(lr)),
        weight_decay=float(np.median(decay)),
        momentum=float(np.median(momentum)),
    )
    if fit.kind in ("decay", "both"):
        unit = lr * _decay_in_step(hp, momentum)
        with np.errstate(divide="ignore", invalid="ignore"):
            real = decay - found.pull_at / (found.factor_at * unit)
        return dataclasses.replace(fit, real_decay=_agreed(real, DECAYS_ALIKE, fit.weight_decay))
    if fit.kind == "" and hp.optimizer == "sgd" and not hp.nesterov:
        lr_before = schedule.lr[np.maximum(at - 1, 0)]
        change = _change_of_momentum(sums, dd_before, wd_before, lr / lr_before)
        if -FIT_LEAVES * abs(change) <= fit.momentum + change < 1.0:
            real = max(fit.momentum + change, 0.0)
            return dataclasses.replace(fit, kind="momentum", real_momentum=real)
    return fit


def _change_of_momentum(sums: Sums, dd_before: Array, wd_before: Array, rates: Array) -> float:
    """By how much the momentum differs, if that explains the steps, else NaN.

    The size is that of |d - e|/|d'|; <d - e, w>/<d', w> must agree with it, with one sign.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = np.sqrt(sums["miss_sq"] / dd_before) / rates
        along = (sums["wd"] - sums["we"]) / wd_before / rates
    size = _agreed(sizes, FIT_LEAVES, 0.0)
    known = np.isfinite(along)
    if not (math.isfinite(size) and known.any()):
        return math.nan
    sign = float(np.sign(np.median(along[known])))
    alike = known & (np.abs(along - sign * size) <= ALONG_ALIKE * size)
    enough = alike.sum() >= max(FEWEST_FOR_MOMENTUM, known.sum() / 2)
    return sign * size if enough else math.nan


@dataclasses.dataclass(frozen=True, slots=True)
class FitAtSteps:
    """A fit, and its numbers at each step."""

    fit: StepFit
    factor_at: Array
    pull_at: Array


def fit_products(sums: Sums) -> FitAtSteps:
    """The fewest of a and b that explain the steps, from their products alone.

    >>> e, w = np.array([3.0, 4.0]), np.array([1.0, 0.0])
    >>> d = e + 0.5 * w
    >>> pairs = {"ww": w @ w, "wd": w @ d, "we": w @ e, "dd": d @ d, "ee": e @ e, "de": d @ e}
    >>> sums = {name: np.array([value]) for name, value in pairs.items()}
    >>> found = fit_products({**sums, "miss_sq": np.array([0.25]), "allowed_sq": np.zeros(1)})
    >>> found.fit.kind, round(found.fit.pull, 12)
    ('decay', 0.5)
    """
    ww, wd, we = sums["ww"], sums["wd"], sums["we"]
    ee, de = sums["ee"], sums["de"]
    miss = sums["miss_sq"]
    one, none = np.ones_like(ww), np.zeros_like(ww)
    with np.errstate(divide="ignore", invalid="ignore"):
        decay = (wd - we) / ww
        rate = de / ee
        det = ee * ww - we * we
        determined = det > 1e-12 * ee * ww
        a = np.where(determined, (de * ww - wd * we) / det, np.nan)
        b = np.where(determined, (wd * ee - de * we) / det, np.nan)
        # In terms of d - e nothing cancels: e is no part of it.
        along_e, along_w = de - ee, wd - we
        ways: list[tuple[Kind, Array, Array, Array]] = [
            ("decay", one, decay, miss - decay * along_w),
            ("rate", rate, none, miss - (rate - 1.0) * along_e),
            ("both", a, b, miss - (a - 1.0) * along_e - b * along_w),
        ]
    rest = {kind: np.maximum(left, 0.0) for kind, _, _, left in ways}
    for kind, factor, pull, _ in ways:
        enough = rest[kind] <= np.maximum(FIT_LEAVES**2 * miss, sums["allowed_sq"])
        if np.mean(enough) > 0.8:
            share = np.sqrt(rest[kind] / miss)
            fit = StepFit(
                kind=kind,
                factor=float(np.nanmedian(factor)),
                pull=float(np.nanmedian(pull)),
                left=float(np.nanmedian(share)),
            )
            return FitAtSteps(fit, factor, pull)
    known = rest["both"][np.isfinite(rest["both"])]
    left = float(np.median(np.sqrt(rest["both"] / miss))) if known.size == miss.size else math.nan
    return FitAtSteps(StepFit(left=left), a, b)


def _decay_in_step(hp: HyperParameters, momentum: Array) -> Array:
    """The step is -lr·weight_decay·w times this beside the rest; NaN where it has another form."""
    if hp.decoupled:
        return np.ones_like(momentum)
    if hp.optimizer != "sgd":
        return np.full_like(momentum, np.nan)
    return 1.0 + momentum if hp.nesterov else np.ones_like(momentum)


def _agreed(values: Array, share: float, beside: float) -> float:
    """The median, if most values are as close to it as a share of it, or of a size beside it."""
    known = values[np.isfinite(values)]
    if not known.size:
        return math.nan
    middle = float(np.median(known))
    spread = float(np.median(np.abs(known - middle)))
    return middle if spread <= share * max(abs(middle), beside) else math.nan
