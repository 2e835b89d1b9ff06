"""A small run to write and read: two layers, the second with a bias."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from spherical_motion.records import RunInfo
from spherical_motion.vocabulary import InvariantGroup, Slice

SGD = {"class": "SGD", "optimizer": 0, "lr": 0.1, "weight_decay": 5e-4, "momentum": 0.9}


def build_info(**changes: object) -> RunInfo:
    conv = Slice("conv.weight", 0, 0, 8)
    weight, bias = Slice("fc.weight", 0, 0, 4), Slice("fc.bias", 0, 0, 4)
    fields: dict[str, object] = {
        "groups": (
            InvariantGroup("conv", "scale", (conv,), cells=((conv,),), numel=72, defect=1e-7),
            InvariantGroup("fc", "scale", (weight, bias), cells=((weight, bias),), numel=36),
        ),
        "param_groups": (SGD, {**SGD, "weight_decay": 0.0}),
        "slice_param_group": (0, 0, 1),
        "created": "2024-01-01T00:00:00+00:00",
    }
    return RunInfo(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def make_info() -> Callable[..., RunInfo]:
    """`make_info(every=2)`: the small run with something changed."""
    return build_info


@pytest.fixture
def info() -> RunInfo:
    """Groups conv (one slice) and fc (weight and bias, the bias not decayed)."""
    return build_info()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240)


@pytest.fixture
def settings() -> NDArray[np.float64]:
    """What SGD was told about the two param groups: lr, weight decay, momentum, no β2."""
    return np.array([[0.1, decay, 0.9, np.nan] for decay in (5e-4, 0.0)])
