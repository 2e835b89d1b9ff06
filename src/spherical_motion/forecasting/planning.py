"""From a wanted angle or pace to settings, and what a larger batch does to both.

Angle and pace cannot be chosen separately: both depend on ηλ, so at a given momentum one fixes the
other, by τ·Δ*² = (1 - α)/(2(1 + α)) for SGD with L2 and (1 - β1)/(1 + β1) for AdamW. Only momentum
changes their ratio; all pairs of lr and weight decay with the same product give the same motion on
the sphere (but not under Adam with L2).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from spherical_motion import checks, theory
from spherical_motion.checks import held, number
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.forecasting.pulled import loss_part
from spherical_motion.theory import GroupFacts, family_of
from spherical_motion.theory.group import Fact
from spherical_motion.vocabulary.hyperparameters import HyperParameters, pull_scale

SPREAD = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Learning rates offered, as shares of the one given."""

Measure = Callable[[HyperParameters], float]


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One pair of learning rate and weight decay, and the motion it gives.

    Attributes:
        lr, weight_decay: the pair.
        angle: Δ*, radians a step.
        time_constant: 1/r, steps in which a deviation of the norm's power y shrinks by e.
    """

    lr: float
    weight_decay: float
    angle: float
    time_constant: float


@dataclasses.dataclass(frozen=True, slots=True)
class BatchScaling:
    """What one rule for a changed batch size does.

    Attributes:
        rule: "unchanged", "linear" (lr × k), "square root" (lr × √k) or "constant angle" (lr × k,
            weight decay / k).
        setting: learning rate, weight decay, and the angle and time constant per step.
        steps_per_epoch: of the changed batch.
        epoch_angle: angle between the weights one epoch apart, radians, at most π/2.
        time_constant_epochs: the time constant in epochs.
    """

    rule: str
    setting: Setting
    steps_per_epoch: float
    epoch_angle: float
    time_constant_epochs: float


@checks.validated
def settings_for_angle(
    hp: HyperParameters, angle: float, lrs: Sequence[float] | None = None, *,
    pull: float | None = None,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> tuple[Setting, ...]:  # fmt: skip
    """Pairs of learning rate and weight decay under which a group turns by `angle` a step.

    Args:
        hp: the optimizer and its momentum; its weight decay is not used without `pull`.
        angle: wanted Δ*, radians, in (0, π).
        lrs: learning rates to find the weight decay for; left out, from a tenth of `hp.lr` to ten
            times it, as far as they are possible.
        pull: how strongly decay and loss drew the weights inward in a run with the weight decay of
            `hp` (`Row.pull`). The loss's part of it is taken to stay as it was.
        unit_grad_sq ... update_sq: as in `theory.equilibrium_angle`.

    Raises:
        OutOfDomain: the angle is not in (0, π), or beyond what this optimizer can turn by; or the
            loss alone pulls more than that.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, momentum=0.9)
    >>> [float(f"{s.weight_decay:.4g}") for s in settings_for_angle(hp, 3.244e-3, lrs=[0.1, 0.5])]
    [9.997e-05, 1.999e-05]

    In a former run with a weight decay of 1e-4 the loss cancelled half of it:

    >>> before = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> found = settings_for_angle(before, 3.244e-3, lrs=[0.1], pull=5e-5)
    >>> float(f"{found[0].weight_decay:.4g}")
    0.00015
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    number("settings_for_angle", "angle", angle, above=0.0, below=math.pi, error=OutOfDomain)
    what = f"an angle of {angle:g} rad"
    loss = loss_part("settings_for_angle", hp, pull)
    return _settings(hp, lrs, facts, lambda hp: family_of(hp).angle(hp, facts), angle, what, loss)


@checks.validated
def settings_for_time_constant(
    hp: HyperParameters, time_constant: float, lrs: Sequence[float] | None = None, *,
    pull: float | None = None,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> tuple[Setting, ...]:  # fmt: skip
    """Pairs of learning rate and weight decay whose norm relaxes over `time_constant` steps.

    Args:
        hp: the optimizer and its momentum; its weight decay is not used without `pull`.
        time_constant: wanted 1/r in steps, > 0.
        lrs, pull: as in `settings_for_angle`. For weights that are not scale-invariant, whose
            loss's pull changes with the norm, the time is a guess.
        unit_grad_sq ... update_sq: as in `theory.relaxation_rate`.

    Raises:
        OutOfDomain: not > 0, or faster than this optimizer can relax.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("adamw", lr=1e-3, momentum=0.9)
    >>> round(settings_for_time_constant(hp, 5_000, lrs=[1e-3])[0].weight_decay, 9)
    0.1
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    where = "settings_for_time_constant"
    number(where, "time_constant", time_constant, above=0.0, error=OutOfDomain)
    what, rate = f"a time constant of {time_constant:g} steps", 1.0 / time_constant
    return _settings(
        hp, lrs, facts, lambda hp: family_of(hp).relaxation_rate(hp, facts), rate, what,
        loss_part(where, hp, pull),
    )  # fmt: skip


@checks.validated
def scale_batch(
    hp: HyperParameters, factor: float, steps_per_epoch: float, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> tuple[BatchScaling, ...]:  # fmt: skip
    """What the usual rules do to the motion when the batch grows `factor` times.

    Equilibrium does not depend on the batch size: neither angle nor time constant changes unless
    the settings do. Linear scaling at fixed weight decay multiplies the angle by √k and divides
    the time constant in steps by k, so that per epoch, in mean square, the weights go as far as
    before and settle as fast.

    Args:
        hp: settings for the present batch.
        factor: k > 0, new batch size over present one.
        steps_per_epoch: of the present batch.
        unit_grad_sq ... update_sq: facts of the group (`theory.GroupFacts`).

    Returns:
        One entry a rule, the unchanged settings on the present batch first.

    Raises:
        OutOfDomain: `factor` or `steps_per_epoch` is not > 0, or no equilibrium at `hp`.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> for s in scale_batch(hp, 4, steps_per_epoch=5004):
    ...     here = f"{s.setting.angle:.2e} {s.epoch_angle:.2f} {s.time_constant_epochs:.2f}"
    ...     print(f"{s.rule:15} {here}")
    unchanged       3.24e-03 0.92 0.50
    linear          6.49e-03 0.92 0.50
    square root     4.59e-03 0.68 1.00
    constant angle  3.24e-03 0.49 2.00
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    for name, value in (("factor", factor), ("steps_per_epoch", steps_per_epoch)):
        number("scale_batch", name, value, above=0.0, error=OutOfDomain)
    rules = (  # factors of lr, weight decay and batch size
        ("unchanged", 1.0, 1.0, 1.0),
        ("linear", factor, 1.0, factor),
        ("square root", math.sqrt(factor), 1.0, factor),
        ("constant angle", factor, 1.0 / factor, factor),
    )
    found: list[BatchScaling] = []
    for rule, lr, weight_decay, batch in rules:
        scaled = _with(hp, hp.lr * lr, hp.weight_decay * weight_decay)
        setting = _setting(scaled, facts)
        steps = steps_per_epoch / batch
        turned = theory.accumulated_angle_approx(scaled, steps, **dataclasses.asdict(facts))
        epochs = held("scale_batch", setting.time_constant / steps)
        found.append(BatchScaling(rule, setting, steps, turned, epochs))
    return tuple(found)


def _settings(
    hp: HyperParameters,
    lrs: Sequence[float] | None,
    facts: GroupFacts,
    measure: Measure,
    target: float,
    what: str,
    loss: float,
) -> tuple[Setting, ...]:
    offered = [hp.lr * share for share in SPREAD] if lrs is None else lrs
    bad = [lr for lr in offered if not (math.isfinite(lr) and lr > 0)]
    if bad or not offered:
        raise InvalidArgument(f"lrs=... expects learning rates > 0, got {list(offered)}.")
    alone = [_solve(hp, lr, measure, target, what) for lr in offered]
    scale = 1.0 if hp.decoupled else float(pull_scale(hp))
    decays = [settings.weight_decay - loss / scale for settings in alone]
    left = [(s, decay) for s, decay in zip(alone, decays, strict=True) if decay > 0.0]
    if not left or (lrs is not None and len(left) < len(alone)):
        least = min(decays)
        highest = alone[decays.index(least)]
        raise OutOfDomain(
            f"No weight decay gives {hp.optimizer} {what} at lr {highest.lr:g}: the loss alone "
            f"pulls by {loss:g}, more than the {highest.weight_decay * scale:g} that it takes. "
            "Lower the rate."
        )
    return tuple(
        dataclasses.replace(_setting(settings, facts), weight_decay=decay)
        for settings, decay in left
    )


def _solve(
    hp: HyperParameters, lr: float, measure: Measure, target: float, what: str
) -> HyperParameters:
    """The settings at which `measure`, which grows with the weight decay, meets `target`."""
    low = high = 1e-12 / lr  # far inside every optimizer's domain
    while measure(_with(hp, lr, low)) > target:
        low /= 2.0
    try:
        while measure(_with(hp, lr, high)) < target:
            high *= 2.0
        while high / low > 1.0 + 1e-14:
            middle = math.sqrt(low * high)
            if middle in (low, high):
                break
            below = measure(_with(hp, lr, middle)) < target
            low, high = (middle, high) if below else (low, middle)
    except OutOfDomain as error:
        raise OutOfDomain(
            f"No weight decay gives {hp.optimizer} with momentum {hp.momentum:g} {what}: {error}"
        ) from error
    return _with(hp, lr, high)


def _with(hp: HyperParameters, lr: float, weight_decay: float) -> HyperParameters:
    return dataclasses.replace(hp, lr=lr, weight_decay=weight_decay)


def _setting(hp: HyperParameters, facts: GroupFacts) -> Setting:
    family = family_of(hp)
    angle, rate = family.angle(hp, facts), family.relaxation_rate(hp, facts)
    time_constant = held("time_constant", 1.0 / rate if rate else math.inf)
    return Setting(hp.lr, hp.weight_decay, angle, time_constant)
