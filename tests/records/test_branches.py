"""A run that went back: what was given up is not read as this run, and can be asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from given import give

from spherical_motion.errors import InvalidArgument, RunDirectoryError
from spherical_motion.records import AUDIT_SUMS, Branch, RunWriter, read
from spherical_motion.records.files import segments
from spherical_motion.records.files.branches import Branches, next_step_of
from spherical_motion.records.files.segments import current_segments
from spherical_motion.records.parts import Parts
from spherical_motion.records.validation import sound_events
from spherical_motion.vocabulary import EventKind

TABLES = {"records", "settings", "scalars", "cells", "correlation", "audit", "audit_steps"}


def write(writer: RunWriter, steps: range, life: int, flush_every: int = 1000) -> None:
    """Everything that a run can record, with a number that tells in which life it was written."""
    for step in steps:
        value = 1000.0 * life + step
        give(writer, step, [(value, 0.5, 0.5, None)] * 2)
        writer.scalars(step, {"loss": value})
        writer.cells(step, 0, np.full((1, 6), value))
        writer.correlation(step, 0, [1.0, value], value)
        writer.audit(step, [0], np.full((1, len(AUDIT_SUMS)), value))
        writer.audit_step(step, 0, value, value, value, "")
        writer.event("rescaled", step=step, life=life)
        writer.rows(step, np.full((3, 6), value))
        if step % flush_every == 0:
            writer.flush()


def assert_is(directory: Path, expected: list[float], branch: int | None = None) -> None:
    """All tables hold these values at steps 0, 1, 2, ..."""
    records = read(directory, branch=branch, strict=True)
    steps = list(range(len(expected)))
    assert records.steps.tolist() == steps
    assert records.gram.dd[:, 0].tolist() == expected
    assert records.lr[:, 0].tolist() == expected
    assert records.scalars["loss"].steps.tolist() == steps
    assert records.scalars["loss"].values.tolist() == expected
    assert records.cells("conv").gram.ww[:, 0].tolist() == expected
    assert records.correlations("conv").update_sq.tolist() == expected
    assert records.audits.ww.tolist() == expected
    assert records.audit_steps.taken.tolist() == expected


def test_a_future_that_was_given_up_is_not_read_as_this_run(tmp_path, info):
    """100 steps; back to 50, ten more, killed; the run ends at 59 and goes on at 60."""
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(100), life=0, flush_every=40)
    with RunWriter(tmp_path, info, resume=True, first_step=50) as writer:
        assert writer.next_step == 50
        write(writer, range(50, 60), life=1)
    expected = [*map(float, range(50)), *(1000.0 + s for s in range(50, 60))]
    assert_is(tmp_path, expected)
    assert read(tmp_path).branches == (Branch(0, 50, 99, 150),)
    assert_is(tmp_path, [float(s) for s in range(100)], branch=0)
    with RunWriter(tmp_path, info, resume=True) as writer:
        assert writer.next_step == 60
        write(writer, range(60, 61), life=2)
    assert_is(tmp_path, [*expected, 2060.0])
    assert_is(tmp_path, expected, branch=1)
    assert read(tmp_path).branches == (Branch(0, 50, 99, 150), Branch(1, 60, 59, 0))


def test_against_an_obvious_reference(tmp_path, info, monkeypatch):
    """Lives of random lengths and returns, with merges; a dict of step to value is the truth."""
    monkeypatch.setattr(segments, "FAN_IN", 3)
    rng = np.random.default_rng(5)
    truth: dict[int, float] = {}
    stood: list[dict[int, float]] = []
    for life in range(5):
        first = int(rng.integers(len(truth) + 1)) if life else 0
        if life:
            stood.append(dict(truth))
        truth = {step: value for step, value in truth.items() if step < first}
        last = first + int(rng.integers(1, 6))
        with RunWriter(
            tmp_path, info, resume=life > 0, first_step=first if life else None
        ) as writer:
            write(writer, range(first, last), life, flush_every=1)
        truth |= {step: 1000.0 * life + step for step in range(first, last)}
    assert_is(tmp_path, list(truth.values()))
    for number, then in enumerate(stood):
        assert_is(tmp_path, list(then.values()), branch=number)
    parts = current_segments(tmp_path / "records")
    assert any(part.last > part.first for part in parts)
    for event in read(tmp_path).events:
        if event["kind"] == "resumed":
            assert set(event["segments"]) == TABLES
            boundary = event["segments"]["records"]
            assert not any(part.first < boundary <= part.last for part in parts)


def test_events_of_steps_that_were_given_up_are_left_out(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(10), life=0)
        writer.event("mine", note="of no step")
        writer.own_event(EventKind.CLOSED, step=10, steps=[10])
    with RunWriter(tmp_path, info, resume=True, first_step=4) as writer:
        write(writer, range(4, 6), life=1)
    found = [(e["kind"], e["step"], e.get("life")) for e in read(tmp_path).events]
    assert [f for f in found if f[0] == "rescaled"] == [
        *(("rescaled", step, 0) for step in range(5)),  # that of step 4 may be from before it
        ("rescaled", 4, 1),
        ("rescaled", 5, 1),
    ]
    assert [f[:2] for f in found if f[0] != "rescaled"] == [
        ("mine", None),
        ("closed", 10),
        ("resumed", 4),
    ]
    before = [e["kind"] for e in read(tmp_path, branch=0).events]
    assert before == ["rescaled"] * 10 + ["mine", "closed"]


def test_a_resume_that_records_nothing_gives_up_all_the_same(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(10), life=0)
    for first in (7, 3):
        RunWriter(tmp_path, info, resume=True, first_step=first).close()
    assert_is(tmp_path, [0.0, 1.0, 2.0])
    assert_is(tmp_path, [float(s) for s in range(7)], branch=1)
    assert read(tmp_path).branches == (Branch(0, 7, 9, 9), Branch(1, 3, 6, 12))


def test_a_run_that_was_closed_goes_on_where_it_was_closed(tmp_path, info):
    """Between samples too: nothing that was logged after the last row is given up."""
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(1), life=0)
        writer.scalars(18, {"loss": 18.0})
        writer.own_event(EventKind.CLOSED, step=19, steps=[19, 7])
    with RunWriter(tmp_path, info, resume=True) as writer:
        assert writer.next_step == 19
    assert read(tmp_path).scalars["loss"].steps.tolist() == [0, 18]
    assert read(tmp_path).branches[0].abandoned_rows == 0


def test_a_run_of_an_older_version_is_read_as_before(tmp_path, info):
    """Its events name no boundary: the later row wins, and nothing is left out by guess."""
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(10), life=0)
    with RunWriter(tmp_path, info, resume=True, first_step=4) as writer:
        write(writer, range(4, 6), life=1)
    path = tmp_path / "events.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        event.pop("segments", None)
        event.pop("crc", None)
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    expected = [0.0, 1.0, 2.0, 3.0, 1004.0, 1005.0, 6.0, 7.0, 8.0, 9.0]
    records = read(tmp_path)
    assert records.gram.dd[:, 0].tolist() == expected
    assert records.branches == ()
    assert len([e for e in records.events if e["kind"] == "rescaled"]) == 12
    with pytest.raises(InvalidArgument, match=r"\(none\), got 0.*resumed 1 times"):
        read(tmp_path, branch=0)
    with RunWriter(tmp_path, info, resume=True, first_step=5) as writer:
        write(writer, range(5, 6), life=2)
    assert_is(tmp_path, [0.0, 1.0, 2.0, 3.0, 1004.0, 2005.0])
    assert read(tmp_path, branch=1).gram.dd[:, 0].tolist() == expected


@pytest.mark.parametrize("bad", [1, -1, 0.5, "0"])
def test_a_branch_that_there_is_not_is_refused(tmp_path, info, bad):
    RunWriter(tmp_path, info).close()
    RunWriter(tmp_path, info, resume=True).close()
    with pytest.raises(InvalidArgument, match="branch"):
        read(tmp_path, branch=bad)


@pytest.mark.parametrize(
    "odd",
    [
        {"step": None},
        {"step": -1},
        {"step": True},
        {"segments": [1]},
        {"segments": {"records": "1"}},
    ],
)
def test_a_boundary_that_makes_no_sense_is_not_known(odd):
    event = {"kind": "resumed", "step": 5, "segments": {"records": 2}} | odd
    assert Branches([event]).resumes == ()
    assert Branches([event]).limit("records", 0) is None


def test_where_a_run_goes_on():
    closed = {"kind": "closed", "step": 9, "steps": [9, 4]}
    assert next_step_of([], 6) == 7
    assert next_step_of([closed], 6) == 9
    assert next_step_of([closed], 11) == 12
    assert next_step_of([closed, {"kind": "resumed", "step": 3}], 6) == 7
    resumed = {"kind": "resumed", "step": 30, "segments": {}}
    assert next_step_of([closed, resumed], 6) == 30
    assert next_step_of([resumed, closed], 6) == 9
    assert next_step_of([], 2**53 - 1) == 2**53 - 1


def killed_between_samples(directory: Path, info) -> None:
    """Rows at 0, 1, 100 and 101; scalars at every step up to 199; a change at 150."""
    with RunWriter(directory, info) as writer:
        give(writer, 0, [(0.1, 0.0, 0.0, None)] * 2)
        for step in range(200):
            if step % 100 < 2:
                writer.rows(step, np.full((3, 6), float(step)))
            if step == 150:
                writer.settings(150, 0, (0.01, 0.0, 0.0, None))
                writer.own_event(
                    EventKind.RATE_CHANGED, step=150, optimizer=0, param_group=0, lr=0.01
                )
                writer.audit(160, [0], np.ones((1, len(AUDIT_SUMS))))
            writer.scalars(step, {"loss": float(step)})
        writer.event("mine", step=500)


def what_is_told(directory: Path) -> dict[str, object]:
    records = read(directory, strict=True)
    return {
        "rows": records.steps.tolist(),
        "scalars": records.scalars["loss"].steps.tolist(),
        "settings": records.changes["step"].tolist() if records.changes else [],
        "audits": records.audits.step.tolist(),
        "events": [(e["kind"], e["step"]) for e in records.events if e["kind"] != "resumed"],
    }


def test_a_killed_run_that_goes_on_gives_up_nothing(tmp_path, info):
    killed_between_samples(tmp_path, info)
    before = what_is_told(tmp_path)
    for _ in range(2):
        with RunWriter(tmp_path, info, resume=True) as writer:
            assert writer.next_step == 200
        assert what_is_told(tmp_path) == before
    with RunWriter(tmp_path, info, resume=True) as writer:
        writer.rows(200, np.full((3, 6), 200.0))
    assert what_is_told(tmp_path) == before | {"rows": [0, 1, 100, 101, 200]}
    assert [(b.first_step, b.abandoned_rows) for b in read(tmp_path).branches] == [(200, 0)] * 3


def test_a_step_that_the_user_names_gives_up_what_came_after(tmp_path, info):
    killed_between_samples(tmp_path, info)
    with RunWriter(tmp_path, info, resume=True, first_step=102) as writer:
        assert writer.next_step == 102
    assert what_is_told(tmp_path) == {
        "rows": [0, 1, 100, 101],
        "scalars": list(range(102)),
        "settings": [0, 0],
        "audits": [],
        "events": [],
    }
    with RunWriter(tmp_path, info, resume=True) as writer:  # killed before it recorded anything
        assert writer.next_step == 102


def test_settings_of_a_step_say_that_it_was_next(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        writer.settings(0, 0, (0.1, 0.0, 0.0, None))
    with RunWriter(tmp_path, info, resume=True) as writer:
        assert writer.next_step == 0
        writer.settings(7, 0, (0.1, 0.0, 0.0, None))
    with RunWriter(tmp_path, info, resume=True) as writer:
        assert writer.next_step == 7


@pytest.mark.parametrize("table", ["scalars", "settings"])
def test_a_damaged_part_beside_the_rows_does_not_keep_a_run_from_going_on(tmp_path, info, table):
    killed_between_samples(tmp_path, info)
    for part in current_segments(tmp_path / table):
        part.path.write_bytes(b"no table")
    with RunWriter(tmp_path, info, resume=True) as writer:
        assert writer.next_step == (200 if table == "settings" else 161)


def test_a_resume_while_a_run_is_read_is_noticed(tmp_path, info, monkeypatch):
    """Rows of both sides of a boundary that the reader did not know of are not mixed."""
    from spherical_motion.records import reader

    with RunWriter(tmp_path, info) as writer:
        write(writer, range(10), life=0)
    real = reader._records
    calls = []

    def resumed_meanwhile(*args):
        if not calls:
            with RunWriter(tmp_path, info, resume=True, first_step=4) as writer:
                write(writer, range(4, 6), life=1)
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(reader, "_records", resumed_meanwhile)
    assert_is(tmp_path, [0.0, 1.0, 2.0, 3.0, 1004.0, 1005.0])
    assert len(calls) == 2


def test_tables_read_on_demand_are_those_of_the_run_that_was_read(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(10), life=0)
    records = read(tmp_path)
    with RunWriter(tmp_path, info, resume=True, first_step=4) as writer:
        write(writer, range(4, 6), life=1)
    assert records.cells("conv").gram.ww[:, 0].tolist() == [float(s) for s in range(10)]
    assert records.audits.ww.tolist() == [float(s) for s in range(10)]


def test_a_run_that_is_removed_before_a_table_is_read_is_an_error(tmp_path, info):
    import shutil

    with RunWriter(tmp_path / "run", info) as writer:
        write(writer, range(3), life=0)
    whole, audited = read(tmp_path / "run"), read(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "audit")
    assert len(audited.audits) == 0
    assert [piece.name for piece in audited.unreadable] == ["audit"]
    shutil.rmtree(tmp_path / "run")
    for use in (lambda: whole.audits, lambda: whole.audit_steps, lambda: whole.cells("conv")):
        with pytest.raises(RunDirectoryError, match="was removed since it was opened"):
            use()


def flipped_lines(content: bytes) -> list[bytes]:
    """The file with one bit of its "resumed" line flipped, for every bit, its end with it."""
    start = content.rindex(b"\n", 0, content.index(b'"resumed"')) + 1
    stop = content.index(b"\n", start) + 1
    found = []
    for place in range(start, stop):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            found.append(bytes(changed))
    return found


@pytest.mark.parametrize("is_last", [True, False])
def test_no_flipped_bit_of_a_resume_changes_which_rows_count_without_a_word(
    tmp_path, info, is_last
):
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(10), life=0)
    with RunWriter(tmp_path, info, resume=True, first_step=4) as writer:
        write(writer, range(4, 6), life=1)
    path = tmp_path / "events.jsonl"
    content = path.read_bytes()
    if is_last:
        path.write_bytes(
            content := content[: content.index(b"\n", content.index(b'"resumed"')) + 1]
        )
    (sound,) = (e for e in sound_events(path, Parts(tmp_path)) if e["kind"] == "resumed")
    limits = {table: Branches([sound]).limit(table, 0) for table in TABLES}
    for changed in flipped_lines(content):
        path.write_bytes(changed)
        parts = Parts(tmp_path)
        events = sound_events(path, parts)
        if not parts.unreadable:  # a bit of the checksum's own name
            assert {table: Branches(events).limit(table, 0) for table in TABLES} == limits
            (found,) = (e for e in events if e["kind"] == "resumed")
            assert sound.items() <= found.items()
        else:
            assert [piece.name for piece in parts.unreadable] == ["events.jsonl"]


def test_a_changed_digit_of_a_resume_is_damage(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(10), life=0)
    with RunWriter(tmp_path, info, resume=True, first_step=4) as writer:
        writer.event("mine", crc="5", time=1)
    path = tmp_path / "events.jsonl"
    (mine,) = (e for e in read(tmp_path, strict=True).events if e["kind"] == "mine")
    assert (mine["crc_"], mine["time_"], "crc" in mine) == ("5", 1, False)
    path.write_bytes(path.read_bytes().replace(b'"resumed", "step": 4', b'"resumed", "step": 9'))
    assert [piece.name for piece in read(tmp_path).unreadable] == ["events.jsonl"]
    with pytest.raises(RunDirectoryError, match=r"line 11: its bytes have the checksum"):
        read(tmp_path, strict=True)
