"""What a planned run will do, what would mend it, and which settings give a wanted motion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from frozen.flat import Value, call
from frozen.grids import GIVEN, SETTINGS, WITHOUT_THEORY
from spherical_motion import HyperParameters, Schedule, forecasting
from spherical_motion.theory import GroupFacts

__all__ = ["values"]

FAMILIES = ("sgd", "sgdm", "damped", "nesterov", "sgdw", "adam", "adamw", "lion", "muon", "other")

FACTS = GroupFacts(**GIVEN)

DRIVES = {"adam": 0.02, "adamw": 5000.0, "lion": 5000.0, "muon": 40.0, "other": 40.0}
"""What pushes the norm outward, where it is not a squared unit gradient of 7."""


def values() -> Iterator[Value]:
    """All keys and values of the room."""
    yield from call("WITHIN", lambda: forecasting.WITHIN)
    for family in FAMILIES:
        hp = SETTINGS[f"{family}/mild"]
        yield from _forecasts(family, hp)
        yield from _remedies(family, hp)
        yield from _plans(family, hp)
    for label, hp in WITHOUT_THEORY.items():
        yield from _plans(label, hp)
        yield from call(f"forecast/{label}", forecasting.forecast, Schedule.constant(hp, 100))
    yield from _shapes()


def _forecasts(family: str, hp: HyperParameters) -> Iterator[Value]:
    plan = Schedule.step_decay(hp, steps=9000, milestones=[3000, 6000])
    run = forecasting.forecast
    yield from call(f"forecast/{family}/rest", run, plan, **GIVEN)
    yield from call(f"forecast/{family}/heavy", run, plan, 30.0, **GIVEN)
    if family in ("sgdm", "adam", "adamw"):
        yield from call(f"forecast/{family}/light", run, plan, 0.01, **GIVEN)
        yield from call(f"forecast/{family}/bare", run, plan)
        yield from call(f"forecast/{family}/norm alone", run, plan, 2.0)
    short = forecasting.forecast(plan, **GIVEN).falling_short
    yield f"forecast/{family}/rest/falling_short", [s.stage.start for s in short]


def _remedies(family: str, hp: HyperParameters) -> Iterator[Value]:
    drive = DRIVES.get(family, 7.0)
    for norm in (0.1, 3.0, 40.0):
        key = f"{family}/{norm}"
        yield from call(f"rest_excess/{key}", forecasting.rest_excess, hp, norm, drive, **GIVEN)
        for steps in (300, 20_000):
            yield from call(
                f"find_remedy/{key}/{steps}", forecasting.find_remedy, hp, norm, drive, FACTS, steps
            )


def _plans(family: str, hp: HyperParameters) -> Iterator[Value]:
    angle, pace = forecasting.settings_for_angle, forecasting.settings_for_time_constant
    for wanted in (1e-3, 0.3, 3.0, 4.0):
        yield from call(
            f"settings_for_angle/{family}/{wanted}", angle, hp, wanted, [0.03, 0.3], **GIVEN
        )
    for wanted in (50.0, 5e4, 0.01, -1.0):
        key = f"settings_for_time_constant/{family}/{wanted}"
        yield from call(key, pace, hp, wanted, [0.03, 0.3], **GIVEN)
    for factor in (4.0, 0.5, 0.0):
        key = f"scale_batch/{family}/{factor}"
        yield from call(key, forecasting.scale_batch, hp, factor, 500.0, **GIVEN)


def _shapes() -> Iterator[Value]:
    """Schedules of every shape, and the stages that they fall into."""
    hp = HyperParameters("sgd", lr=0.5, weight_decay=0.01, momentum=0.9)
    bare = HyperParameters("sgd", lr=0.5, momentum=0.9)
    steps = 2000
    plans = {
        "constant": Schedule.constant(hp, steps),
        "cosine": Schedule.cosine(hp, steps),
        "epochs": Schedule.cosine(hp, 20).in_epochs(100),
        "exponential": Schedule.exponential(hp, steps, 1e-3),
        "polynomial": Schedule.polynomial(hp, steps, 2.0, 0.01),
        "warmup": Schedule.linear_warmup(hp, 200, 0.1).then(Schedule.cosine(hp, steps - 200)),
        "wsd": Schedule.warmup_stable_decay(hp, steps, warmup=200, decay=500),
        "undecayed": Schedule.constant(bare, steps),
        "mixed": Schedule(hp, np.repeat([0.5, 0.0, 0.1], 500), np.repeat([0.0, 0.1, 4.0], 500)),
        "short": Schedule(hp, np.repeat([0.5, 0.1, 0.5], [10, 5, 100])),
    }
    for name, plan in plans.items():
        yield from call(f"forecast/{name}", forecasting.forecast, plan, 1.5, unit_grad_sq=7.0)
        yield from call(f"Schedule/{name}/lr", lambda plan=plan: plan.lr)
        yield from call(f"Schedule/{name}/at", plan.at, 57)
        yield from call(f"Schedule/{name}/stages", plan.stages)
    yield from call("forecast/at rest", forecasting.forecast, plans["cosine"])
    yield from call("forecast/negative", forecasting.forecast, plans["cosine"], -1.0)
    yield from call("settings_for_angle/default", forecasting.settings_for_angle, hp, 0.01)
    yield from call("settings_for_angle/bad lr", forecasting.settings_for_angle, hp, 0.01, [0.0])
    pace = forecasting.settings_for_time_constant
    yield from call("settings_for_time_constant/default", pace, hp, 100.0)
