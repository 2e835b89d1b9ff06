"""Alarms that a user knows of: acknowledged in rows, findings, tables and exit codes."""

from __future__ import annotations

import json

import pytest
from pulled import pulled_sgd
from simulated import constant

from spherical_motion import cli
from spherical_motion.comparison import compare
from spherical_motion.errors import InvalidArgument
from spherical_motion.reporting import table_html
from spherical_motion.vocabulary import Suspect, Tone

SETTINGS = constant(0.1, 0.02, 0.9, 400)


@pytest.fixture
def run(write_run):
    """Two of three groups are written between their steps."""
    write = {"write": lambda step: 1.01 if step == 300 else 1.0}
    products = {
        "layer1.conv": pulled_sgd(SETTINGS, **write),
        "layer2.conv": pulled_sgd(SETTINGS, **write, seed=1),
        "head": pulled_sgd(SETTINGS, seed=2),
    }
    return write_run(products, SETTINGS)


@pytest.mark.parametrize(
    ("ignore", "known"),
    [
        ([], []),
        (["layer1.conv"], ["layer1.conv"]),
        (["layer2.conv:WEIGHTS_WRITTEN"], ["layer2.conv"]),
        (["layer2.conv:weights-written"], ["layer2.conv"]),
        (["layer*"], ["layer1.conv", "layer2.conv"]),
        (["*:weights written"], ["layer1.conv", "layer2.conv"]),
        (["*:EPSILON"], []),
        (["layer1.conv", "layer2.conv"], ["layer1.conv", "layer2.conv"]),
    ],
)
def test_what_is_ignored_is_acknowledged_and_nothing_else(run, ignore, known) -> None:
    comparison = compare(run, ignore=ignore)
    assert [row.group for row in comparison if row.acknowledged] == known
    assert len(comparison.alarms) == 2 - len(known)
    for row in comparison:
        assert row.verdict.alarm == (row.group != "head")
        assert row.alarm == (row.verdict.alarm and not row.acknowledged)
        assert ("(acknowledged)" in row.called) == row.acknowledged
        assert row.verdict.suspect is (Suspect.WEIGHTS_WRITTEN if row.verdict.alarm else None)
    assert compare(run, ignore=["layer*"])["layer1.conv"].tone is Tone.CAUTION


@pytest.mark.parametrize(
    ("ignore", "nearest"),
    [
        ("layer1.con", r"no group is named 'layer1.con'. The nearest is 'layer1.conv'"),
        ("head:EPSILO", r"no suspect is named 'EPSILO'. The nearest is 'EPSILON'"),
        ("foot*", "no group is named"),
    ],
)
def test_unknown_names_are_an_error_that_names_the_nearest(run, ignore, nearest) -> None:
    with pytest.raises(InvalidArgument, match=nearest):
        compare(run, ignore=[ignore])


def test_one_string_is_no_list(run) -> None:
    with pytest.raises(InvalidArgument, match="must be a list"):
        compare(run, ignore="head")


@pytest.mark.parametrize("band", [0.0, 1.0, -0.1])
def test_a_band_lies_between_zero_and_one(run, band) -> None:
    with pytest.raises(InvalidArgument, match="band"):
        compare(run, band=band)


def test_it_is_shown_everywhere_and_the_exit_code_counts_the_others(run, capsys) -> None:
    def smd(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.app(["compare", str(run), *arguments])
        return ended.value.code, capsys.readouterr().out

    assert smd()[0] == 1
    code, text = smd("--ignore", "layer1.conv", "--ignore", "layer2.conv:weights_written")
    assert code == 0
    assert text.count("weights written (acknowledged)") == 2
    assert "acknowledged" in text.split("What this says")[1]
    code, text = smd("--ignore", "layer1.conv", "--json")
    assert code == 1
    rows = {row["group"]: row for row in json.loads(text)["rows"]}
    assert [rows[name]["acknowledged"] for name in rows] == [True, False, False]
    assert [rows[name]["alarm"] for name in rows] == [False, True, False]
    assert rows["layer2.conv"]["suspect"] == "WEIGHTS_WRITTEN"
    with pytest.raises(InvalidArgument, match="nobody"):  # `smd` ends with 2 then
        cli.app(["compare", str(run), "--ignore", "nobody"])
    with pytest.raises(SystemExit):
        cli.app(["report", str(run), "--ignore", "layer1.conv"])
    assert "(acknowledged)" in (run / "report.html").read_text(encoding="utf-8")
    page = table_html(compare(run, ignore=["layer1.conv"]))
    assert page.count("(acknowledged)") == 1
    assert 'sm-chip caution">weights written' in page
