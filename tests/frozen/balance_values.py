"""The balance law, step by step and over a window, on steps that do not obey it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from frozen.flat import Value, call
from frozen.grids import GIVEN, SETTINGS, grams
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
    for label in (k for k in SETTINGS if k.endswith("/mild")):
        yield from call(f"law_of/{label}", _form, SETTINGS[label])
        for name in ("balance", "balance_steps"):
            function, hp = getattr(theory, name), SETTINGS[label]
            yield from call(f"{name}/{label}/six", function, hp, six, **told)
            key = f"{name}/{label}/eight"
            yield from call(key, function, hp, eight, **told, first_step=0, correlation=19.0)
            yield from call(f"{name}/{label}/short", function, hp, eight[:4], **told)


def _form(hp: HyperParameters) -> object:
    return theory.law_of(hp).form(hp, theory.GroupFacts(**GIVEN))
