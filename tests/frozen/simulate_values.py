"""The motion stepped one by one: norms under a drive, random walks and the two toy problems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from frozen.flat import Value, call
from frozen.grids import SETTINGS
from spherical_motion import HyperParameters, Schedule, simulate

__all__ = ["values"]


def values() -> Iterator[Value]:
    """All keys and values of the room."""
    yield from _drives()
    yield from _norms()
    yield from _through()
    yield from _walks()
    yield from _toy()


def _drives() -> Iterator[Value]:
    steps = [0, 10, 157_080]
    for name, drive in simulate.WAN2021_DRIVES.items():
        yield from call(f"WAN2021_DRIVES/{name}", lambda drive=drive: drive)
        yield from call(f"Drive/{name}/expected", drive.expected, steps)
    for label, told in (
        ("arrays", {"mean": [5.0, 9.0], "sway": 1.0, "period": 50.0}),
        ("negative", {"mean": 1.0, "noise": 2.0}),
        ("noise", {"mean": 1.0, "noise": -1.0}),
        ("period", {"mean": 1.0, "period": 0.0}),
        ("nan", {"mean": np.nan}),
    ):
        yield from call(f"Drive/{label}", simulate.Drive, **told)


def _norms() -> Iterator[Value]:
    noisy = simulate.Drive(10.0, noise=3.0, sway=1.0, period=100.0)
    drives = {"plain": 10.0, "noisy": noisy, "array": 5.0 + np.sin(np.arange(900.0))}
    for name, drive in drives.items():
        for lr, decay in ((0.1, 1e-3), (0.5, 0.1), (1.0, 1.5), (2.0, 2.0), (0.0, 0.1)):
            key = f"{name}/{lr}/{decay}"
            told = {"norm0": 1.5, "steps": 900, "every": 100, "seed": 3}
            yield from call(f"norm_sgd/{key}", simulate.norm_sgd, lr, decay, drive, **told)
            for momentum in (0.0, 0.9):
                full = f"norm_sgdm/{key}/{momentum}"
                yield from call(full, simulate.norm_sgdm, lr, decay, momentum, drive, **told)
    rates, several = [0.1, 0.3], simulate.Drive([5.0, 9.0], noise=1.0)
    told = {"norm0": [1.0, 2.0], "steps": 500}
    yield from call("norm_sgd/several", simulate.norm_sgd, rates, 1e-2, several, **told)
    yield from call("norm_sgd/printed", simulate.norm_sgd, 0.1, 0.5, 1.0, **told, printed=True)
    yield from call("norm_sgd/printed/far", simulate.norm_sgd, 1.0, 0.5, 1.0, **told, printed=True)
    yield from call("norm_sgdm/several", simulate.norm_sgdm, rates, 1e-2, 0.8, several, **told)
    for label, wrong in (
        ("steps", {"steps": 0}),
        ("norm0", {"norm0": 0.0}),
        ("every", {"every": 0}),
    ):
        yield from call(f"norm_sgd/{label}", simulate.norm_sgd, 0.1, 0.1, 1.0, **{**told, **wrong})
    falling = np.full(500, -50.0)
    yield from call("norm_sgdm/falling", simulate.norm_sgdm, 0.5, 0.1, 0.5, falling, **told)


def _through() -> Iterator[Value]:
    for family in ("sgd", "sgdm", "damped", "nesterov", "sgdw", "adamw"):
        hp = SETTINGS[f"{family}/mild"]
        plan = Schedule.step_decay(hp, steps=800, milestones=[300, 600])
        yield from call(
            f"norm_through/{family}", simulate.norm_through, plan, 10.0, norm0=2.0, every=90
        )
    hp = HyperParameters("sgd", lr=0.5, weight_decay=0.1, momentum=0.9)
    plan = Schedule.linear_warmup(hp, 100).then(Schedule.cosine(hp, 300))
    noisy = simulate.Drive(10.0, noise=4.0)
    yield from call("norm_through/cosine", simulate.norm_through, plan, noisy, norm0=[1.0, 3.0])


def _walks() -> Iterator[Value]:
    for family in ("sgd", "sgdm", "damped", "nesterov", "sgdw", "adam", "adamw", "lion", "other"):
        for rates in ("mild", "small", "still"):
            hp = SETTINGS[f"{family}/{rates}"]
            told = {"shape": (12,), "steps": 40, "burn_in": 10, "lags": 3, "seed": 2}
            yield from call(f"random_walk/{family}/{rates}", simulate.random_walk, hp, **told)
    hp = SETTINGS["sgdm/mild"]
    told = {"shape": (4, 3), "steps": 30, "replicas": 2, "variation": 0.5, "norm0": 2.0}
    profile = 1.0 + np.arange(12.0).reshape(4, 3)
    yield from call("random_walk/uneven", simulate.random_walk, hp, **told, profile=profile)
    yield from call("random_walk/profile", simulate.random_walk, hp, **told, profile=[1.0])
    yield from call("random_walk/lags", simulate.random_walk, hp, **told, lags=4)
    yield from call("random_walk/scalar", simulate.random_walk, hp, shape=(1,), steps=3)
    muon = SETTINGS["muon/mild"]
    yield from call("random_walk/muon", simulate.random_walk, muon, shape=(4, 3), steps=12)
    yield from call("random_walk/muon/flat", simulate.random_walk, muon, shape=(12,), steps=12)


def _toy() -> Iterator[Value]:
    told = {"dimension": 4, "steps": 120, "every": 20, "replicas": 2, "batch": 3, "beyond": 0.5}
    for normalized in (False, True):
        for decay in (0.0, 0.05, -1.0):
            key = f"toy_classifier/{normalized}/{decay}"
            yield from call(
                key,
                simulate.toy_classifier,
                normalized=normalized,
                lr=0.5,
                weight_decay=decay,
                **told,
            )
    rates = np.linspace(0.5, 0.1, 120)
    yield from call(
        "toy_classifier/rates",
        simulate.toy_classifier,
        normalized=True,
        lr=rates,
        weight_decay=0.01,
        **{**told, "angle0": 0.3, "norm0": 2.0},
    )
    for wrong in ({"dimension": 1}, {"steps": 0}, {"angle0": 4.0}, {"norm0": 0.0}):
        key = f"toy_classifier/{next(iter(wrong))}"
        told_wrong = {"normalized": True, "lr": 0.1, "weight_decay": 0.0, **told, **wrong}
        yield from call(key, simulate.toy_classifier, **told_wrong)
    for momentum in (0.0, 0.5, 1.0):
        yield from call(
            f"narrow_well/{momentum}",
            simulate.narrow_well,
            [0.03, 0.3, 0.9],
            lr=0.1,
            weight_decay=0.05,
            momentum=momentum,
            steps=400,
            seed=1,
        )
    yield from call("narrow_well/bad", simulate.narrow_well, 0.0, lr=0.1, weight_decay=0.1, steps=3)
