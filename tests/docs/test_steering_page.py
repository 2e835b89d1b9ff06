"""docs/steering.md: its examples run in order, and it speaks of every tool."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

import spherical_motion as smd
from spherical_motion import theory

PAGE = (Path(__file__).parents[2] / "docs/steering.md").read_text(encoding="utf-8")


def test_examples_run_in_order(capsys) -> None:
    torch.manual_seed(0)
    scope: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) >= 7
    for block in blocks:
        exec(compile(block, "steering.md", "exec"), scope)
    assert "norm before" in capsys.readouterr().out
    assert math.isfinite(float(scope["model"][0].weight.detach().norm()))


@pytest.mark.parametrize("tool", [n for n in smd.optim.__all__ if n[0].isupper()])
def test_every_tool_is_spoken_of(tool: str) -> None:
    helpers = {"Members", "Piece", "SgdOnSphere", "EquilibriumStart"}
    assert tool in helpers or f"`{tool}`" in PAGE


def test_figures_are_those_of_the_theory() -> None:
    hp = smd.HyperParameters("sgd", lr=1e-3, weight_decay=1e-4)
    double = theory.equilibrium_norm(hp, unit_grad_sq=2.0)
    single = theory.equilibrium_norm(hp, unit_grad_sq=1.0)
    assert f"moves SGD's equilibrium norm by {double / single - 1:.0%}" in PAGE
    steps = theory.steps_to_equilibrium(hp, lr_drop=10)
    excess = theory.relaxed_excess(hp, theory.excess_after_drop(hp, 10.0), steps)
    share = theory.angle_at_excess(hp, excess) / theory.equilibrium_angle(hp)
    assert f"{share:.2f} of its new angle even at the papers' minimal number" in " ".join(
        PAGE.split()
    )
