"""docs/theory.md is held against the code: every function named, no other, tables computed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from spherical_motion import simulate, theory

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/theory.md").read_text(encoding="utf-8")


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_spans() -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", PAGE))


@pytest.mark.parametrize("name", theory.__all__)
def test_every_public_name_of_theory_is_explained(name: str) -> None:
    assert name in code_spans()


@pytest.mark.parametrize("name", simulate.__all__)
def test_every_public_name_of_simulate_is_explained(name: str) -> None:
    assert f"simulate.{name}" in code_spans()


def test_every_function_named_exists() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.M)
    named = {name for row in rows for name in re.findall(r"`([A-Za-z_.0-9]+)`", row)}
    settings = {"lr", "weight_decay", "momentum", "ww", "dd", "wd", "unit_grad_sq"}
    for name in named - settings:
        room, _, attribute = name.rpartition(".")
        assert hasattr(simulate if room == "simulate" else theory, attribute), name
    assert len(named) > 50


def test_every_row_about_a_function_names_the_test_that_checks_it() -> None:
    for row in re.findall(r"^\| `.*$", PAGE, re.M):
        assert re.search(r"\]\(\.\./tests/\S+\.py\)", row), row


def test_computed_tables_are_up_to_date() -> None:
    assert load("tools/make_theory_docs.py").page(PAGE) == PAGE, "run `make docs`"


def test_simulated_norms_are_those_of_theory_in_all_eight_panels() -> None:
    found = list(load("benchmarks/wan2021_figures.py").panels(steps=400_000))
    assert [panel.name for panel in found] == [f + p for f in "34" for p in "abcd"]
    for panel in found:
        noise = panel.name[1] in "bd"
        # Without noise, what is left is the lag: a drive that moves by at most 1e-6 of itself a
        # step, 2,500 steps of relaxation, and half of that in the square of the norm.
        assert abs(panel.ratio - 1).max() < (0.015 if noise else 0.0014)
        assert abs(panel.ratio.mean() - 1) < 0.0014
