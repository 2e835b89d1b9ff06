"""Many groups at once say what each of them says alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from alike_reference import differences, evidence_one_by_one
from driven_weights import leaning, products
from faulty import cosine, sgd

from spherical_motion import records
from spherical_motion.comparison.alike import Alike, in_parts
from spherical_motion.comparison.motion import motion_of
from spherical_motion.comparison.whole.streaming import evidence_of
from spherical_motion.vocabulary import HyperParameters
from spherical_motion.vocabulary.gram import PRODUCTS

# Relative. Many groups at once lie in memory in another order than one does, and blocks of other
# sizes in yet another; numpy adds along steps in the order of the memory. So sums differ in their
# last bits, and no more than that: 1e-12 is some thousand of them.
ORDER = 1e-12

STAGES = [(0.1, 5e-3, 0.9)] * 300 + [(0.01, 5e-3, 0.9)] * 200
PLAIN = [(0.05, 1e-2, 0.0)] * 400
WAVE = cosine(0.1, 5e-3, 0.9, 300)


def alike_sgd(settings: Sequence[tuple[float, ...]], **more) -> dict[str, np.ndarray]:
    return {
        f"g{seed}": sgd(settings, dtype=np.float32, norm0=1.0 + 0.1 * seed, seed=seed, **more)
        for seed in range(5)
    }


def with_one(odd: Callable[[dict[str, np.ndarray]], None]) -> dict[str, np.ndarray]:
    found = alike_sgd(STAGES)
    odd(found)
    return found


def dead(found: dict[str, np.ndarray]) -> None:
    found["g1"][100:, [1, 2, 3, 4, 5]] = 0.0


def without_gradient(found: dict[str, np.ndarray]) -> None:
    found["g0"][50:80, [3, 4, 5]] = np.nan
    found["g0"][50:80, [1, 2]] = 0.0


def overflowed(found: dict[str, np.ndarray]) -> None:
    found["g2"][250] = np.inf


def written(found: dict[str, np.ndarray]) -> None:
    found["g3"][200:, :3] *= 1.01


def scaled(found: dict[str, np.ndarray]) -> None:
    for values in found.values():
        values[150:, 3:] *= [8.0, 64.0, 8.0]


RUNS = {
    "two stages": (alike_sgd(STAGES), STAGES, {}),
    "without momentum": (alike_sgd(PLAIN), PLAIN, {}),
    "a rate that varies": (alike_sgd(WAVE), WAVE, {}),
    "decoupled": (alike_sgd(STAGES, decoupled=True), STAGES, {"class": "SGDW"}),
    "nesterov": (alike_sgd(STAGES, nesterov=True), STAGES, {"nesterov": True}),
    "dampening": (alike_sgd(STAGES, dampening=0.5), STAGES, {"dampening": 0.5}),
    "a hidden decay": (alike_sgd(STAGES, inward=1e-3), STAGES, {}),
    "another momentum": (alike_sgd([(0.1, 5e-3, 0.8)] * 500), STAGES, {}),
    "one dead": (with_one(dead), STAGES, {}),
    "one without gradient": (with_one(without_gradient), STAGES, {}),
    "one with an overflow": (with_one(overflowed), STAGES, {}),
    "one written": (with_one(written), STAGES, {}),
    "all scaled": (with_one(scaled), STAGES, {}),
}


def compared(directory: Path, limit: int = 1 << 28) -> None:
    read = records.read(directory)
    expected = evidence_one_by_one(read)
    found = evidence_of(read, 0.1, limit).evidence
    assert len(found) == len(expected) > 0
    for (number, one), (wanted, other) in zip(found, expected, strict=True):
        assert number == wanted
        for path, apart in differences(one, other):
            assert isinstance(apart, float), (path, apart)
            assert apart <= ORDER, (path, apart)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("kind", ["scale", "plain"])
def test_evidence_of_all_at_once_is_that_of_one_by_one(name, kind, write_run) -> None:
    values, settings, optimizer = RUNS[name]
    compared(write_run(values, settings, kind=kind, optimizer=optimizer, numel=200))


@pytest.mark.parametrize("name", ["two stages", "a hidden decay", "one dead", "all scaled"])
def test_a_run_in_many_blocks_has_the_same_evidence(name, write_run) -> None:
    values, settings, optimizer = RUNS[name]
    directory = write_run(values, settings, optimizer=optimizer, numel=200)
    compared(directory, limit=1)
    compared(directory, limit=3 * values["g0"].nbytes)


@pytest.mark.parametrize("optimizer", ["AdamW", "Adam", "RMSprop", "NAdam"])
@pytest.mark.parametrize("kind", ["scale", "plain"])
def test_adaptive_optimizers_too(optimizer, kind, write_run) -> None:
    told = {"class": optimizer, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.999]}
    told |= {"momentum": 0.9}
    hp, settings = HyperParameters.from_param_group(optimizer, told), [(1e-3, 0.1, 0.9)] * 300
    values = {
        f"g{i}": products(hp, settings, leaning(i), seed=i).to_array(PRODUCTS) for i in range(3)
    }
    compared(write_run(values, settings, kind=kind, optimizer=told, numel=30))


def test_steps_that_were_not_sampled(write_run) -> None:
    values = alike_sgd(STAGES)
    steps = [i for i in range(500) if i % 50 < 30]
    compared(write_run(values, STAGES, steps=steps, numel=200))


@pytest.mark.parametrize("name", ["two stages", "without momentum", "one written", "nesterov"])
def test_motions_are_the_same_to_the_last_bit(name, write_run) -> None:
    values, settings, optimizer = RUNS[name]
    read = records.read(write_run(values, settings, optimizer=optimizer, numel=200))
    together = 0
    for indices, part in in_parts(read, range(5)):
        for i, index in enumerate(indices):
            alone = motion_of(read, index)
            motion = part.alone(i) if isinstance(part, Alike) else part
            together += isinstance(part, Alike)
            for name in ("turned", "loss", "grown", "residual", "drive", "angle", "written"):
                assert np.array_equal(getattr(motion, name), getattr(alone, name), equal_nan=True)
    assert together >= 4
