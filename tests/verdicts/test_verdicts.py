"""The table of faults: its plan, its arithmetic, and a few faults from training to verdict."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from verdicts.goals import false_alarms, named, shown
from verdicts.judging import affected_groups, judged
from verdicts.loop import INVARIANT
from verdicts.nets import TASKS
from verdicts.page import page
from verdicts.plan import (
    FAULTS,
    Run,
    concerned,
    every_run,
    fault_runs,
    healthy_runs,
    quick_runs,
)
from verdicts.running import compared, trained
from verdicts.scoring import cases, due

SAID: dict[str, Any] = {
    "groups": {"a": ["a.weight"], "b": ["b.weight", "a.bias"]},
    "certified": ["b"],
}


def row(group: str, kind: str, suspect: str = "", **more: Any) -> dict[str, Any]:
    usual = {"stage": 1, "start": 0, "stop": 1200, "since": None, "reason": "", "alarm": False}
    return {"group": group, "kind": kind, "suspect": suspect, **usual, **more}


def test_every_fault_meets_every_net_and_optimizer_that_it_concerns() -> None:
    runs = list(fault_runs())
    assert len(FAULTS) >= 50
    for fault in FAULTS.values():
        mine = [run for run in runs if run.fault == fault.name]
        possible = {key: concerned(fault, task) for key, task in TASKS.items()}
        assert {run.net for run in mine} == {key for key, choice in possible.items() if choice}
        assert {run.optimizer for run in mine} == set().union(*possible.values())
        assert all(run.optimizer in possible[run.net] for run in mine)
        assert fault.begins < mine[0].length
        assert fault.sentence


def test_there_are_enough_healthy_runs_and_no_run_twice() -> None:
    runs = every_run()
    assert sum(not run.fault for run in runs) >= 150
    assert len({run.key for run in runs}) == len(runs)
    assert set(quick_runs()) <= set(runs)
    assert {run.optimizer for run in healthy_runs()} == {run.optimizer for run in runs}


def test_a_case_is_right_only_with_the_right_suspect_after_the_beginning() -> None:
    fault = FAULTS["weights rolled back"]  # begins at 600
    early = row("a", "off", "WEIGHTS_WRITTEN", alarm=True, stop=600)
    found = row("a", "written", "WEIGHTS_WRITTEN", alarm=True, since=601)
    other = row("b", "off", "EPSILON", alarm=True)
    for rows, results in (
        ([early, found, other], {"a": "right", "b": "other alarm"}),
        ([row("a", "off", alarm=True), early], {"a": "other alarm", "b": "no row"}),
        ([row("a", "in equilibrium"), row("b", "off", "FADING")],
         {"a": "in equilibrium", "b": "finding"}),
    ):  # fmt: skip
        result = judged({**SAID, "rows": rows}, None, fault)
        assert {name: case["result"] for name, case in result["cases"].items()} == results
        assert len(result["early"]) == (early in rows)


def test_an_alarm_of_a_group_that_the_fault_does_not_concern_is_spilt() -> None:
    fault = FAULTS["one layer rescaled"]
    rows = [row("a", "off", "WEIGHTS_WRITTEN", alarm=True), row("b", "off", alarm=True)]
    result = judged({**SAID, "rows": rows}, ["a.weight"], fault)
    assert list(result["cases"]) == ["a"]
    assert [spilt["group"] for spilt in result["spilt"]] == ["b"]
    assert result["others"] == 1


def test_what_is_no_fault_is_right_if_it_is_quiet() -> None:
    fault = FAULTS["label noise ramps up"]
    quiet, loud = row("a", "approaching"), row("b", "off", "FADING", alarm=True)
    result = judged({**SAID, "rows": [quiet, loud]}, None, fault)
    assert [case["result"] for case in result["cases"].values()] == ["quiet", "false alarm"]


def test_affected_groups_hold_an_affected_parameter() -> None:
    assert affected_groups(SAID, None) == ["a", "b"]
    assert affected_groups(SAID, ["a.bias"]) == ["b"]
    assert affected_groups(SAID, [INVARIANT]) == ["b"]


def results() -> list[dict[str, Any]]:
    """Two runs, as the page reads them."""
    fault = FAULTS["weights rolled back"]
    rows = [row("a", "written", "WEIGHTS_WRITTEN", alarm=True, since=601), row("b", "in balance")]
    facts = {"net": "gpt", "optimizer": "AdamW", "schedule": "constant", "variant": ""}
    more = {"seconds": 2.0, "compare_seconds": 0.5}
    faulty = judged({**SAID, "rows": rows}, None, fault)
    healthy = judged({**SAID, "rows": [*rows, row("a", "too few samples")]}, None, None)
    return [
        {**facts, **more, **faulty, "fault": fault.name, "key": "1"},
        {**facts, **more, **healthy, "fault": "", "key": "2"},
    ]


def test_goals_count_cases_and_judged_rows() -> None:
    assert named(results()) == (1, 2)
    assert false_alarms(results()) == (1, 2)
    assert shown((1, 2)) == "1/2 (50.0%)"
    assert [due(case) for case in cases(results())] == [1002, 1002]


def test_the_page_shows_faults_misses_and_false_alarms() -> None:
    machine = {"cores": 2}
    text = page({"machine": machine, "after": results(), "before": []})
    assert "| weights rolled back |" in text
    assert "1/2 (50.0%)" in text
    assert "- in balance (gpt AdamW `b`)" in text
    assert "- gpt, AdamW, constant: `a` written, WEIGHTS_WRITTEN" in text


def judge(run: Run, directory: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained(run, directory)
        return compared(run, directory)


FAST = (
    ("EMA copy every 200 steps", "plain", "momentum"),
    ("momentum .85 declared .9", "plain", "momentum"),
    ("noise in the step, from step 10", "plain", "SGD"),
    ("decay missing on one layer", "mlp-ln", "SGD"),
    ("gradient None in one layer", "plain", "Adam"),
)


@pytest.mark.parametrize(("fault", "net", "optimizer"), FAST)
def test_a_fault_is_named_in_every_group_that_it_concerns(
    fault: str, net: str, optimizer: str, tmp_path: Path
) -> None:
    result = judge(Run(fault, net, optimizer, length=260), tmp_path / "run")
    found = {name: case["result"] for name, case in result["cases"].items()}
    assert set(found.values()) == {"right"}, result["cases"]
    assert not result["spilt"]


@pytest.mark.parametrize("optimizer", ["momentum", "AdamW", "Lion"])
def test_a_healthy_run_has_no_alarm(optimizer: str, tmp_path: Path) -> None:
    result = judge(Run("", "plain", optimizer, "steps", length=300), tmp_path / "run")
    assert result["wrong"] == []
    assert result["judged"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_fault_on_one_net_is_judged_without_false_words(tmp_path: Path) -> None:
    """One net for each fault: at least 95% of the cases are right, none is called well."""
    runs = [run for run in quick_runs() if run.fault]
    measured = [judge(run, tmp_path / run.key) for run in runs]
    found = [case for case in cases(measured) if case.fault.alarm]
    assert sum(case.right for case in found) >= 0.95 * len(found)
    assert not [case for case in found if case.clear]
