"""The page of the audit prints what the audit prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from audited import recorded, sgd, stepping_with
from torch import nn

import spherical_motion as smd
from spherical_motion.vocabulary import HyperParameters, Schedule

PAGE = (Path(__file__).parents[2] / "docs/audit.md").read_text(encoding="utf-8")


def printed(run: Path) -> str:
    return str(smd.audit(run)).replace(str(run.parent), "runs")


def clip(model: nn.Module, *_: object) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 0.05)


def twice(_: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * (1 - 2 * (step + 1) / 100)


@pytest.mark.parametrize("name", ["decay", "clipped", "twice"])
def test_the_faults_are_as_printed(name: str, tmp_path: Path) -> None:
    hp = HyperParameters("sgd", lr=0.1, weight_decay=0.01, momentum=0.9)
    if name == "decay":
        run = recorded(tmp_path / name, stepping_with(sgd, weight_decay=0.0), 40)
    elif name == "clipped":
        run = recorded(tmp_path / name, sgd, 40, before=clip)
    else:
        run = recorded(tmp_path / name, sgd, 40, after=twice, plan=Schedule.polynomial(hp, 100))
    (block,) = (b for b in re.findall(r"```\n(runs/.*?)```", PAGE, re.S) if f"runs/{name}:" in b)
    assert printed(run).strip() == block.strip()


def test_the_example_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "runs/mine", stepping_with(sgd, lr=0.2))
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(block, "audit.md", "exec"), {})
    assert "(<Suspect.WRONG_SETTINGS" in capsys.readouterr().out
