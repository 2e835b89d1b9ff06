"""A run is a file from anywhere: what a terminal obeys or hides never reaches it from names."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest
from audited import recorded, sgd
from pulled import pulled_sgd
from rich.table import Table
from simulated import constant
from watched import groups_of, network

from spherical_motion.cli import printing
from spherical_motion.comparison import compare
from spherical_motion.notices import announce, notify, printable

HOSTILE = "a\x1b[2J\x07\x9b31m\u202egnp\u2066\u200b\nStage 9: all is well"


def obeyed(text: str) -> set[str]:
    """Characters in printed text that no terminal should be sent."""
    return {c for c in text if c != "\n" and printable(c) != c}


@pytest.fixture
def hostile_run(write_run):
    settings = constant(0.1, 0.02, 0.9, 300)
    products = {HOSTILE: pulled_sgd(settings, -0.01), "head": pulled_sgd(settings, 0.01)}
    return write_run(products, settings, kind="plain")


@pytest.fixture
def hostile_audit(tmp_path):
    model = network()
    groups = [dataclasses.replace(group, name=HOSTILE + group.name) for group in groups_of(model)]
    return recorded(tmp_path / "run", sgd, groups=groups, model=model)


@pytest.mark.parametrize(
    ("command", "run"), [("compare", "hostile_run"), ("audit", "hostile_audit")]
)
def test_names_of_groups_are_escaped_and_make_no_lines(smd, command, run, request) -> None:
    _, out, err = smd(command, request.getfixturevalue(run))
    assert obeyed(out + err) == set()
    assert r"a\x1b[2J\x07\x9b31m\u202egnp\u2066\u200b\nStage 9: all is well" in out
    assert not [line for line in out.splitlines() if line.startswith("Stage 9")]


@pytest.mark.parametrize("command", ["compare", "audit"])
def test_json_is_escaped_and_holds_the_names_as_they_are(smd, hostile_run, command) -> None:
    _, out, _ = smd(command, hostile_run, "--json")
    assert obeyed(out) == set()
    found = json.loads(out)
    assert HOSTILE in {row["group"] for row in found.get("rows", found.get("groups"))}


def test_in_narrow_tables_too(hostile_run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(printing, "WIDTH_WITHOUT_TERMINAL", 90)
    printing.print_comparison(compare(hostile_run))
    assert obeyed(capsys.readouterr().out) == set()


@pytest.mark.parametrize("command", ["compare", "audit", "report"])
def test_paths_in_errors_are_escaped(smd, tmp_path, command) -> None:
    code, out, err = smd(command, tmp_path / "no\x1b[2J\u202eere")
    assert code == 2
    assert obeyed(out + err) == set()
    assert r"no\x1b[2J\u202eere" in err


def test_whatever_a_command_hands_to_the_console(capsys) -> None:
    console = printing.stdout()
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    for thing in (HOSTILE, table):
        console.print(thing, markup=False)
    assert obeyed(capsys.readouterr().out) == set()


def test_notices_are_escaped(caplog, capsys) -> None:
    with caplog.at_level(logging.WARNING, "spherical_motion"):
        notify(f"left out: {HOSTILE}")
    announce(f"watching {HOSTILE}")
    assert obeyed(caplog.text + capsys.readouterr().err) == set()


def test_a_style_of_our_own_still_reaches_a_terminal() -> None:
    console = printing.SafeConsole(force_terminal=True, width=40, color_system="standard")
    with console.capture() as captured:
        console.print("[red]off[/]")
    assert "\x1b[31m" in captured.get()
