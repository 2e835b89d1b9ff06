"""Which setting mends the balance law: simulated Adams with one setting not as declared."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from driven_weights import leaning, products
from motions import motions_of

from spherical_motion.comparison.laws import mend
from spherical_motion.vocabulary import HyperParameters, Stage
from spherical_motion.vocabulary.gram import FIELDS

STEPS = 800
DECLARED = (3e-3, 0.1, 0.9)
NAMES = ("lr", "weight_decay", "momentum")
CLASSES = {"adamw": "AdamW", "adam": "Adam", "rmsprop": "RMSprop", "nadam": "NAdam"}


@cache
def walk(optimizer: str, settings: tuple[float, ...], beta2: float, seed: int = 3) -> np.ndarray:
    momentum = settings[2]
    hp = HyperParameters(optimizer, lr=settings[0], momentum=momentum, beta2=beta2)
    gram = products(hp, [settings] * STEPS, leaning(seed, 0.02), dimension=200)
    return gram.to_array((*FIELDS, "wp", "ws"))


def mends(directory, optimizer="adamw", columns=7, beta2=0.999, seed=3, **real):
    settings = tuple(real.get(n, x) for n, x in zip(NAMES, DECLARED, strict=True))
    values = walk(optimizer, settings, beta2, seed)[:, :columns]
    told = {"class": CLASSES[optimizer], "betas": [DECLARED[2], beta2]}
    if optimizer == "rmsprop":
        told = {"class": "RMSprop"}
    found = motions_of(
        directory / "run", {"a": values}, [DECLARED] * STEPS, optimizer=told, kind="plain",
        dtype="float64",
    )  # fmt: skip
    return mend(found["a"], Stage(0, STEPS, None))


@pytest.mark.parametrize("columns", [7, 8])
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("momentum", 0.95),
        ("momentum", 0.88),
        ("lr", 4.5e-3),
        ("lr", 1.5e-3),
        ("weight_decay", 0.05),
        ("weight_decay", 0.2),
    ],
)
def test_adamw_names_the_one_setting_and_its_value(tmp_path, setting, value, columns) -> None:
    found = mends(tmp_path, columns=columns, **{setting: value})
    assert [m.setting for m in found] == [setting]
    only = found[0]
    assert only.value.value == pytest.approx(value, rel=1e-6 if columns == 8 else 0.02)
    assert only.value.low <= value + 1e-9
    assert only.value.high >= value - 1e-9
    assert only.ratio == pytest.approx(1.0, abs=1e-6 if columns == 8 else 0.02)
    assert abs(only.before - 1.0) > 0.05
    assert only.left < (1e-4 if columns == 8 else 0.2)


@pytest.mark.parametrize("beta2", [0.999, 0.99])
@pytest.mark.parametrize("columns", [7, 8])
@pytest.mark.parametrize("optimizer", CLASSES)
def test_nothing_mends_what_holds(tmp_path, optimizer, columns, beta2) -> None:
    for seed in range(3):
        directory = tmp_path / str(seed)
        columns = 7 if optimizer == "nadam" else columns
        assert mends(directory, optimizer, columns, beta2, seed) == ()


def test_adam_with_l2_cannot_tell_the_rate_from_the_decay_and_names_both(tmp_path) -> None:
    rate, decay = mends(tmp_path / "lr", "adam", lr=4.5e-3)
    assert (rate.setting, decay.setting) == ("lr", "weight_decay")
    assert rate.value.value == pytest.approx(4.5e-3, rel=0.02)
    assert math.isnan(decay.value.value)
    (only,) = mends(tmp_path / "beta", "adam", momentum=0.95)
    assert only.setting == "momentum"
    assert only.value.value == pytest.approx(0.95, abs=2e-3)


def test_a_balance_off_for_another_cause_is_not_mended(tmp_path) -> None:
    """The gradient that was recorded is not the one that the optimizer got."""
    values = walk("adamw", DECLARED, 0.999)[:, :7].copy()
    rng = np.random.default_rng(0)
    values[:, 6] += 5e-3 * values[:, 0] * (1.0 + 5.0 * rng.standard_normal(STEPS))
    told = {"class": "AdamW", "betas": [0.9, 0.999]}
    found = motions_of(
        tmp_path / "run", {"a": values}, [DECLARED] * STEPS, optimizer=told, kind="plain"
    )
    assert mend(found["a"], Stage(0, STEPS, None)) == ()


def test_too_few_steps_mend_nothing(tmp_path) -> None:
    values = walk("adamw", (3e-3, 0.1, 0.95), 0.999)[:40, :7]
    told = {"class": "AdamW", "betas": [0.9, 0.999]}
    found = motions_of(tmp_path / "run", {"a": values}, [DECLARED] * 40, optimizer=told)
    assert mend(found["a"], Stage(0, 40, None)) == ()


@pytest.mark.parametrize("told", [{"class": "Lion", "betas": [0.9, 0.99]}, {"class": "Mine"}])
def test_optimizers_without_a_law_have_nothing_to_mend(tmp_path, told) -> None:
    for name, settings in (("a", DECLARED), ("b", (math.inf, 0.1, 0.9))):
        values = walk("adamw", DECLARED, 0.999)[:, :7]
        found = motions_of(tmp_path / name, {"a": values}, [settings] * STEPS, optimizer=told)
        assert mend(found["a"], Stage(0, STEPS, None)) == ()
