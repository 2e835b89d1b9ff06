"""Runs whose gradients break one assumption of the predicted angle, by an amount that is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion import theory
from spherical_motion.comparison import Row, compare
from spherical_motion.comparison.ladder.reasons import AngleReason
from spherical_motion.comparison.laws.assumed import update_correlations
from spherical_motion.monitor import Monitor
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice, Suspect, VerdictKind

SIDE = 20
GROUP = InvariantGroup(
    "fc", "scale", (Slice("weight", 0, 0, SIDE),), ((Slice("weight", 0, 0, SIDE),),), SIDE**2
)


def judged(
    directory: Path, make, *, alike: float = 0.0, spread: float = 0.0, every: int | None = None,
    products: int = 7, steps: int = 1500, start: float,
) -> Row:  # fmt: skip
    """A run of gradients orthogonal to the weights.

    Args:
        directory: of the run.
        make: optimizer of some parameters.
        alike: correlation of the gradients of neighbouring steps, φ of an AR(1) process.
        spread: standard deviation of the logarithm of the entries' sizes.
        every, products: `correlation_every` and `products` of the monitor.
        steps: how many.
        start: norm of the weights.
    """
    torch.manual_seed(0)
    model = nn.Linear(SIDE, SIDE, bias=False)
    weight = model.weight
    with torch.no_grad():
        weight.normal_().mul_(start / weight.norm())
    sizes = torch.exp(spread * torch.randn(SIDE, SIDE))
    optimizer = make(model.parameters())
    noise = torch.randn(SIDE, SIDE)
    with Monitor(
        model, optimizer, [GROUP], directory, correlation_every=every, products=products,
        audit=False, quiet=True,
    ):  # fmt: skip
        for _ in range(steps):
            noise = alike * noise + math.sqrt(1.0 - alike**2) * torch.randn(SIDE, SIDE)
            grad, w = noise * sizes, weight.detach()
            grad = grad - w * (grad * w).sum() / (w * w).sum()
            weight.grad = grad / w.norm()
            optimizer.step()
    [row] = compare(directory)
    return row


class Lion(torch.optim.Optimizer):
    """Lion; of gradients of its own if `alike` is given, AR(1) noise that no weights feel."""

    def __init__(self, parameters, alike: float | None = None) -> None:
        super().__init__(parameters, {"lr": 0.005, "betas": (BETA, 0.6), "weight_decay": 1.0})
        self.alike, self.noise, self.average = alike, torch.randn(SIDE, SIDE), 0.0

    @torch.no_grad()
    def step(self, closure=None) -> None:
        [group] = self.param_groups
        [p] = group["params"]
        grad, (beta1, beta2) = p.grad, group["betas"]
        if self.alike is not None:
            fresh = math.sqrt(1.0 - self.alike**2) * torch.randn(SIDE, SIDE)
            self.noise = grad = self.alike * self.noise + fresh
        p.mul_(1.0 - group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * torch.sign(beta1 * self.average + (1.0 - beta1) * grad))
        self.average = beta2 * self.average + (1.0 - beta2) * grad


BETA = 0.5
ASSUMED = theory.lion_correlation(BETA, 0.6)
REST = math.sqrt(0.005 / (2 * 1.0) * SIDE**2 * ASSUMED)


def real_correlation(alike: float) -> float:
    """c of the signs of Lion's average of an AR(1) process, by the arcsine law."""
    weights = np.concatenate([[1 - BETA], BETA * 0.4 * 0.6 ** np.arange(200.0)])
    own = np.convolve(weights, weights[::-1])  # autocovariance of the weights
    far = np.arange(-200, 201)
    r = np.array([own @ alike ** np.abs(far + k) for k in range(61)])
    return 1.0 + 4.0 / math.pi * float(np.arcsin(r[1:] / r[0]).sum())


def test_independent_gradients_leave_nothing_to_name(tmp_path: Path) -> None:
    row = judged(tmp_path / "run", Lion, every=100, start=REST)
    assert row.verdict.kind is VerdictKind.IN_EQUILIBRIUM
    assert row.verdict.suspect is None


def test_a_measured_correlation_is_the_number_that_explains_the_angle(tmp_path: Path) -> None:
    c = real_correlation(0.3)
    row = judged(
        tmp_path / "run",
        lambda parameters: Lion(parameters, alike=0.3),
        every=100,
        start=REST * math.sqrt(c / ASSUMED),
    )
    assert row.ratio == pytest.approx(math.sqrt(ASSUMED / c), rel=0.03)
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    [reason] = (r for r in row.verdict.reasons if r.kind is AngleReason.CORRELATED)
    assert reason.kind.suspect is Suspect.CORRELATED_GRADIENTS
    assert reason.numbers["measured"] == pytest.approx(c, rel=0.05)
    assert reason.numbers["assumed"] == pytest.approx(ASSUMED)
    assert reason.numbers["gives"] == pytest.approx(row.ratio, rel=0.03)


@pytest.mark.parametrize("every", [None, 100])
def test_orthogonal_gradients_undo_a_part_and_nothing_is_claimed_that_was_not_measured(
    every: int | None, tmp_path: Path
) -> None:
    row = judged(tmp_path / "run", Lion, alike=0.8, every=every, start=REST * 1.2)
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    assert row.verdict.suspect is Suspect.CORRELATED_GRADIENTS
    if every is None:
        assert row.verdict.has_reason(AngleReason.CORRELATED_UNMEASURED)
        assert "It was not measured; correlation_every= measures it" in row.verdict.reason
    else:
        assert row.verdict.has_reason(AngleReason.CORRELATED_PARTLY)
        assert "something else plays a part" in row.verdict.reason


def adam(parameters) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01, weight_decay=0.05, betas=(BETA, 0.99))


@pytest.mark.parametrize("products", [6, 7])
def test_uneven_entries_have_the_pull_as_their_number_where_it_is_recorded(
    products: int, tmp_path: Path
) -> None:
    row = judged(tmp_path / "run", adam, spread=1.0, products=products, start=4.0)
    assert row.verdict.suspect is Suspect.UNEVEN_ENTRIES, row.verdict
    if products == 6:
        assert row.verdict.has_reason(AngleReason.UNEVEN_UNMEASURED)
        return
    [reason] = (r for r in row.verdict.reasons if r.kind is AngleReason.UNEVEN_ENTRIES)
    assert reason.numbers["gives"] == pytest.approx(row.ratio, rel=0.05)
    assert reason.numbers["pull"] == pytest.approx(row.ratio**3, rel=0.15)


def test_even_entries_of_adam_are_in_equilibrium(tmp_path: Path) -> None:
    row = judged(tmp_path / "run", adam, start=3.4)
    assert row.verdict.kind is VerdictKind.IN_EQUILIBRIUM, row.verdict


def test_assumed_correlations_are_those_of_the_predicted_angle() -> None:
    for name, betas in (("lion", (0.9, 0.99)), ("lion", (0.95, 0.98)), ("adamw", (0.8, 0.999))):
        hp = HyperParameters(name, lr=1e-3, weight_decay=0.1, betas=betas)
        c = theory.correlation_sum(update_correlations(hp))
        angle = theory.equilibrium_angle(hp)
        np.testing.assert_allclose(math.sqrt(2.0 * hp.intrinsic_lr / c), angle, rtol=0.01)
