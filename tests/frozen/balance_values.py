"""The balance law, step by step and over a window, on steps that do not obey it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from frozen.flat import Value, call
from frozen.grids import GIVEN, SETTINGS, grams, walked
from spherical_motion import Gram, HyperParameters, theory
from spherical_motion.vocabulary.gram import FIELDS

__all__ = ["values"]

COUNT = 60


def values() -> Iterator[Value]:
    """All keys and values of the balance law."""
    six = grams((COUNT,), seed=5)
    rng = np.random.default_rng(6)
    eight = Gram(*(getattr(six, n) for n in FIELDS), *rng.standard_normal((2, COUNT)))
    decay, momentum = np.full(COUNT, 2e-2), np.repeat([0.9, 0.5], COUNT // 2)
    lr = np.repeat([0.1, 0.0, 0.05, 1e-6, 0.02, 0.03], COUNT // 6)
    told = {"steps": range(COUNT), "lr": lr, "weight_decay": decay, "momentum": momentum}
    yield from _rest()
    for label in (k for k in SETTINGS if k.endswith("/mild")):
        yield from call(f"law_of/{label}", _form, SETTINGS[label])
        for name in ("balance", "balance_steps"):
            function, hp = getattr(theory, name), SETTINGS[label]
            yield from call(f"{name}/{label}/six", function, hp, six, **told)
            key = f"{name}/{label}/eight"
            yield from call(key, function, hp, eight, **told, first_step=0, correlation=19.0)
            yield from call(f"{name}/{label}/short", function, hp, eight[:4], **told)


def _rest() -> Iterator[Value]:
    for label in (k for k in SETTINGS if k.endswith(("/mild", "/strong"))):
        hp = SETTINGS[label]
        for pull in (-1e-3, 1e-6, 1e-3, 0.3):
            key = f"{label}/{pull}"
            yield from call(f"pulled_angle/{key}", theory.pulled_angle, hp, pull, overlap=0.1)
            ends = (pull - 1e-4, pull + 1e-4)
            yield from call(f"pulled_angle_interval/{key}", theory.pulled_angle_interval, hp, *ends)
            told = {"step_ratio": 0.02, "correlation": 19.0}
            for power in (None, -0.3):
                yield from call(
                    f"pulled_norm/{key}/{power}",
                    theory.pulled_norm,
                    hp,
                    pull,
                    norm=2.0,
                    pull_power=power,
                    **told,
                )
                name = "steps_to_rest_with_pull"
                function = theory.steps_to_rest_with_pull
                yield from call(
                    f"{name}/{key}/{power}", function, hp, pull, pull_power=power, **told
                )
    for step, norm in ((0.1, 1.0), (0.1, 1.05), (0.1, 1.2), (2.0, 1.0)):
        yield from call(f"angle_of_step/{step}/{norm}", theory.angle_of_step, step, norm)
    walk = walked(SETTINGS["sgdm/strong"], 40)
    yield from call("radial_share/walk", theory.radial_share, walk)
    yield from call("boundary_error/walk", theory.boundary_error, walk, 0.9)
    hp = SETTINGS["sgdm/strong"]
    told = {"lr": hp.lr, "weight_decay": hp.weight_decay, "momentum": hp.momentum}
    yield from call("balance/walk", theory.balance, hp, walk[5:], steps=range(35), **told)
    rho = 0.8 ** np.arange(1, 20)
    name = "largest_correlation_sum"
    for momentum in (0.0, 0.8, 0.95):
        yield from call(f"{name}/{momentum}", theory.largest_correlation_sum, rho, momentum)


def _form(hp: HyperParameters) -> object:
    return theory.law_of(hp).form(hp, theory.GroupFacts(**GIVEN))
