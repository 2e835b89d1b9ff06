"""The one table of verdicts, and that every place that shows a verdict reads it."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from simulated import constant, simulate_sgd

from spherical_motion import cli
from spherical_motion.cli import printing
from spherical_motion.comparison import ALARMS, compare
from spherical_motion.comparison.ladder.reasons import AngleReason
from spherical_motion.reporting import render, table_html
from spherical_motion.vocabulary import (
    MEANINGS,
    Reason,
    ReasonKind,
    Suspect,
    Tone,
    Verdict,
    VerdictKind,
)

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "spherical_motion"
KEYED_BY_VERDICT = {"vocabulary/verdict.py"}


def test_every_verdict_has_a_tone_and_a_meaning() -> None:
    assert list(MEANINGS) == list(VerdictKind)
    for kind in VerdictKind:
        assert kind.meaning.sentence.endswith(".")
        assert kind.meaning.advice.endswith(".")
        assert kind.meaning.alarm is (kind.meaning.tone is Tone.ALARM) is (kind in ALARMS)
    loud = {k for k in VerdictKind if k.meaning.tone in (Tone.ALARM, Tone.CAUTION)}
    assert loud - {VerdictKind.OFF, VerdictKind.OFF_BALANCE} == set(ALARMS)


def test_frozen_is_an_alarm_unless_the_rate_is_zero() -> None:
    assert Verdict(VerdictKind.FROZEN, "why").alarm
    assert Verdict(VerdictKind.FROZEN, "why", suspect=Suspect.NO_GRADIENT).alarm
    resting = Verdict(VerdictKind.FROZEN, "why", suspect=Suspect.RATE_ZERO)
    assert not resting.alarm
    assert resting.tone is Tone.QUIET
    still = Verdict(VerdictKind.IN_EQUILIBRIUM, "why", suspect=Suspect.RATE_ZERO)
    assert still.tone is Tone.SETTLED


def test_words_and_suspect_follow_from_the_reasons() -> None:
    class Mine(ReasonKind):
        JUMPED = "the norm jumped by {jump:.0%}", Suspect.WEIGHTS_WRITTEN
        TWICE = ", twice"
        ASKED = ": why?"
        ADDED = ". It did"

    reasons = (Mine.JUMPED(jump=0.5), Reason(Mine.TWICE))
    verdict = Verdict.because(VerdictKind.OFF, reasons, {"jump": 0.5})
    assert str(verdict) == "off: the norm jumped by 50%, twice"
    assert verdict.suspect is Suspect.WEIGHTS_WRITTEN
    assert verdict.has_reason(Mine.TWICE)
    assert not verdict.has_reason(AngleReason.MIXED)
    asked = Verdict.because(VerdictKind.OFF, map(Reason, (Mine.ASKED, Mine.ADDED)), {})
    assert asked.reason == ": why? It did"


def test_the_readme_has_the_table() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("| verdict | what it says | what to do |\n|---|---|---|\n")[1]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", table.split("\n\n")[0], re.M)
    assert sorted(rows) == sorted((k.value, m.sentence, m.advice) for k, m in MEANINGS.items())


def test_the_readme_has_the_suspects() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("| suspect | what it is | alarm |\n|---|---|---|\n")[1]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", table.split("\n\n")[0], re.M)
    assert rows == [(s.name, s.meaning, "yes" if s.alarm else "no") for s in Suspect]


@pytest.mark.parametrize(
    ("lr", "tone", "exit_code"), [(0.0, Tone.QUIET, 0), (0.1, Tone.ALARM, 1)], ids=["rest", "stuck"]
)
def test_terminal_report_and_exit_code_agree(
    write_run, capsys, monkeypatch, lr: float, tone: Tone, exit_code: int
) -> None:
    settings = constant(lr, 0.02, 0.9, 100)
    products = simulate_sgd(settings)
    products[:, [1, 2, 5]] = 0.0
    run = write_run({"conv": products}, settings)
    comparison = compare(run)
    row = comparison["conv"]
    assert (row.verdict.kind, row.verdict.tone, row.alarm) == (
        VerdictKind.FROZEN,
        tone,
        tone is Tone.ALARM,
    )
    assert comparison.alarms == ((row,) if row.alarm else ())
    chips = re.findall(r'sm-chip (\w+)">frozen</span></summary>', table_html(comparison))
    assert chips == [tone.value]
    page = render(comparison)
    assert f'class="sm-chip {tone.value}">frozen</span> 1</button>' in page
    for kind, meaning in MEANINGS.items():
        assert f'class="sm-chip {meaning.tone.value}">{kind.value}</span></dt>' in page
    (cell,) = printing._table([row]).columns[-1].cells
    assert str(cell).startswith(f"[{tone.colour}]frozen[/]")
    with pytest.raises(SystemExit) as ended:
        cli.app(["compare", str(run), "--json"])
    assert ended.value.code == exit_code
    told = json.loads(capsys.readouterr().out)["rows"][0]
    assert told["alarm"] is row.alarm
    assert told["suspect"] == (row.verdict.suspect and row.verdict.suspect.name)
    assert told["acknowledged"] is False


def test_alarms_come_first_and_resting_groups_do_not_count(write_run) -> None:
    settings = constant(0.0, 0.02, 0.9, 100)
    comparison = compare(write_run({"conv": simulate_sgd(settings)}, settings))
    assert comparison.alarms == ()
    assert "the learning rate is 0" in comparison.findings[0]


def test_no_other_file_maps_verdicts_to_anything() -> None:
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys = node.keys if isinstance(node, ast.Dict) else []
            if any("VerdictKind." in ast.unparse(key) for key in keys if key is not None):
                found.add(path.relative_to(SOURCES).as_posix())
    assert found == KEYED_BY_VERDICT


def test_nothing_reads_a_finished_sentence() -> None:
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            tested = [s for s in sides if isinstance(s, ast.Attribute) and s.attr == "reason"]
            assert not tested, f"{path}:{node.lineno} tests the words of a reason"
