"""docs/balance.md: its examples print what the page says, and its tables are those of the data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from balance.page import blocks, page

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "balance.md").read_text(encoding="utf-8")
RESULTS = json.loads((DOCS / "balance.json").read_text(encoding="utf-8"))
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def numbers(text: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(text)]


def test_examples_print_what_the_page_says(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    parts = re.findall(r"```(python|text)\n(.*?)```", PAGE, re.S)
    assert [kind for kind, _ in parts] == ["python", "text"] * 4
    for kind, block in parts:
        if kind == "python":
            exec(compile(block, "balance.md", "exec"), scope)
            continue
        printed = capsys.readouterr().out
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", block)
        # Digits that depend on the order in which a machine adds are given some room.
        assert numbers(printed) == pytest.approx(numbers(block), rel=0.05, abs=2e-4)


def test_tables_are_those_of_the_data() -> None:
    assert page(PAGE, RESULTS) == PAGE, "run `python -m balance.run --page` in benchmarks"
    assert all(f"<!-- {name} -->" in PAGE for name in blocks(RESULTS))


def test_rounded_decay_is_as_the_page_says() -> None:
    def excess(intrinsic_lr: float) -> float:
        return (1.0 - float(np.float32(1.0 - intrinsic_lr))) / intrinsic_lr - 1.0

    assert f"real decay {-excess(2e-4):.3%} smaller" in " ".join(PAGE.split())
    assert f"real decay is {excess(1e-6):.1%} larger" in " ".join(PAGE.split())
    assert f"it is {excess(1e-7):.0%} larger" in " ".join(PAGE.split())


def windows_of(net: str, optimizer: str, schedule: str, matrices: set[str]) -> list[list[dict]]:
    (run,) = [
        run
        for run in RESULTS["runs"]
        if (run["net"], run["optimizer"], run["schedule"]) == (net, optimizer, schedule)
    ]
    return [m["windows"] for m in run["matrices"] if m["name"] in matrices]


def test_what_the_page_says_of_single_runs() -> None:
    convolutions = {"0", "3", "6"}
    adamw = windows_of("conv, batch norm", "AdamW", "constant", convolutions)
    pulls = [window["pull"] for windows in adamw for window in windows]
    assert (round(min(pulls), 2), round(max(pulls), 2)) == (0.95, 1.01)
    for optimizer, low, high in (("SGDM", 1.6, 1.75), ("AdamW", 2.0 - 0.05, 4.0)):
        for windows in windows_of("conv, batch norm", optimizer, "cosine", convolutions):
            assert low < 1.0 / windows[-1]["plain"] < high
            assert windows[-1]["growth"] < -1.0
            assert windows[-1]["pull"] == pytest.approx(1.0, abs=0.07)
    tables = windows_of("tables, rare words", "AdamW", "constant", {"word", "before", "topic"})
    assert len(tables) == 3
    assert all(abs(window["balance"] - 1.0) < 0.01 for windows in tables for window in windows)


def test_the_goals_of_the_law_are_met() -> None:
    usual = [run for run in RESULTS["runs"] if run["counts"]]
    windows = [window for run in usual for m in run["matrices"] for window in m["windows"]]
    assert len({run["net"] for run in usual}) >= 8
    assert len(usual) == 8 * len({run["net"] for run in usual})

    def within(law: str, limit: float) -> float:
        return float(np.mean([abs((window[law] or 9.0) - 1.0) <= limit for window in windows]))

    assert within("exact", 0.05) >= 0.95
    assert within("exact", 0.02) >= 0.85
    for run in usual:
        if run["optimizer"] in ("SGDM", "Nesterov"):
            for matrix in run["matrices"]:
                assert all(abs(window["balance"] - 1.0) < 1e-4 for window in matrix["windows"])


def test_the_picture_is_small() -> None:
    assert (DOCS / "balance.png").stat().st_size <= 150_000
