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

from spherical_motion import sphere
from spherical_motion.checks import number
from spherical_motion.errors import InvalidArgument
from spherical_motion.records import Records
from spherical_motion.vocabulary.hyperparameters import HyperParameters, pull_scale
from spherical_motion.vocabulary.schedule import Schedule

Array = NDArray[np.float64]
Pull: TypeAlias = float | Mapping[int, float] | Records


def pull_at_each_step(schedule: Schedule, pull: Pull, group: str | None) -> Array:
    """p at each step of a planned run, shape (steps,); weight decay's own where none is given."""
    own = own_pull(schedule.hp, schedule.weight_decay, schedule.momentum)
    if isinstance(pull, Records):
        return own + _loss_at_each_step(schedule, pull, group)
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
    return own


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


def _loss_at_each_step(schedule: Schedule, records: Records, group: str | None) -> Array:
    """What the loss added to decay's pull in each stage of the run; the last stage's goes on."""
    if group is None:
        names = ", ".join(records.groups[:3])
        raise InvalidArgument(
            f"forecast(pull=records) needs group=, the name of one of its groups ({names}, ...)."
        )
    column = records.index(group)
    hp = records.info.hyperparameters(records.main_slices[column])
    if hp.optimizer == "adam" and not hp.decoupled:
        raise InvalidArgument(
            "forecast(pull=records): under Adam with L2 decay the loss's part of the pull is not "
            "known. Pass the pull itself, as a number."
        )
    gram, steps, lr = records.gram[:, column], records.steps, records.lr[:, column]
    weight, loss = lr * gram.ww, sphere.pull(gram, 0.0, pull_scale(hp, records.momentum[:, column]))
    if not hp.decoupled:
        loss = loss - own_pull(hp, records.weight_decay[:, column], records.momentum[:, column])
    found: list[float] = []
    for stage in records.schedule(group).stages():
        known = (steps >= stage.start) & (steps < stage.stop) & np.isfinite(weight * loss)
        total = float(weight[known].sum())
        found.append(float((weight * loss)[known].sum()) / total if total > 0 else math.nan)
    if not np.isfinite(found).all():
        raise InvalidArgument(
            f"forecast(pull=...): the run has no pull of group {group!r} in stage "
            f"{int(np.isfinite(found).argmin()) + 1}: <w, Px> was not recorded there. Watch with "
            "products=7."
        )
    planned = schedule.stages()
    counts = [stage.steps for stage in planned]
    return np.repeat([found[min(i, len(found) - 1)] for i in range(len(planned))], counts)
