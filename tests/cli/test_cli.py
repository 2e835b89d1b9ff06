"""The commands as a person at a terminal meets them: output, exit code, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from simulated import constant, simulate_sgd

from spherical_motion import cli
from spherical_motion.recipes import DigitsRecipe

SETTLED = constant(0.1, 0.02, 0.9, 1500)


COMMANDS = [command.name for command in cli.app.registered_commands]


def test_every_command_is_there() -> None:
    assert [
        *("demo", "train", "inspect", "compare", "audit", "report"),
        *("forecast", "plan", "simulate"),
    ] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(smd, command: str) -> None:
    code, out, _ = smd(command, "--help")
    assert code == 0
    assert f"Example: smd {command}" in out


def test_compare_prints_verdicts_in_words(smd, write_run) -> None:
    settings = SETTLED + constant(0.001, 0.02, 0.9, 500)
    run = write_run({"layer[1]": simulate_sgd(settings)}, settings)
    code, out, _ = smd("compare", run)
    assert code == 0
    assert "Stage 1: lr 0.1, weight decay 0.02, momentum 0.9" in out
    assert "layer[1]" in out
    assert "in equilibrium" in out
    assert "approaching" in out
    assert "more steps" in out


def test_compare_speaks_strict_json(smd, write_run) -> None:
    run = write_run({"conv": simulate_sgd(SETTLED)}, SETTLED)
    code, out, _ = smd("compare", run, "--json")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert code == 0
    assert found["rows"][0]["verdict"] == "in equilibrium"
    assert found["rows"][0]["ratio"] == pytest.approx(1.0, abs=0.05)


def test_falling_short_of_the_theory_is_exit_code_one(smd, write_run) -> None:
    run = write_run({"conv": simulate_sgd(SETTLED, radial=0.5)}, SETTLED)
    code, out, _ = smd("compare", run)
    assert code == 1
    assert "holds a weight decay of its own" in " ".join(out.split())


@pytest.mark.parametrize("command", ["compare", "audit", "report"])
def test_a_directory_that_is_no_run_is_exit_code_two(smd, command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("empty", "missing"):
        code, out, err = smd(command, place)
        assert (code, out) == (2, "")
        assert err.startswith("smd: ")
        assert place in err


def test_report_writes_one_file_and_names_it(smd, write_run) -> None:
    run = write_run({"conv": simulate_sgd(SETTLED)}, SETTLED)
    code, out, _ = smd("report", run)
    assert code == 0
    assert Path(out.strip()) == run / "report.html"
    assert (run / "report.html").read_text().lower().startswith("<!doctype html>")


def test_an_unknown_recipe_lists_those_there_are(smd) -> None:
    code, _, err = smd("train", "digit")
    assert code == 2
    assert "expected one of: digits" in err
    assert not Path("runs").exists()


def test_train_records_and_compares(smd, monkeypatch) -> None:
    monkeypatch.setattr(
        "spherical_motion.recipes.RECIPES",
        {"digits": lambda: DigitsRecipe(steps=60, milestones=(30,), width=4)},
    )
    code, out, err = smd("train", "digits", "--every", "5", "--out", "runs/x")
    assert code == 0
    assert "Stage 2: lr 0.01" in out
    assert "2 of every 5 steps" in err
    assert "test accuracy" in err
    code, _, err = smd("train", "digits", "--out", "runs/x")
    assert code == 2
    assert "resume" in err
    _, out, err = smd("train", "digits", "--groups", "all", "--out", "runs/y")
    assert "watching 13 groups, 1 of them plain (" in err
    assert "head" in out


def test_inspect_a_recipe(smd) -> None:
    code, out, _ = smd("inspect", "digits", "--batch-size", "8")
    assert code == 0
    assert "12 scale-invariant groups" in out  # eight convolutions, three gains, one stream of them
    assert "layer2.shortcut.0" in out
    assert "head.weight" in out
    code, out, _ = smd("inspect", "digits", "--batch-size", "8", "--json")
    found = json.loads(out)
    assert len(found["groups"]) == 12
    assert found["passes"] <= 6


def test_inspect_a_model_of_ones_own(smd, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))\n"
        "def plain():\n    return nn.Linear(5, 4)\n"
        "def needs(width):\n    return nn.Linear(width, 4)\n"
    )
    code, out, _ = smd("inspect", "mine:net", "--input", "5")
    assert code == 0
    assert "1 scale-invariant group" in out
    code, _, _ = smd("inspect", "mine:plain", "--input", "5")
    assert code == 1
    for spec, shape, message in [
        ("mine:net", None, "needs --input"),
        ("mine:nothing", "5", "cannot be loaded"),
        ("nomodule:x", "5", "cannot be loaded"),
        ("mine", "5", "module:factory"),
        ("mine:needs", "5", "cannot be called with the settings"),
        ("mine:net", "5x", "--input"),
        ("mine:net", "7", "[16, 7]"),
    ]:
        arguments = ["inspect", spec] + (["--input", shape] if shape else [])
        code, _, err = smd(*arguments)
        assert code == 2, spec
        assert message in err, (spec, err)


def test_asking_for_nothing_gives_help(smd) -> None:
    _, out, err = smd()
    assert "Usage: smd" in out + err
