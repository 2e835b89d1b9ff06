"""Runs of float32 weights at ordinary small rates: healthy, and not called off balance."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from spherical_motion.comparison import compare
from spherical_motion.monitor import watch
from spherical_motion.vocabulary import Suspect, VerdictKind

STEPS = 300


def trained(path: Path, make, dtype: torch.dtype = torch.float32) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 5)).to(dtype)
    optimizer = make(model.parameters())
    with watch(model, optimizer, directory=path, groups="plain", products=8, quiet=True):
        for step in range(STEPS):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(16, 12, generator=generator).to(dtype)
            y = torch.randint(5, (16,), generator=generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


def adamw(lr: float, weight_decay: float):
    return lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=weight_decay)


def rows(path: Path) -> list:
    return list(compare(path))


@pytest.mark.parametrize(
    ("lr", "weight_decay"), [(1e-3, 0.1), (1e-4, 0.1), (3e-5, 0.1), (1e-5, 0.1), (1e-5, 0.01)]
)
def test_adamw_at_small_rates_is_in_balance_or_its_rounding_is_named(
    lr: float, weight_decay: float, tmp_path: Path
) -> None:
    trained(tmp_path, adamw(lr, weight_decay))
    for row in rows(tmp_path):
        assert row.verdict.kind is not VerdictKind.OFF_BALANCE
        if math.isnan(row.balance):
            assert "float32 rounding of the weights" in row.balance_unknown
        else:
            assert row.balance == pytest.approx(1.0, abs=0.01)
        assert lr == 3e-5 or math.isnan(row.balance) == (lr < 3e-5)
    q = round(lr * weight_decay * 2**24)
    assert rows(tmp_path)[0].tug.real_decay == pytest.approx(q / 2**24 / lr / weight_decay)


def test_in_float64_the_same_rates_are_exact(tmp_path: Path) -> None:
    trained(tmp_path, adamw(1e-5, 0.01), torch.float64)
    for row in rows(tmp_path):
        assert row.balance == pytest.approx(1.0, abs=1e-5)
        assert row.tug.real_decay == 1.0


def test_a_tiny_rate_of_sgd_is_not_taken_for_a_writer(tmp_path: Path) -> None:
    trained(tmp_path, lambda p: torch.optim.SGD(p, lr=1e-7, momentum=0.9, weight_decay=1e-3))
    found = rows(tmp_path)
    # Of one matrix half of each step is lost, of the other less than a tenth.
    assert {row.verdict.suspect for row in found} == {Suspect.LOST_PRECISION, None}
    for row in found:
        assert row.verdict.kind in (VerdictKind.STEP_DIFFERS, VerdictKind.NO_PREDICTION)
        assert "rounding" in row.verdict.reason
        assert "rounding" in row.balance_unknown


def test_a_run_that_does_not_say_its_dtype_is_taken_by_its_nominal_decay(tmp_path: Path) -> None:
    trained(tmp_path, adamw(1e-5, 0.01))
    info = json.loads((tmp_path / "run.json").read_text())
    assert set(info.pop("dtypes").values()) == {"float32"}
    (tmp_path / "run.json").write_text(json.dumps(info))
    assert rows(tmp_path)[0].tug.real_decay == 1.0
    assert "rounding" not in rows(tmp_path)[0].balance_unknown
