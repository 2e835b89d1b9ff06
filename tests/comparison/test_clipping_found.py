"""`clip_grad_value_` is found with every optimizer, early and late, and healthy runs are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from audited import adamw, recorded, sgd
from torch import nn

from spherical_motion.comparison import audit, compare
from spherical_motion.monitor import watch
from spherical_motion.vocabulary import Suspect


class Lion(torch.optim.Optimizer):
    """Chen et al., 2023."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((beta1 * m + (1 - beta1) * p.grad).sign(), alpha=-group["lr"])
                m.lerp_(p.grad, 1 - beta2)


def lion(model: nn.Module) -> torch.optim.Optimizer:
    return Lion(model.parameters())


@pytest.mark.parametrize("make", [sgd, adamw, lion])
@pytest.mark.parametrize("begins", [0, 18])
def test_clipped_entries_are_found(make, begins: int, tmp_path: Path, monkeypatch) -> None:
    # Every 30 steps two neighbours are audited, so that a clip that begins late has two of them.
    monkeypatch.setattr("spherical_motion.monitor.audit.when.PERIOD", 30)

    def clip(model: nn.Module, _: object, step: int) -> None:
        if step >= begins:
            nn.utils.clip_grad_value_(model.parameters(), 1e-4)

    run = recorded(tmp_path / "run", make, 32, before=clip, groups="all")
    found = audit(run)
    assert all(Suspect.GRADIENT_CLIPPED in row.suspects for row in found if row.group in "03")
    for group in ("0", "3"):
        assert found[group].audited.entries_at == pytest.approx(1e-4)
        assert compare(run)[group].verdict.alarm


class Words(nn.Module):
    """An embedding of which few rows have a gradient, units that are dead, and a norm layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(500, 16)
        self.hidden = nn.Linear(16, 64)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 2)
        with torch.no_grad():
            self.hidden.bias[:48] = -50.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(torch.relu(self.hidden(self.words(x)))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", ["plain", "all"])
def test_sparse_gradients_of_a_healthy_run_are_not_clipped(dtype, groups, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Words().to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, y = torch.randint(0, 500, (22, 64)), torch.randint(0, 2, (22, 64))
    with watch(model, optimizer, x[0], tmp_path / "run", groups=groups, quiet=True):
        for step in range(22):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[step]).float(), y[step]).backward()
            optimizer.step()
    found = audit(tmp_path / "run")
    clipped = [row.group for row in found if Suspect.GRADIENT_CLIPPED in row.suspects]
    verdicts = [row.verdict.suspect for row in compare(tmp_path / "run")]
    assert clipped == []
    assert Suspect.GRADIENT_CLIPPED not in verdicts
