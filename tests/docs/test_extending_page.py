"""docs/extending.md: its examples run as printed, and print what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spherical_motion import theory
from spherical_motion.vocabulary import HyperParameters

TEXT = (Path(__file__).parents[2] / "docs/extending.md").read_text(encoding="utf-8")
PAGE = TEXT.partition("## Add a verdict")[0]  # test_docs runs that chapter


def test_examples_run_in_order(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) >= 5
    try:
        for block in blocks:
            exec(compile(block, "extending.md", "exec"), scope)
    finally:
        if "undo" in scope:
            scope["undo"].close()
        if "forget" in scope:
            scope["forget"]()
    printed = capsys.readouterr().out
    angle, norm, steps = (float(line) for line in printed.splitlines()[:3])
    assert (round(angle, 4), round(norm, 3), steps) == (0.1415, 2.263, 222)
    assert "in equilibrium: turns at 1.00 of the predicted angle" in printed
    assert "exact to 1e-4: True" in printed
    assert "by its rule: True" in printed
    factors = [float(x) for x in re.findall(r"0\.3\d+", printed)]
    assert factors[-2:] == pytest.approx([10**-0.5, 10**-0.5], rel=0.01)
    assert HyperParameters.from_param_group("UnitRMS", {"lr": 0.1}).optimizer == "other"


def test_every_member_the_page_names_exists() -> None:
    for row in re.findall(r"^\| (`.*?) \|", PAGE, re.M):
        for name in re.findall(r"`(\w+)`", row):
            assert hasattr(theory.Family, name), name
