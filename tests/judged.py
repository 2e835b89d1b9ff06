"""Evidence of a healthy group at rest, made by hand, to be changed one number at a time."""

from __future__ import annotations

import dataclasses
import math

from spherical_motion.comparison import Approaching, Evidence, Laws, Rest, Settled, TugOfWar
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice, Stage


def evidence(settled: bool = True, **changes) -> Evidence:
    piece = Slice("w", 0, 0, 1)
    rest = Rest(
        equilibrium=0.1,
        steps_needed=math.inf,
        steps_more=changes.pop("steps_more", math.inf),
        drive_change=math.nan,
        step_law=changes.pop("step_law", Estimate(1.0, 0.98, 1.02)),
        **{
            name: changes.pop(name)
            for name in ("steps_to_judge", "rest_norm", "rest_angle")
            if name in changes
        },
    )
    good = {
        "group": InvariantGroup("w", "scale", (piece,), ((piece,),), 1, 1e-6),
        "stage": Stage(0, 1000, HyperParameters("sgd", lr=0.1, weight_decay=0.1)),
        "samples": 1000,
        "non_finite": 0,
        "moved": True,
        "lr_is_zero": False,
        "no_decay": False,
        "driven": 1000,
        "norm_change": 1.0,
        "radial_share": 0.0,
        "defect": 1e-6,
        "expected_defect": 1e-6,
        "transient": 0.1,
        "measured": 0.1,
        "ratio": Estimate(1.0, 0.98, 1.02),
        "mean_ratio": 1.0,
        "residual": 1e-9,
        "drift": 0.0,
        "rest": rest,
        "tug": TugOfWar(),
        "lasted": 1000.0,
        "memory": 1.0,
        "prediction_error": 0.0,
        "correlation": math.nan,
        "bursts": 0,
    }
    laws = {field.name for field in dataclasses.fields(Laws)} & set(changes)
    tested = Laws(**{name: changes.pop(name) for name in laws})
    return (Settled if settled else Approaching)(**{"laws": tested} | good | changes)


PIECE = Slice("w", 0, 0, 1)
PLAIN = InvariantGroup("w", "plain", (PIECE,), (), 1)
CERTIFIED = InvariantGroup("w", "scale", (PIECE,), ((PIECE,),), 1, 1e-6)
