"""Every number that a steering tool or the measuring room takes: an error of ours, or it works."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from spherical_motion import measure, optim
from spherical_motion.errors import SphericalMotionError
from spherical_motion.invariance import find_groups

BAD: tuple[Any, ...] = (
    *(math.nan, math.inf, -1, -1.0, 1e308, 2**63, 10**400, "x", [], {}, True, 1j, object()),
)

torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
INPUTS = torch.randn(16, 4, dtype=torch.float64)
GROUPS = find_groups(NET, INPUTS)


def sgd(**settings: float) -> torch.optim.SGD:
    given = {"lr": 0.1, "weight_decay": 1e-3, "momentum": 0.9} | settings
    return torch.optim.SGD(NET.parameters(), **given)


def to_equilibrium(**given: Any) -> object:
    before = [p.detach().clone() for p in NET.parameters()]
    try:
        return optim.scale_to_equilibrium(
            *(NET, sgd(), GROUPS, [INPUTS], lambda batch: NET(batch).square().sum()), **given
        )
    finally:
        with torch.no_grad():
            for parameter, value in zip(NET.parameters(), before, strict=True):
                parameter.copy_(value)


def gram(**given: Any) -> object:
    slices = given.pop("slices", [[0, 0, 4]])
    return measure.CpuGram([torch.zeros(4)], slices, **given)


CALLS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "AdamG": (
        lambda **given: optim.AdamG(NET, GROUPS, **given),
        ("lr", "betas", "eps", "radius", "max_defect"),
    ),
    "AdaGradG": (
        lambda **given: optim.AdaGradG(NET, GROUPS, **given),
        ("lr", "beta", "moment", "radius", "max_defect"),
    ),
    "AdaGradG.from_sgd": (
        lambda **given: optim.AdaGradG.from_sgd(NET, GROUPS, **{"lr": 0.1} | given),
        ("lr", "weight_decay", "radius", "max_defect"),
    ),
    "AdaGradG.sgd_on_sphere": (
        lambda **given: optim.AdaGradG.sgd_on_sphere(
            **{"lr": 0.1, "weight_decay": 0.01, "norm": 1.0} | given
        ),
        ("lr", "weight_decay", "norm"),
    ),
    "ExponentialSchedule": (
        lambda **given: optim.ExponentialSchedule(NET, sgd(), GROUPS, **given),
        ("largest", "max_defect"),
    ),
    "ProportionalDecay": (
        lambda **given: optim.ProportionalDecay(NET, sgd(), GROUPS, **given),
        ("lr_max", "max_defect"),
    ),
    "RescaleOnDecay": (
        lambda **given: optim.RescaleOnDecay(NET, sgd(), GROUPS, INPUTS, **given),
        ("threshold", "max_defect", "max_defect_after"),
    ),
    "Rotational": (
        lambda **given: optim.Rotational(NET, sgd(), GROUPS, **given),
        ("correlation", "max_defect"),
    ),
    "scale_to_equilibrium": (
        to_equilibrium,
        ("lr", "max_defect", "unit_grad_sq", "overlap", "numel", "correlation"),
    ),
    "rescale_statistics_": (
        lambda **given: optim.rescale_statistics_(NET, GROUPS, example_inputs=INPUTS, **given),
        ("factors",),
    ),
    "bind": (lambda **given: optim.bind(NET, GROUPS, **given), ("max_defect",)),
    "measure.CpuGram": (gram, ("threads", "products", "slices")),
    "measure.Preconditioner.flat": (
        lambda **given: measure.Preconditioner.flat(**{"scale": 1.0} | given),
        ("scale", "decay"),
    ),
}
"""How to call each tool with some numbers, and the names of those that it takes."""

CASES = [(call, name) for call, (_, names) in CALLS.items() for name in names]


@pytest.mark.parametrize(("call", "name"), CASES, ids=lambda value: value)
def test_bad_numbers_are_refused_or_work(call: str, name: str) -> None:
    for bad in BAD:
        with contextlib.suppress(SphericalMotionError):
            made = CALLS[call][0](**{name: bad})
            if callable(close := getattr(made, "close", None)):
                close()


def test_each_tool_is_here() -> None:
    taken = {name.partition(".")[0] for name in CALLS}
    without_numbers = {"EquilibriumStart", "Members", "Piece", "SgdOnSphere", "disjoint_groups"}
    without_numbers |= {"equilibrium_norm_ratio", "split_param_groups", "scale_state_"}
    assert {name for name in optim.__all__ if name[0] != "_"} <= taken | without_numbers
