"""All public functions that take numbers, how to call each, and values that are no good numbers."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from spherical_motion import forecasting, simulate, sphere, theory, vocabulary
from spherical_motion.vocabulary import Gram, HyperParameters, Schedule, Slice

BAD: tuple[Any, ...] = (
    *(math.nan, math.inf, -math.inf, -1, -1.0, 0, 1e308, 1e-308, 2**63, 10**400),
    *("x", "1", b"1", None, [], [None], ["x"], {}, True, 1j, [1j], object()),
)

SGD = HyperParameters("sgd", lr=0.1, weight_decay=5e-3, momentum=0.9)
ADAMW = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9, beta2=0.99)
PLAIN = dataclasses.replace(SGD, momentum=0.0)
PLAN = Schedule.step_decay(SGD, 400, [200])
GRAM = Gram(*(np.full(400, x) for x in (1.0, -5e-5, 1e-4, 0.0, 1.0, -1e-3)))
PIECE = Slice("conv.weight", 0, 0, 4)

VALID: Mapping[str, Any] = {
    **{"hp": SGD, "gram": GRAM, "schedule": PLAN, "facts": {}, "self": None, "after": PLAN},
    **{"lr": 0.1, "weight_decay": 5e-3, "momentum": 0.9, "beta2": 0.99, "dampening": 0.0},
    **{"norm": 1.0, "norm0": 1.0, "steps": 40, "excess": 1.5, "excess0": 1.5, "within": 0.1},
    **{"unit_grad_sq": 1.0, "overlap": 0.0, "numel": 100, "unit_grad_rms": 0.1, "drive": 1.0},
    **{"correlation": 1.5, "update_sq": 1.0, "pull": 5e-3, "step_ratio": 0.05, "norm_ratio": 1.0},
    **{"low": 4e-3, "high": 6e-3, "spread": 0.1, "lowest": 0.5, "variance": 0.1, "lr_drop": 10.0},
    **{"lags": 3, "updates": np.eye(8), "autocorrelations": [1.0, 0.3, 0.1], "time": 2.0},
    **{"rate0": 0.1, "growth": 0.01, "radial": 0.1, "tangent": 0.1, "radius_sq": 1.0, "window": 50},
    **{
        "radius0": 1.0,
        "gamma0": 1.0,
        "noise_trace": 1.0,
        "start": 0,
        "dimension": 10,
        "angle": 0.1,
    },
    **{"failure": 0.1, "lrs": [0.1, 0.1], "weight_decays": [5e-3, 5e-3]},
    **{"factor": 2.0},
    **{"log_lrs": np.log([0.1, 0.1]), "norm_sq0": 1.0, "step_sq": np.full(5, 0.1), "seed": 0},
    **{"x": np.ones((3, 4)), "before": np.ones((3, 4)), "largest": 1e30, "steps_into_stage": 5},
    **{"diameter": 0.1, "normalized": True, "shape": (10,), "time_constant": 200.0, "span": 1.0},
    **{"steps_per_epoch": 100, "milestones": [10], "final_lr": 1e-3, "warmup": 5, "decay": 5},
    **{"step": 10, "parameter": "w", "axis": 0, "stop": 4, "name": "conv", "kind": "scale"},
    **{"optimizer": "sgd", "slices": (PIECE,), "cells": (), "angle0": 1.0, "every": 1, "batch": 1},
    **dict.fromkeys(("ww", "wd", "dd", "wg", "gg", "dg"), 1.0),
    **{"path": "plan.csv", "other": PIECE, "mean": 1.0, "period": 100.0},
}
"""A value of each parameter that has no default, by its name."""

SERIES = np.full(400, 0.1)
OVER_STEPS = {"steps": np.arange(400), "lr": SERIES, "weight_decay": SERIES / 20, "momentum": 0.9}

ITS_OWN: Mapping[str, Mapping[str, Any]] = {
    "adam_moment_on_sphere": {
        "hp": dataclasses.replace(ADAMW, optimizer="adam", decoupled=False),
        "norm": SERIES,
        "unit_grad_sq": SERIES,
    },
    "drive_statistics": {"drive": SERIES},
    "driven_norm": {"lr": SERIES, "weight_decay": SERIES / 20, "momentum": 9 * SERIES},
    "effective_learning_rate": {"radial": 0.1},
    **{name: {"hp": PLAIN} for name in ("effective_rate_flow", "sde_gamma")},
    **{name: {"unit_grad_sq": 1.0} for name in ("equilibrium_norm", "equilibrium_norm_approx")},
    "excess_of": {"unit_grad_sq": 1.0},
    "equivalent_weight_decay": {"growth": 1.01},
    "escape_bound": {"angle": 0.01},
    "Schedule": {"lr": SERIES},
    "balance": OVER_STEPS,
    "balance_steps": OVER_STEPS,
    "law_of_motion_residual": OVER_STEPS,
    "image_step": {"momentum": 0.1 * np.ones((3, 4))},
    "updates_between": {"after": 0.9 * np.ones((3, 4))},
    "minimal_steps_without_momentum": {"hp": PLAIN},
    "effective_rate_recursion": {"lr": SERIES, "unit_grad_sq": SERIES, "weight_decay": SERIES},
    "radius_sq_by_taylor": {"lr": SERIES, "unit_grad_sq": SERIES},
    "norm_bound": {"start": 1.0},
    "InvariantGroup": {"numel": 4},
    "then": {"after": PLAN},
}
"""Values that one function needs instead."""

ONLY_MADE_HERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("AngleBound", "AssumptionCheck", "Balance", "BalanceSteps", "DecayedSchedule"),
        "a result that a function of theory returns",
    ),
    **dict.fromkeys(
        ("DriveStatistics", "ExponentialRates", "ExponentialSchedule", "ImageStep"),
        "a result that a function of theory returns",
    ),
    "RecentredSchedule": "a result that a function of theory returns",
    **dict.fromkeys(("NormRun", "RandomWalk", "ToyRun", "WellRun"), "a result of a simulation"),
    **dict.fromkeys(
        ("BatchScaling", "Forecast", "Remedy", "Setting", "StageForecast"), "a forecast's result"
    ),
    **dict.fromkeys(("Stage", "Verdict", "Reason", "Meaning"), "a result of comparing"),
    **dict.fromkeys(
        ("Family", "BalanceLaw", "UpdateRule"), "a base class for the theory's authors"
    ),
    "GroupFacts": "None means unknown; each formula checks the facts that it needs",
    "Gram": "measured products of any value, as they were measured",
}
"""Classes whose numbers the library computes, and why users' numbers do not reach them."""

_TAKES = re.compile(r"\b(float|int|Number|Fact|Rate|ArrayLike|Array|NDArray)\b")


class Entrance(NamedTuple):
    """A public function with the parameters that take numbers."""

    name: str
    call: Callable[..., object]
    arguments: dict[str, Any]
    numbers: tuple[str, ...]


def entrances() -> Iterator[Entrance]:
    """All public functions, constructors and class methods that take numbers."""
    for room in (theory, simulate, sphere, forecasting, vocabulary):
        names = getattr(room, "__all__", None) or [
            name for name, value in vars(room).items() if inspect.isfunction(value)
        ]
        for name in sorted(names):
            value = getattr(room, name)
            if name.startswith("_") or name in ONLY_MADE_HERE or not callable(value):
                continue
            if inspect.isclass(value) and not hasattr(value, "__members__"):
                yield from _of_class(value)
            elif inspect.isfunction(value):
                yield from _of(value, f"{room.__name__.rpartition('.')[2]}.{name}")


def _of_class(cls: type) -> Iterator[Entrance]:
    yield from _of(cls, cls.__name__)
    for name, value in vars(cls).items():
        if isinstance(value, classmethod):
            yield from _of(getattr(cls, name), f"{cls.__name__}.{name}")
        elif inspect.isfunction(value) and not name.startswith("_") and cls is Schedule:
            yield from _of(getattr(PLAN, name), f"{cls.__name__}.{name}")


def _of(call: Callable[..., object], name: str) -> Iterator[Entrance]:
    parameters = inspect.signature(call).parameters
    numbers = tuple(n for n, p in parameters.items() if _takes_numbers(str(p.annotation)))
    if numbers:
        own = ITS_OWN.get(name.rpartition(".")[2], {})
        arguments = {
            n: own.get(n, VALID.get(n))
            for n, p in parameters.items()
            if n in own or p.default is p.empty
        }
        yield Entrance(name, call, arguments, numbers)


def _takes_numbers(annotation: str) -> bool:
    return bool(_TAKES.search(annotation)) and not re.search("Callable|Mapping", annotation)
