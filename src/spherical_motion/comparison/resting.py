"""Where a certified group will rest under the measured pull of weight decay and loss."""

from __future__ import annotations

import dataclasses
import math

from spherical_motion import theory
from spherical_motion.comparison.evidence import (
    Rest,
)
from spherical_motion.comparison.forces import TugOfWar
from spherical_motion.comparison.motion import Motion
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import HyperParameters


def with_pull(rest: Rest, hp: HyperParameters, tug: TugOfWar, judged: Motion) -> Rest:
    """`rest` with norm and angle under the pull that was measured; as it was if nobody knows.

    Args:
        rest: the equilibrium that weight decay alone would give.
        hp: settings of the stage.
        tug: the balance law of the stage, which has the pull.
        judged: its judged samples, whose last quarter says where the norm is now.
    """
    recent = judged[-max(len(judged) // 4, 1) :]
    square = float(recent.gram.dd.mean() / recent.gram.ww.mean())
    return pulled_to(rest, hp, tug, square, float(recent.norm[-1]), judged.correlation)


def pulled_to(
    rest: Rest,
    hp: HyperParameters,
    tug: TugOfWar,
    square: float,
    norm: float,
    correlation: float | None,
) -> Rest:
    """`with_pull` of a group with this |d|²/|w|², norm and correlation of its updates now."""
    if not (tug.pull.low > 0 and square > 0):
        return rest
    try:
        angle = theory.pulled_angle(hp, tug.pull.value, correlation=correlation)
        norm = theory.pulled_norm(
            hp, tug.pull.value, norm=norm, step_ratio=math.sqrt(square), correlation=correlation
        )
    except InvalidArgument:  # a pull or a fact with which nothing rests
        return rest
    return dataclasses.replace(rest, rest_norm=norm, rest_angle=angle)
