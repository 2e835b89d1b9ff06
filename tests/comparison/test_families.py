"""Runs of every optimizer, held against its own theory from the six products alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import uncorrelated_gradient, walk
from simulated import constant

from spherical_motion import theory
from spherical_motion.comparison import compare
from spherical_motion.vocabulary import HyperParameters, Suspect, VerdictKind

STEPS, NUMEL = 3000, 400

SGD = {"class": "SGD"}
RUNS = {
    "Nesterov": (SGD | {"nesterov": True}, 0.1, 0.02, 0.9),
    "decoupled": (SGD | {"decoupled_weight_decay": True}, 0.1, 0.05, 0.9),
    "dampened": (SGD | {"dampening": 0.5}, 0.2, 0.02, 0.9),
    "Lion": ({"class": "Lion", "betas": [0.9, 0.99]}, 1e-3, 3.0, 0.9),
    "Adam": ({"class": "Adam", "betas": [0.9, 0.98]}, 1e-2, 1e-2, 0.9),
    "Muon": ({"class": "Muon", "nesterov": True}, 1e-2, 0.5, 0.9),
}
KNOWN = {"unit_grad_sq": 1.0, "numel": NUMEL, "unit_grad_rms": 0.05}


def run_of(name: str, write_run, lr: float = 1.0, heavier: float = 1.0, **kwargs):
    """One group of `name`'s run; its rate times `lr`, its first norm times `heavier`."""
    told, rate, weight_decay, momentum = RUNS[name]
    settings = constant(lr * rate, weight_decay, momentum, STEPS)
    group = told | {"lr": lr * rate, "weight_decay": weight_decay, "momentum": momentum}
    hp = HyperParameters.from_param_group(told["class"], group)
    norm0 = 1.0 if name == "Muon" else theory.equilibrium_norm(hp, **KNOWN)
    scales = np.full(NUMEL, 0.05) if "betas" in told else None
    run = walk(hp, STEPS, norm0=heavier * norm0, dimension=NUMEL, scales=scales, **kwargs)
    directory = write_run({"conv": run.products}, settings, optimizer=told, numel=NUMEL)
    return compare(directory)["conv"]


@pytest.mark.parametrize("name", [name for name in RUNS if name != "Muon"])
def test_a_settled_run_is_recognised(name: str, write_run) -> None:
    row = run_of(name, write_run)
    assert row.verdict.kind is VerdictKind.IN_EQUILIBRIUM, row.verdict
    assert row.ratio == pytest.approx(1.0, abs=0.02)
    assert row.verdict.evidence["step_law"] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", ["Nesterov", "decoupled", "dampened"])
def test_steps_of_sgd_obey_their_law_of_motion(name: str, write_run) -> None:
    assert run_of(name, write_run).verdict.evidence["residual"] < 1e-9


@pytest.mark.parametrize("name", ["Nesterov", "decoupled", "dampened", "Lion", "Adam"])
def test_a_heavy_group_is_followed_on_its_way(name: str, write_run) -> None:
    row = run_of(name, write_run, lr=0.01, heavier=2.0)
    assert row.verdict.kind is VerdictKind.APPROACHING
    assert row.measured < 0.8 * row.equilibrium
    assert row.ratio == pytest.approx(1.0, abs=0.03)
    assert row.verdict.evidence["steps_more"] > 0


def test_told_the_wrong_kind_of_momentum_the_steps_differ(write_run) -> None:
    told, lr, weight_decay, momentum = RUNS["Nesterov"]
    settings = constant(lr, weight_decay, momentum, STEPS)
    hp = HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum)
    norm0 = theory.equilibrium_norm(hp, unit_grad_sq=1.0)
    products = walk(hp, STEPS, norm0=norm0, dimension=NUMEL).products
    row = compare(write_run({"conv": products}, settings, optimizer=told))["conv"]
    assert row.verdict.kind is VerdictKind.STEP_DIFFERS
    assert "those of heavy-ball momentum" in row.verdict.reason
    assert row.alarm


def test_nesterov_is_predicted_with_the_overlap_its_gradients_have(write_run) -> None:
    free = uncorrelated_gradient(np.random.default_rng(0))

    def along(t: int, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        g = free(t, w, v)
        across = v - (v @ w) / (w @ w) * w
        size = across @ across
        return g + (0.2 * math.sqrt((g @ g) / size) if size > 0 else 0.0) * across

    row = run_of("Nesterov", write_run, gradient=along)
    assert row.verdict.kind is VerdictKind.IN_EQUILIBRIUM
    assert row.ratio == pytest.approx(1.0, abs=0.01)
    naive = theory.equilibrium_angle(row.stage.hp)
    assert row.equilibrium != pytest.approx(naive, rel=0.02)


def test_muon_is_recorded_and_not_predicted(write_run) -> None:
    row = run_of("Muon", write_run)
    assert row.verdict.kind is VerdictKind.NO_THEORY
    assert "no prediction from records alone" in row.verdict.reason
    assert math.isfinite(row.measured)
    assert math.isnan(row.predicted)


def test_adam_names_what_its_prediction_takes_for_granted(write_run) -> None:
    told, lr, weight_decay, beta1 = RUNS["Adam"]
    scales = np.concatenate([np.full(NUMEL // 2, 0.002), np.full(NUMEL // 2, 0.0707)])
    hp = HyperParameters("adam", lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))
    known = {"numel": NUMEL, "unit_grad_rms": float(scales.mean())}
    norm0 = theory.equilibrium_norm(hp, **known)
    products = walk(hp, 5000, norm0=norm0, dimension=NUMEL, scales=scales).products
    settings = constant(lr, weight_decay, beta1, 5000)
    row = compare(write_run({"conv": products}, settings, optimizer=told, numel=NUMEL))["conv"]
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    assert row.verdict.suspect is Suspect.UNEVEN_ENTRIES
    assert not row.alarm
    assert row.ratio > 1.05
    assert "takes the entries of the gradient to be alike" in row.verdict.reason
