"""Whatever was recorded, the laws return and give no warning."""

from __future__ import annotations

import numpy as np
import pytest
from driven_weights import leaning, products
from faulty import sgd
from motions import motions_of

from spherical_motion.comparison.laws import (
    continuity_of,
    mend,
    radial_law_of,
    radial_pulls,
    scale_changes,
    silence,
    stale,
    step_law_of,
)
from spherical_motion.vocabulary import HyperParameters, Stage
from spherical_motion.vocabulary.gram import FIELDS

STEPS = 130
TOLD = {
    "sgd": {"class": "SGD"},
    "nesterov": {"class": "SGD", "nesterov": True},
    "decoupled": {"class": "SGD", "decoupled_weight_decay": True},
    "dampening": {"class": "SGD", "dampening": 0.5},
    "adamw": {"class": "AdamW", "betas": [0.9, 0.999]},
    "adam": {"class": "Adam", "betas": [0.9, 0.999]},
    "rmsprop": {"class": "RMSprop"},
    "lion": {"class": "Lion", "betas": [0.9, 0.99]},
    "other": {"class": "Mine"},
}


def hostile(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some numbers NaN, infinite, 0, negative, huge or tiny."""
    values = values.copy()
    for bad in (np.nan, np.inf, 0.0, -1.0, 1e300, 1e-300):
        values[rng.random(values.shape) < rng.choice([0.0, 0.01, 0.1])] = bad
    whole = rng.random(len(values)) < rng.choice([0.0, 0.2, 0.9])
    values[whole] = [1.0, 0.0, 0.0, *[np.nan] * (values.shape[1] - 3)]
    return values


@pytest.mark.parametrize("name", TOLD)
def test_hostile_records(tmp_path, name) -> None:
    rng = np.random.default_rng(sum(map(ord, name)))
    settings = [(0.05, 1e-3, 0.9)] * STEPS
    hp = HyperParameters("adamw", lr=1e-3, betas=(0.9, 0.999))
    adam = products(hp, settings, leaning(1), dimension=20).to_array((*FIELDS, "wp"))
    fine = np.column_stack([sgd(settings, dimension=20), adam[:, 6]])
    for run in range(5):
        values = {f"g{i}": hostile(fine if i % 2 else adam, rng) for i in range(3)}
        told = [
            (float(rng.choice([0.05, 0.0, 1e-300, -1.0])), 1e-3, float(rng.choice([0.9, 0.0, 1.0])))
            if rng.random() < 0.1 * (run % 3)
            else (0.05, 1e-3, 0.9)
            for _ in range(STEPS)
        ]
        sampled = sorted(rng.choice(STEPS, int(rng.integers(1, STEPS)), replace=False).tolist())
        motions = list(
            motions_of(
                tmp_path / f"r{run}",
                values,
                told,
                optimizer=TOLD[name],
                steps=None if run < 2 else sampled,
                kind="plain" if run % 2 else "scale",
                events=[("resumed", 50), ("rescaled", 70)],
            ).values()
        )
        pulls = radial_pulls(motions)
        scale_changes(motions)
        for motion in motions:
            for stage in (Stage(0, STEPS, None), Stage(40, 60, None), Stage(200, 300, None)):
                continuity_of(motion, stage)
                law = step_law_of(motion, stage)
                assert law.unknown or law.pairs > 0
                silence(motion, stage)
                stale(motion, stage)
                radial_law_of(motion, stage, pulls=pulls)
                mend(motion, stage)
