"""The balance law where recording begins late, or goes on with another optimizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion.comparison.motion import Motion, motion_of
from spherical_motion.monitor import watch
from spherical_motion.records import read

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
}


class Run:
    """A small net in float64 and its optimizer."""

    def __init__(self, name: str, path: Path) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).double()
        self.name, self.path, self.step = name, path, 0
        self.renew()

    def renew(self) -> None:
        self.optimizer = OPTIMIZERS[self.name](self.model.parameters())

    def train(self, steps: int) -> None:
        for _ in range(steps):
            generator = torch.Generator().manual_seed(self.step)
            x = torch.randn(8, 6, generator=generator, dtype=torch.float64)
            y = torch.randint(3, (8,), generator=generator)
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()
            self.step += 1

    def watched(self, steps: int, **options) -> None:
        told = {"directory": self.path, "groups": "plain", "products": 8, "quiet": True}
        with watch(self.model, self.optimizer, **told, **options):
            self.train(steps)

    def motions(self) -> list[Motion]:
        records = read(self.path)
        return [motion_of(records, i) for i in range(len(records.groups))]


def unknown(motion: Motion) -> list[int]:
    """Steps without the law; everywhere else it is exact."""
    law = motion.loss + np.nan_to_num(motion.decay) + motion.grown + motion.change
    known = np.isfinite(motion.turned)
    scale = np.abs(motion.turned[known]).mean()
    np.testing.assert_allclose(law[known], motion.turned[known], rtol=0, atol=1e-9 * scale)
    if np.isfinite(motion.residual).any():
        assert np.nanmax(motion.residual) < 1e-9
    return motion.steps[~known].tolist()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_new_optimizer_is_known_from_its_first_step_on(name: str, tmp_path: Path) -> None:
    run = Run(name, tmp_path)
    run.watched(20)
    for motion in run.motions():
        assert unknown(motion) == []
    assert not any(e["kind"] == "had_state" for e in read(tmp_path).events)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_that_has_stepped_before_leaves_the_first_pair_out(name, tmp_path) -> None:
    run = Run(name, tmp_path)
    run.train(15)
    run.watched(20)
    for motion in run.motions():
        assert unknown(motion) == [0]
    (event,) = (e for e in read(tmp_path).events if e["kind"] == "had_state")
    assert event["step"] == 0
    assert event["parameters"] == ["0.weight", "2.weight"]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_law_is_cut_where_a_run_is_resumed(name: str, kept: bool, tmp_path: Path) -> None:
    run = Run(name, tmp_path)
    run.watched(20)
    if not kept:
        run.renew()
    run.watched(20, resume=True)
    for motion in run.motions():
        assert motion.steps.tolist() == list(range(40))
        assert unknown(motion) == [20]
