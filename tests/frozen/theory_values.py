"""Closed forms of the angle, the norm and the approach, for every family of optimizers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from frozen.flat import Value, call, flatten
from frozen.grids import GIVEN, SETTINGS, WITHOUT_THEORY, grams, walked
from spherical_motion import HyperParameters, theory

__all__ = ["values"]

OF_SETTINGS = (
    "equilibrium_angle",
    "equilibrium_angle_approx",
    "equilibrium_norm",
    "equilibrium_norm_approx",
    "equilibrium_step_ratio",
    "forgetting_rate",
    "relaxation_rate",
)
"""Functions of the settings and what is given of a group."""

STEPS = np.array([0.0, 1.0, 30.0, 1e4, 1e7])
NORMS = np.array([0.05, 1.0, 4.0])
EXCESSES = np.array([0.2, 1.0, 50.0])


def values() -> Iterator[Value]:
    """All keys and values of the theory of equilibrium and transient."""
    for label, hp in {**SETTINGS, **WITHOUT_THEORY}.items():
        yield from _settings(label, hp)
        yield from _given(label, hp)
        yield from _bounds(label, hp)
    for label in ("sgdm/mild", "nesterov/mild", "adam/mild", "adamw/mild", "lion/mild"):
        yield from _described(label, SETTINGS[label])
    yield from _driven()
    yield from _laws()
    yield from _assumptions()


def _settings(label: str, hp: HyperParameters) -> Iterator[Value]:
    def family(hp: HyperParameters) -> str:
        return str(theory.family_of(hp).name)

    yield from call(f"family_of/{label}", family, hp)
    yield from call(f"relaxing_power/{label}", theory.relaxing_power, hp)
    yield from call(f"has_law_of_motion/{label}", theory.has_law_of_motion, hp)
    yield from call(f"excess_after_drop/{label}", theory.excess_after_drop, hp, 10.0)
    yield from call(f"damped_lr/{label}", theory.damped_lr, hp, [0.1, 0.2], [0.0, 0.9])
    yield from call(f"relative_gradient_at_rest/{label}", theory.relative_gradient_at_rest, hp)
    yield from call(f"minimal_steps_after_drop/{label}", theory.minimal_steps_after_drop, hp, 10.0)
    yield from call(
        f"minimal_steps_without_momentum/{label}", theory.minimal_steps_without_momentum, hp, 10.0
    )


def _given(label: str, hp: HyperParameters) -> Iterator[Value]:
    for name in OF_SETTINGS:
        yield from call(f"{name}/{label}", getattr(theory, name), hp, **GIVEN)
    for name, steps in (("accumulated_angle", STEPS), ("accumulated_angle_approx", STEPS)):
        yield from call(f"{name}/{label}", getattr(theory, name), hp, steps, **GIVEN)
        yield from call(f"{name}/{label}/4", getattr(theory, name), hp, 4, **GIVEN)
    yield from call(f"angle_at_excess/{label}", theory.angle_at_excess, hp, EXCESSES, **GIVEN)
    yield from call(f"excess_of/{label}", theory.excess_of, hp, NORMS, **GIVEN)
    yield from call(f"relaxed_excess/{label}", theory.relaxed_excess, hp, 20.0, STEPS, **GIVEN)
    yield from call(f"relaxed_excess/{label}/up", theory.relaxed_excess, hp, 0.1, 100, **GIVEN)
    for excess, within in ((20.0, 0.05), (0.1, 0.05), (1.01, 0.05), (5.0, 0.01)):
        key = f"steps_to_within/{label}/{excess}/{within}"
        yield from call(key, theory.steps_to_within, hp, excess, within, **GIVEN)
    for drop, within in ((10.0, None), (10.0, 0.05), (0.5, 0.05), (0.5, None)):
        key = f"steps_to_equilibrium/{label}/{drop}/{within}"
        yield from call(key, theory.steps_to_equilibrium, hp, drop, within, **GIVEN)
    yield from call(f"balance_terms/{label}", theory.balance_terms, hp, grams((3,)), **GIVEN)


def _bounds(label: str, hp: HyperParameters) -> Iterator[Value]:
    spread = {"spread": 1e-3, "overlap": 2e-4}
    yield from call(f"angle_floor/{label}", theory.angle_floor, hp, **spread)
    yield from call(f"angle_tolerance/{label}", theory.angle_tolerance, hp, **spread)
    yield from call(f"narrowest_minimum/{label}", theory.narrowest_minimum, hp)
    drive = {"variance": 1e-6, "lowest": 6.0}
    yield from call(f"angle_bound/{label}", theory.angle_bound, hp, **drive, unit_grad_sq=7.0)
    yield from call(f"norm_bound/{label}", theory.norm_bound, hp, STEPS, start=1e3, **drive)
    yield from call(f"burn_in_steps/{label}", theory.burn_in_steps, hp, 10.0, lowest=6.0)
    yield from call(f"norm_fourth/{label}", theory.norm_fourth, hp, NORMS, 1000.0, unit_grad_sq=7.0)
    yield from call(f"sde_gamma/{label}", theory.sde_gamma, hp, 3.0, STEPS, noise_trace=5.0)
    yield from call(
        f"effective_rate_flow/{label}", theory.effective_rate_flow, hp, 0.2, STEPS, unit_grad_sq=7.0
    )
    for name, extra in (("plain", {}), ("full", {"radial": 0.02, "moment": 0.3})):
        key = f"effective_learning_rate/{label}/{name}"
        yield from call(key, theory.effective_learning_rate, hp, NORMS, **extra)
    moment = theory.adam_moment_on_sphere
    yield from call(f"adam_moment_on_sphere/{label}", moment, hp, NORMS, [1.0, 2.0, 3.0], 50)


def _described(label: str, hp: HyperParameters) -> Iterator[Value]:
    """What a group's description may leave out, and what Nesterov's overlap changes."""
    variants = {
        "bare": {},
        "overlap": {"unit_grad_sq": 2.0, "overlap": 0.3},
        "opposed": {"unit_grad_sq": 2.0, "overlap": -0.4},
        "zero": {"unit_grad_sq": 0.0, "numel": 0.0},
        "large": {"unit_grad_sq": 1e6, "numel": 1e8, "unit_grad_rms": 10.0},
    }
    for name, given in variants.items():
        for function in OF_SETTINGS:
            key = f"{function}/{label}/{name}"
            yield from call(key, getattr(theory, function), hp, **given)


def _driven() -> Iterator[Value]:
    rng = np.random.default_rng(3)
    lr = np.repeat([0.1, 0.01, 0.0, 0.05], 15)
    decay, momentum = np.full(60, 2e-2), np.repeat([0.9, 0.5], 30)
    single, several = 1.0 + rng.random(60), 1.0 + rng.random((60, 3))
    for family in ("sgdm", "sgd", "damped", "nesterov", "sgdw", "adam", "adamw", "lion", "other"):
        hp = SETTINGS[f"{family}/mild"]
        given = {name: GIVEN[name] for name in ("numel", "correlation")}
        told = {"lr": lr, "weight_decay": decay, "momentum": momentum}
        key = f"driven_norm/{family}"
        yield from call(f"{key}/one", theory.driven_norm, hp, 2.0, **told, drive=single, **given)
        yield from call(f"{key}/flat", theory.driven_norm, hp, 2.0, **told, drive=3.0, span=40.0)
        start = [0.5, 2.0, 8.0]
        yield from call(
            f"{key}/three", theory.driven_norm, hp, start, **told, drive=several, **given
        )
        ratio = theory.driven_step_ratio_sq
        key = f"driven_step_ratio_sq/{family}"
        yield from call(key, ratio, hp, NORMS, lr=0.1, momentum=0.9, drive=[1.0, -1.0, 5.0])
        yield from call(f"{key}/given", ratio, hp, 2.0, lr=0.1, momentum=0.9, drive=4.0, **given)


def _laws() -> Iterator[Value]:
    hp = SETTINGS["sgdm/strong"]
    series = walked(hp, 12)
    told = {"lr": hp.lr, "weight_decay": hp.weight_decay, "momentum": hp.momentum}
    for family in ("sgd", "sgdm", "damped", "nesterov", "sgdw", "adamw"):
        other = SETTINGS[f"{family}/strong"]
        # These steps broke the law, so that the residual is not a rounding error.
        key = f"law_of_motion_residual/{family}"
        residual = theory.law_of_motion_residual
        yield from call(key, residual, other, grams((9,)), steps=range(9), **told, first_step=0)
        steps = [0, 1, 2, 5, 6, 7, 8, 11, 12]
        yield from call(f"{key}/gaps", residual, other, grams((9,)), steps=steps, **told)
        yield from call(f"balance_terms/walk/{family}", theory.balance_terms, other, series)


def _assumptions() -> Iterator[Value]:
    for family in ("sgd", "sgdm", "sgdm.6", "damped", "adamw"):
        for rates in ("mild", "strong"):
            hp = SETTINGS[f"{family}/{rates}"]
            series = walked(hp, 60, seed=1)
            for window in (10, 25, 100):
                key = f"check_assumptions/{family}/{rates}/{window}"
                yield from call(key, theory.check_assumptions, hp, series, window=window)
    rng = np.random.default_rng(4)
    drive = 5.0 + rng.random(100)
    for window in (1, 2, 20, 40, 101):
        key = f"drive_statistics/{window}"
        yield from call(key, theory.drive_statistics, drive, window=window)
    drive[::7] = np.nan
    found = theory.drive_statistics(drive, steps=np.arange(0, 300, 3), window=20)
    yield from flatten("drive_statistics/thinned", found)
