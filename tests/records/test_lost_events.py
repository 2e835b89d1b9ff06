"""What a reader says of a run that was resumed, and whose events are lost in part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spherical_motion.errors import RunDirectoryError
from spherical_motion.records import RunWriter, read
from spherical_motion.vocabulary import EventKind

WORDS = (
    "which rows were given up is not known: rows of a branch that was given up may be among those "
    "read"
)


@pytest.fixture
def run(tmp_path: Path, info) -> Path:
    """A run of 40 steps that went back to step 15 and went on to step 24."""
    for life, steps in enumerate((range(40), range(15, 25))):
        go_back = {"resume": True, "first_step": 15} if life else {}
        with RunWriter(tmp_path / "run", info, **go_back) as writer:
            for step in steps:
                writer.rows(step, np.full((3, 6), 1000.0 * life + step))
            writer.event("epoch", step=steps[-1])
    assert len(read(tmp_path / "run", strict=True).steps) == 25
    return tmp_path / "run"


def change(run: Path, kind: str, how) -> int:
    """Write each line of this kind as `how` makes it; returns the number of the last one."""
    path = run / "events.jsonl"
    lines = path.read_text().splitlines()
    (*_, place) = (i for i, line in enumerate(lines) if json.loads(line)["kind"] == kind)
    lines[place] = how(lines[place])
    path.write_text("".join(f"{line}\n" for line in lines))
    return place + 1


def without_time(line: str) -> str:
    event = json.loads(line)
    del event["time"], event["crc"]  # as an older version wrote it, without a checksum
    return json.dumps(event)


def assert_told(run: Path, caplog, why: str) -> None:
    records = read(run)
    assert len(records.steps) == 40  # rows that were given up are among them
    assert records.unreadable == (("events.jsonl", f"{why}; {WORDS}"),)
    (notice,) = caplog.messages
    assert WORDS in notice
    with pytest.raises(RunDirectoryError, match=WORDS):
        read(run, strict=True)


def test_a_lost_file_of_events_may_hide_a_resume(run, caplog):
    (run / "events.jsonl").unlink()
    assert_told(run, caplog, "it is missing")


def test_a_broken_line_of_a_resume_is_told(run, caplog):
    line = change(run, "resumed", without_time)
    assert_told(run, caplog, f"line {line}: an event has no time")


def test_a_line_of_which_nothing_is_known_may_hide_a_resume(run, caplog):
    line = change(run, "resumed", lambda line: line[40:])
    why = read(run).unreadable[0].why.removesuffix(f"; {WORDS}")
    assert why.startswith(f"line {line}: ")
    caplog.clear()
    assert_told(run, caplog, why)


def test_a_broken_line_of_another_kind_hides_no_resume(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        writer.rows(0, np.ones((3, 6)))
        writer.own_event(EventKind.CLOSED, step=1, steps=[1])
    change(tmp_path, "closed", without_time)
    assert read(tmp_path).unreadable == (("events.jsonl", "line 1: an event has no time"),)
