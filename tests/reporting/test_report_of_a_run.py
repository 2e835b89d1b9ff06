"""From recorded rows to the page, with nothing faked in between."""

from __future__ import annotations

import numpy as np

from spherical_motion.comparison import compare
from spherical_motion.records import RunInfo, RunWriter
from spherical_motion.reporting import render, write_report
from spherical_motion.vocabulary import InvariantGroup, Slice, VerdictKind

NAMES = ("stem.conv", "block.conv<1>")
SIZE = 400
WEIGHT_DECAY = 0.02


def recorded(directory):
    """Weights that feel a random gradient tangential to them, in two stages of plain SGD."""
    slices = [Slice(f"{name}.weight", axis=0, start=0, stop=4) for name in NAMES]
    groups = tuple(
        InvariantGroup(name, "scale", (s,), cells=((s,),), numel=SIZE, defect=0.0)
        for name, s in zip(NAMES, slices, strict=True)
    )
    sgd = {"class": "SGD", "optimizer": 0, "lr": 0.5, "weight_decay": WEIGHT_DECAY}
    info = RunInfo(
        groups=groups, param_groups=(sgd,), slice_param_group=(0, 0), command="python train.py"
    )
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(len(NAMES), SIZE)) / 4
    with RunWriter(directory, info) as writer:
        for step in range(1_200):
            lr = 0.5 if step < 700 else 0.2
            gradient = rng.normal(size=weights.shape)
            square = (weights**2).sum(axis=1, keepdims=True)
            gradient -= (gradient * weights).sum(axis=1, keepdims=True) / square * weights
            gradient /= np.sqrt(SIZE * square)
            moved = -lr * (gradient + WEIGHT_DECAY * weights)
            pairs = ("ww", "wd", "dd", "wg", "gg", "dg")
            parts = {"w": weights, "d": moved, "g": gradient}
            gram = np.stack([(parts[a] * parts[b]).sum(axis=1) for a, b in pairs], axis=1)
            writer.settings(step, 0, (lr, WEIGHT_DECAY, 0.0, None))
            writer.rows(step, gram)
            writer.scalars(step, {"loss": float(np.exp(-step / 500))})
            weights = weights + moved
    return directory


def test_a_recorded_run_becomes_a_report(tmp_path):
    comparison = compare(recorded(tmp_path / "mine"))
    assert {row.verdict.kind for row in comparison.rows} == {VerdictKind.IN_EQUILIBRIUM}
    path = write_report(comparison, tmp_path / "mine" / "report.html")
    page = path.read_text(encoding="utf-8")
    assert "<title>mine · spherical motion</title>" in page
    assert "block.conv&lt;1&gt;" in page
    assert page.count('<span class="sm-chip settled">in equilibrium</span></summary>') == 4
    assert "lr 0.2 · wd 0.02" in page


def test_a_run_without_rows_becomes_a_report(tmp_path):
    s = Slice("conv.weight", axis=0, start=0, stop=4)
    group = InvariantGroup("conv", "scale", (s,), cells=((s,),), numel=16)
    sgd = {"class": "SGD", "optimizer": 0, "lr": 0.1}
    info = RunInfo(groups=(group,), param_groups=(sgd,), slice_param_group=(0,))
    RunWriter(tmp_path / "run", info).close()
    assert "1 group · 0 stages · 0 recorded steps" in render(compare(tmp_path / "run"))
