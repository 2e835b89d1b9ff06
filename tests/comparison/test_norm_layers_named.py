"""Alarms about norm layers name the layers, and say it without a name for runs that hold none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from spherical_motion.comparison import Comparison, compare
from spherical_motion.monitor import Monitor
from spherical_motion.records import read
from spherical_motion.vocabulary import InvariantGroup, Slice, Suspect


class TwoPaths(nn.Module):
    """`shared` feeds two batch norms, `own` the first of them alone."""

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.shared, self.own = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.first, self.second = nn.BatchNorm1d(8, eps=eps), nn.BatchNorm1d(8, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.shared(x)
        return self.first(h + self.own(x)) + self.second(h).relu()


def whole(name: str) -> InvariantGroup:
    piece = Slice(f"{name}.weight", 0, 0, 8)
    return InvariantGroup(name, "scale", (piece,), ((piece,),), 64, 1e-6)


def trained(directory: Path, model: TwoPaths) -> Comparison:
    torch.manual_seed(1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=5e-3)
    inputs = torch.randn(64, 8)
    groups = [whole("shared"), whole("own")]
    with Monitor(model, sgd, groups, directory, example_inputs=inputs, quiet=True):
        for _ in range(60):
            x = torch.randn(64, 8)
            sgd.zero_grad()
            (model(x) - x.roll(1, 1)).square().mean().backward()
            sgd.step()
    return compare(directory)


def without_names(directory: Path) -> Comparison:
    path = directory / "run.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["norms"]
    path.write_text(json.dumps(document), encoding="utf-8")
    return compare(directory)


def test_the_run_holds_the_norm_layers_of_each_parameter(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained(tmp_path, TwoPaths())
    norms = read(tmp_path).info.norms
    assert norms["shared.weight"] == (("first", 1e-5), ("second", 1e-5))
    assert norms["own.weight"] == (("first", 1e-5),)


@pytest.mark.parametrize("asleep", ["second", "first"])
def test_the_norm_layer_in_eval_mode_is_named(asleep: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = TwoPaths()
    getattr(model, asleep).eval()
    row = trained(tmp_path, model)["shared"]
    assert row.verdict.suspect is Suspect.EVAL_MODE
    assert f"a norm layer that these weights feed ({asleep}) was" in row.verdict.reason
    alone = compare(read(tmp_path))["own"]
    assert (alone.verdict.suspect is Suspect.EVAL_MODE) == (asleep == "first")
    old = without_names(tmp_path)["shared"]
    assert "a norm layer that these weights feed was in eval mode" in old.verdict.reason


def test_a_large_epsilon_is_told_with_layer_and_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    row = trained(tmp_path, TwoPaths(eps=10.0))["own"]
    assert row.verdict.suspect is Suspect.EPSILON
    assert "norm layer first (ε = 10)" in row.verdict.reason
    old = without_names(tmp_path)["own"]
    assert old.verdict.suspect is Suspect.EPSILON
    assert "(ε = " not in old.verdict.reason
