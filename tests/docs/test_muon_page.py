"""The examples of docs/muon.md run as printed and do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

import spherical_motion as smd

PAGE = (Path(__file__).parents[2] / "docs/muon.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


class MyOptimizer(torch.optim.SGD):
    """An optimizer of the user's own."""

    def step(self, closure=None):
        return super().step(closure)


def test_bursts_give_muon_an_approximate_prediction(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(BLOCKS[0], "muon.md", "exec"), scope)
    records = scope["records"]
    for name in records.groups:
        assert len(records.correlations(name)) > 0
    rows = list(smd.compare(records))
    assert {row.group for row in rows} == set(records.groups)
    assert all("approximate" in row.verdict.reason for row in rows)
    assert all(np.isfinite(row.balance) and np.isnan(row.decay_share) for row in rows)


def test_param_groups_say_where_decay_acts() -> None:
    scope = {"MyOptimizer": MyOptimizer, "parameters": [torch.zeros(2, 2)]}
    exec(compile(BLOCKS[1], "muon.md", "exec"), scope)
    (group,) = scope["optimizer"].param_groups
    hp = smd.HyperParameters.from_param_group("MyOptimizer", group)
    assert hp.optimizer == "other"
    assert hp.decoupled
    assert smd.theory.law_of(hp).exact is False
