"""Plans for weights that the loss pulls, too: the pull of a former run takes weight decay's place.

The balance law (`theory.balance`) knows decay and loss only by their sum, the pull p. So the plain
formulas answer for p if they are given the weight decay λ' that alone would pull as strongly.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spherical_motion.checks import number
from spherical_motion.errors import InvalidArgument
from spherical_motion.forecasting.former import FormerRun, former_run
from spherical_motion.records import Records
from spherical_motion.vocabulary.hyperparameters import HyperParameters, pull_scale
from spherical_motion.vocabulary.schedule import Schedule

Array = NDArray[np.float64]
Pull: TypeAlias = float | Mapping[int, float] | Records


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedPull:
    """The pull in each stage of a planned run.

    Attributes:
        each: p at each step, shape (steps,).
        reach: for each stage, how far the 95% interval of its pull goes to either side; NaN where
            the pull was given as a number.
        former: the run that it comes from, or None.
        doubt: why that run's pull is not to be relied on; empty if nothing speaks against it.
    """

    each: Array
    reach: tuple[float, ...]
    former: FormerRun | None = None
    doubt: str = ""


def planned_pull(schedule: Schedule, pull: Pull, group: str | None) -> PlannedPull:
    """The pull of a planned run; weight decay's own where none is given."""
    own = own_pull(schedule.hp, schedule.weight_decay, schedule.momentum)
    if isinstance(pull, Records):
        return _pull_of_run(schedule, own, former_run(pull, group))
    if group is not None:
        raise InvalidArgument(
            f"forecast(group={group!r}) names a group of a former run; pass that run as pull=."
        )
    stages = schedule.stages()
    given = pull if isinstance(pull, Mapping) else dict.fromkeys(range(1, len(stages) + 1), pull)
    if unknown := sorted(set(given) - set(range(1, len(stages) + 1))):
        raise InvalidArgument(
            f"forecast(pull=...) expects numbers of stages from 1 to {len(stages)}, got "
            f"{unknown[0]!r}."
        )
    for i, value in given.items():
        first, last = (x - schedule.start for x in (stages[i - 1].start, stages[i - 1].stop))
        own[first:last] = number("forecast", "pull", value)
    return PlannedPull(own, (math.nan,) * len(stages))


def pulled_schedule(schedule: Schedule, pull: Array) -> Schedule:
    """The plan whose weight decay alone pulls by `pull`; 0 where nothing pulls inward."""
    hp = settings_of_pull(schedule.hp, 0.0)
    decay = np.maximum(pull, 0.0)
    if not hp.decoupled:
        decay = decay / pull_scale(hp, schedule.momentum)
    return Schedule(hp, schedule.lr, decay, schedule.momentum, schedule.start)


def settings_of_pull(hp: HyperParameters, pull: float) -> HyperParameters:
    """The settings whose weight decay alone pulls by `pull` >= 0.

    With a pull, Adam with L2 decay turns as AdamW does: its preconditioner is in the pull.

    >>> damped = HyperParameters("sgd", lr=0.1, momentum=0.5, dampening=0.5)
    >>> settings_of_pull(damped, 0.01).weight_decay
    0.02
    """
    if hp.optimizer == "adam":
        return dataclasses.replace(hp, optimizer="adamw", decoupled=True, weight_decay=pull)
    decay = pull if hp.decoupled else pull / float(pull_scale(hp))
    return dataclasses.replace(hp, weight_decay=decay)


def loss_part(where: str, hp: HyperParameters, pull: float | None) -> float:
    """What the loss adds to the pull of weight decay under settings `hp`; 0 if no pull is given."""
    if pull is None:
        return 0.0
    if hp.optimizer == "adam" and not hp.decoupled:
        raise InvalidArgument(
            f"{where}(pull=...): under Adam with L2 decay the part of weight decay in the pull is "
            "not known, so no weight decay follows from a wanted pull. Leave pull= out."
        )
    scale = 1.0 if hp.decoupled else float(pull_scale(hp))
    return number(where, "pull", pull) - hp.weight_decay * scale


def own_pull(hp: HyperParameters, weight_decay: Array, momentum: Array) -> Array:
    """The part of the pull that is weight decay; λ for Adam with L2, where it is not known."""
    scale = 1.0 if hp.decoupled else pull_scale(hp, momentum)
    return np.array(weight_decay * scale, np.float64)


def _pull_of_run(schedule: Schedule, own: Array, former: FormerRun) -> PlannedPull:
    """The run's pull in the stage of that number, with the planned weight decay for the run's.

    A plan of a single stage goes on where the run ended, so it takes the pull of the last stage. A
    stage in which nothing moved has none; the one before it stands in.
    """
    if former.hp.optimizer != schedule.hp.optimizer:
        raise InvalidArgument(
            f"forecast(pull=records): {former.hp.optimizer} trained the run, the plan is for "
            f"{schedule.hp.optimizer}, and the loss pulls differently through the steps of another "
            "optimizer. Plan for the same one, or pass a run of this one."
        )
    each, reach, doubts = own.copy(), [], []
    planned, ran = schedule.stages(), len(former.stages)
    for i, stage in enumerate(planned, start=1):
        number = former.moving(min(i, ran) if len(planned) > 1 else ran)
        found, part = former.pull(number), former.own_pull(number)
        here = slice(stage.start - schedule.start, stage.stop - schedule.start)
        _check_same_decay(former, number, schedule.weight_decay[here])
        each[here] += found.value - part
        reach.append(found.high - found.value)
        doubts.append(former.doubt(number))
    return PlannedPull(each, tuple(reach), former, next(filter(None, doubts), ""))


def _check_same_decay(former: FormerRun, number: int, planned: Array) -> None:
    """Refuse another weight decay where its part of the pull is not known."""
    if former.hp.optimizer != "adam" or former.hp.decoupled:
        return
    before = former.decays(number)
    if not all(np.allclose(planned, decay, rtol=1e-9) for decay in before):
        raise InvalidArgument(
            "forecast(pull=records): under Adam with L2 decay the loss's part of the pull is not "
            "known, so a plan must keep the weight decay of the run"
            f", {', '.join(f'{decay:g}' for decay in before)}. For another one pass the pull "
            "itself, as a number."
        )
