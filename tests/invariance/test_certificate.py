"""A certificate keeps what is invariant and drops what is planted, clipped or lucky."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion.invariance import inspect_model
from spherical_motion.invariance.proof import certify
from spherical_motion.invariance.proof.certify import certified
from spherical_motion.invariance.proof.rescale import Base, rescaled
from spherical_motion.invariance.proof.sift import without_patterns
from spherical_motion.invariance.proof.steadiness import relative_change
from spherical_motion.invariance.running.precision import precision_of
from spherical_motion.invariance.running.prober import Prober
from spherical_motion.invariance.search.symmetry import Symmetry
from spherical_motion.vocabulary import Slice


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 12, 3, bias=False),
        nn.BatchNorm2d(12),
        nn.Tanh(),
        nn.Conv2d(12, 10, 3, bias=False),
        nn.BatchNorm2d(10),
        nn.Flatten(),
        nn.Linear(40, 5),
    )


def filters(parameter: str, count: int) -> list[Symmetry]:
    return [Symmetry.scale([Slice(parameter, 0, i, i + 1)]) for i in range(count)]


def prober(model: nn.Module, inputs: torch.Tensor) -> Prober:
    return Prober(model, inputs, precision_of(torch.float64))


TRUE = filters("0.weight", 12) + filters("3.weight", 10)


@pytest.mark.parametrize(
    "planted",
    [
        filters("6.weight", 5),
        filters("1.weight", 12),
        [Symmetry.scale([Slice("6.weight", 0, 0, 5)])],
        [Symmetry.scale([Slice("4.bias", 0, 2, 4)])],
    ],
    ids=["classifier rows", "gains", "whole classifier", "some shifts"],
)
def test_planted_false_cells_are_dropped_and_true_ones_kept(planted: list[Symmetry]) -> None:
    probe = prober(net(), torch.randn(6, 2, 6, 6))
    result = certified(probe, [*TRUE, *planted], Base(seed=2))
    assert set(result.cells) == set(TRUE)
    assert set(result.dropped) == set(planted)
    assert probe.passes == 2  # the certificate, and once more on the survivors
    assert probe.forwards == 5  # reference, determinism, powers of two: nothing was halved
    assert result.bit_identical


@pytest.mark.parametrize(("size", "kept"), [(100, 0), (101, 100)])
def test_one_false_cell_in_a_hundred_spoils_its_family(size: int, kept: int) -> None:
    cells = filters("w", size) + filters("other", 3)
    false = np.arange(size + 3) == 5
    left = without_patterns(cells, false)
    assert len(left) == kept + 3
    assert cells[5] not in left


def test_false_cells_beside_true_ones_are_told_apart() -> None:
    model = nn.Sequential(nn.Linear(3, 50), nn.BatchNorm1d(50), nn.Linear(50, 2))
    inputs = torch.randn(16, 3)
    true, false = filters("0.weight", 50), filters("2.weight", 1)
    half_true = [Symmetry.scale([Slice("2.weight", 1, 0, 1)])]
    result = certified(prober(model, inputs), [*true, *false, *half_true], Base(seed=0))
    assert set(result.cells) == set(true)


class Clipped(nn.Module):
    """Flat along the weights' direction as long as the clip at `limit` is out of reach."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 6, bias=False)
        self.norm = nn.BatchNorm1d(6)
        self.tail = nn.Linear(6, 6, bias=False)
        self.last = nn.BatchNorm1d(6)
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.fc(x).clamp(0.0, self.limit))
        return self.last(self.tail(y.tanh()))


@pytest.mark.parametrize("limit", [6.0, 100.0], ids=["within reach of ×4", "only of ×256"])
def test_a_clip_far_away_makes_slices_only_locally_invariant(limit: float) -> None:
    model = Clipped(limit)
    inputs = torch.randn(16, 4)
    assert float(model.fc(inputs).detach().max()) < 0.6 * limit
    found = inspect_model(model, inputs)
    assert [group.name for group in found.groups] == ["tail"]
    reasons = {u.parameter: u.reason for u in found.uncovered}
    assert "locally invariant" in reasons["fc.weight"]


def test_a_clip_within_reach_needs_no_powers_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certify, "held_under_powers_of_two", lambda p, c, b, y, s: (list(c), False))
    model, inputs = Clipped(math.inf), torch.randn(16, 4)
    assert [group.name for group in inspect_model(model, inputs).groups] == ["fc", "tail"]
    model.limit = 2.0 * float(model.fc(inputs).detach().max())
    assert [group.name for group in inspect_model(model, inputs).groups] == ["tail"]


def test_without_a_clip_the_same_net_is_invariant_throughout() -> None:
    found = inspect_model(Clipped(math.inf), torch.randn(16, 4))
    assert [group.name for group in found.groups] == ["fc", "tail"]


def test_powers_of_two_leave_every_bit_and_thirds_do_not() -> None:
    probe = prober(net(), torch.randn(6, 2, 6, 6))
    base = Base(seed=0)
    reference = probe.forward(base.weights(probe), seed=0, norm_eps=1e-30)

    def change(factor: float) -> float:
        scale = [factor] * len(TRUE)
        weights = rescaled(base.weights(probe), TRUE, scale)
        return relative_change(probe.forward(weights, seed=0, norm_eps=1e-30), reference)

    assert change(8.0) == 0.0
    assert 0.0 < change(3.0) < 1e-12


@pytest.mark.parametrize("bias", [False, True])
def test_a_bias_without_effect_takes_part_in_the_rounding_and_is_scaled_along(bias: bool) -> None:
    model = nn.Sequential(nn.Linear(5, 9, bias=bias), nn.BatchNorm1d(9), nn.Tanh())
    assert inspect_model(model, torch.randn(16, 5)).bit_identical
    assert inspect_model(model, torch.randn(16, 5), dtype=torch.float32).bit_identical


class Restless(nn.Module):
    """Counts its calls outside the modules, where nothing is put back, and acts on it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        self.calls = itertools.count()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x + 0.1 * next(self.calls) * torch.sign(x))


def test_gains_that_are_clipped_at_some_points_only_hold_wherever_they_live() -> None:
    """Where no maximum falls below zero, a channel is affine into the next norm: no gradient.

    There ⟨w, g⟩ is a rounding error as large as ‖w‖‖g‖, and must not speak against the channel.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(3, 64, 1, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.BatchNorm1d(64),
        nn.Flatten(),
        nn.Linear(128, 5),
    )
    inspection = inspect_model(model, torch.randn(8, 3, 8))
    (gains,) = (g for g in inspection.groups if g.parameters == ("1.weight", "1.bias"))
    assert len(gains.cells) > 40
    assert inspection.repairs == 0


def test_outputs_that_differ_by_themselves_are_reported() -> None:
    found = inspect_model(Restless(), torch.randn(6, 2, 6, 6))
    assert [group.name for group in found.groups] == ["net.0", "net.3"]
    assert any("differ between two runs" in warning for warning in found.warnings)
    assert not found.bit_identical


def test_passes_are_counted_and_stay_within_the_plan() -> None:
    found = inspect_model(net(), torch.randn(6, 2, 6, 6))
    assert (found.passes, found.repairs, found.forwards) == (5, 0, 3)


def test_relative_change_judges_rounding_errors_by_the_larger_outputs() -> None:
    big, tiny = torch.tensor([1e3]), torch.tensor([1e-16])
    assert relative_change([big, tiny], [big, 2 * tiny]) < 1e-12
    assert relative_change([tiny], [2 * tiny]) == pytest.approx(0.5)
    assert relative_change([torch.tensor([math.nan])], [big]) == math.inf
    assert relative_change([big, big], [big]) == math.inf
