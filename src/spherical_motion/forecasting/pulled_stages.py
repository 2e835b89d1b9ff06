"""What a pull changes in the stages of a forecast, and what it rules out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from spherical_motion import theory
from spherical_motion.checks import Array
from spherical_motion.forecasting.pulled import PlannedPull, settings_of_pull
from spherical_motion.forecasting.stages import StageForecast
from spherical_motion.theory import GroupFacts
from spherical_motion.vocabulary.hyperparameters import HyperParameters, pull_scale
from spherical_motion.vocabulary.schedule import Schedule


def with_pulls(
    found: Sequence[StageForecast], asked: Schedule, planned: PlannedPull, known: GroupFacts
) -> tuple[StageForecast, ...]:
    """The stages with the planned settings, the pull, and remedies in weight decay.

    Args:
        found: the stages of the plan whose weight decay alone pulls as strongly.
        asked: the plan itself.
        planned: its pull.
        known: facts of the group.
    """
    stages: list[StageForecast] = []
    for plain, stage, reach in zip(found, asked.stages(), planned.reach, strict=True):
        pull = float(planned.each[stage.stop - 1 - asked.start])
        # From a pull that may be 0 no remedy follows.
        remedy, hp = None if pull - reach <= 0 else plain.remedy, stage.hp
        if remedy is not None and hp is not None:
            # Only weight decay can be raised; the loss's part of the pull stays.
            own = hp.weight_decay * (1.0 if hp.decoupled else float(pull_scale(hp)))
            separable = own > 0 and (hp.decoupled or hp.optimizer != "adam")
            factor = 1.0 + (remedy.weight_decay - 1.0) * pull / own if separable else math.nan
            remedy = dataclasses.replace(remedy, weight_decay=factor)
        stages.append(
            dataclasses.replace(
                plain,
                stage=stage,
                pull=pull,
                pull_low=pull - reach,
                pull_high=pull + reach,
                remedy=remedy,
                guess=planned.former is not None and planned.former.changes_with_norm,
                **_angles(plain.equilibrium_angle, stage.hp, pull, reach, known),
            )
        )
    return tuple(stages)


def _angles(
    at_rest: float, hp: HyperParameters | None, pull: float, reach: float, known: GroupFacts
) -> dict[str, float]:
    """The angles at rest that belong to the ends of the pull's interval."""
    if hp is None or not (math.isfinite(reach) and math.isfinite(at_rest)):
        return {}
    low, high = theory.pulled_angle_interval(
        settings_of_pull(hp, pull),
        pull - reach,
        pull + reach,
        overlap=known.overlap,
        correlation=known.correlation,
    )
    return {"equilibrium_low": low, "equilibrium_high": high}


def nothing_inward(pulls: Array, drive: str) -> str:
    """Why a plan under these pulls has no start, in words for its user."""
    return (
        f"forecast(pull={pulls.max():.3g}): nothing pulls inward. The loss pushes the weights "
        "outward at least as strongly as weight decay draws them in, so their norm grows and never "
        "comes to rest. To forecast the growth, tell where it starts and how strongly the gradient "
        f"drives it: norm0=... and {drive}=...; or pass the run, pull=read(DIRECTORY) and "
        "group=NAME (--pull-from DIRECTORY --group NAME), which tells both."
    )
