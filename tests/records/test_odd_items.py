"""One item that cannot be stored is left out with an event; all others are recorded."""

from __future__ import annotations

import collections
import enum
import math

import numpy as np
import pytest
import torch

from spherical_motion.errors import RecordingStopped
from spherical_motion.records import RunWriter, read
from spherical_motion.records.files.events import (
    MOST_CHARACTERS,
    MOST_IN_NAME,
    MOST_LEVELS,
    make_event,
)
from spherical_motion.records.pending import AuditStepRow
from spherical_motion.vocabulary import EventKind


class Raising:
    """Cannot be shown, converted or listed."""

    def __str__(self) -> str:
        raise RuntimeError("this object cannot be shown")

    __repr__ = __float__ = __str__


class RaisingList:
    def tolist(self) -> list[object]:
        raise RuntimeError("this object cannot be listed")


class Endless(dict):
    def items(self):
        while True:
            yield "key", 0


def cycle() -> list[object]:
    around: list[object] = []
    around.append({"again": around})
    return around


def nested(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


ODD = {
    "surrogate": lambda: "\ud800",
    "surrogate in a list": lambda: [{"name": "\udcff"}],
    "surrogate as a key": lambda: {"\ud800": 1},
    "cycle": cycle,
    "deep": lambda: nested(100_000),
    "raising": Raising,
    "raising deeper": lambda: [{"it": Raising()}],
    "raising list": RaisingList,
    "a long text": lambda: "x" * (MOST_CHARACTERS + 1),
    "a large array": lambda: np.zeros(MOST_CHARACTERS),
    "a large tensor": lambda: torch.zeros(MOST_CHARACTERS, dtype=torch.int8)[None],
    "a long list": lambda: [0] * MOST_CHARACTERS,
    "endless": Endless,
    "a number of many digits": lambda: 10**5000,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_event_is_left_out_and_the_rest_goes_on(tmp_path, info, rng, name) -> None:
    gram = rng.normal(size=(3, 6))
    odd = ODD[name]()
    with RunWriter(tmp_path, info) as writer:
        writer.rows(0, gram)
        writer.event("before")
        for _ in range(3):
            writer.event("odd", 0, data=odd)
        writer.event("after")
        assert writer.flush()
        writer.rows(1, gram)
    records = read(tmp_path)
    assert [event["kind"] for event in records.events] == ["before", "skipped", "after"]
    skipped = records.events[1]
    assert (skipped["name"], skipped["step"]) == ("odd", 0)
    assert skipped["reason"]
    assert records.steps.tolist() == [0, 1]
    assert writer.skipped == {"odd": skipped["reason"]}


@pytest.mark.parametrize("kind", ["\ud800", "x" * 10_001, Raising()], ids=range(3))
@pytest.mark.parametrize("step", [Raising(), -1, 2**53, 10**400, "one", math.nan], ids=range(6))
def test_an_odd_kind_or_step(tmp_path, info, kind, step) -> None:
    with RunWriter(tmp_path, info) as writer:
        writer.event(kind)
        writer.event("odd", step=step)
        writer.event("fine")
        writer.scalars(step, {"loss": 1.0})
        writer.scalars(7, {"loss": 2.0})
    records = read(tmp_path, strict=True)
    assert [event["kind"] for event in records.events] == ["skipped"] * 2 + ["fine", "skipped"]
    assert records.scalars["loss"].values.tolist() == [2.0]


KEPT = {
    "nested": nested(MOST_LEVELS),
    "a long name": {"x" * MOST_IN_NAME: nested(MOST_LEVELS - 1)},
    "text": {"nul": "\0", "separators": "\u2028\x85\n", "quote": '"', "high": "\U0010ffff"},
    "a long text": "x" * (MOST_CHARACTERS - 1000),
}

TOO_MUCH = {
    "nested": nested(MOST_LEVELS + 1),
    "a long name": {"x" * (MOST_IN_NAME + 1): 0},
    "a long text": "x" * MOST_CHARACTERS,
}


def test_whatever_is_recorded_can_be_read(tmp_path, info) -> None:
    with RunWriter(tmp_path, info) as writer:
        for data in (*TOO_MUCH.values(), *KEPT.values()):
            writer.event("note", 2**53 - 1, data=data)
        writer.event("note", 0, **{"x" * MOST_IN_NAME: 1})
        writer.event("note", 0, **{"x" * (MOST_IN_NAME + 1): 1})
    first, *events = read(tmp_path, strict=True).events
    assert first["kind"] == "skipped"
    assert [event["data"] for event in events[:-1]] == list(KEPT.values())
    assert events[-1]["x" * MOST_IN_NAME] == 1
    assert len(events) == len(KEPT) + 1


def test_odd_scalars_are_left_out_and_the_rest_goes_on(tmp_path, info) -> None:
    odd = {
        "raising": Raising(),
        "text": "high",
        "many": np.zeros(2),
        "tensor": torch.zeros(3),
        "complex": 1j,
        "complex array": np.array(1j),
        "meta": torch.zeros(1, device="meta"),
        "huge": 10**400,
        "none": None,
        "\ud800": 1.0,
    }
    with RunWriter(tmp_path, info) as writer:
        writer.scalars(0, {**odd, "loss": 0.5})
        writer.scalars(None, {"loss": 1.0})  # type: ignore[arg-type]
        writer.scalars(1, None)  # type: ignore[arg-type]
        writer.scalars(1, {**odd, "loss": 0.25})
    records = read(tmp_path)
    assert records.scalars["loss"].values.tolist() == [0.5, 0.25]
    assert set(records.scalars) == {"loss", r"\ud800"}
    names = [event["name"] for event in records.events]
    assert sorted(names) == sorted({*odd, "scalars"} - {"\ud800"})


def test_events_hold_what_they_held_before() -> None:
    class Text(str):
        def __str__(self) -> str:
            return "other"

    class Colour(enum.IntEnum):
        RED = 3

    data = {
        "kind": EventKind.CLOSED,
        "numbers": (1, 2.5, True, None, Colour.RED, np.float32(0.5), np.int64(7)),
        "not finite": [float("nan"), np.inf],
        "text": Text("own"),
        "arrays": [np.array([[1, 2]]), torch.tensor([1.0, float("nan")]), np.array(4)],
        "mapping": collections.OrderedDict({1: "a"}),
        "unknown": torch.float32,
        "deep": nested(12),
    }
    event = make_event("note", 4, **data)
    del event["time"]
    assert event == {
        "kind": "note",
        "step": 4,
        "kind_": "closed",
        "numbers": [1, 2.5, True, None, 3, 0.5, 7],
        "not finite": [None, None],
        "text": "own",
        "arrays": [[[1, 2]], [1.0, None], 4],
        "mapping": {"1": "a"},
        "unknown": "torch.float32",
        "deep": nested(12),
    }
    assert type(event["text"]) is str
    assert type(event["kind_"]) is str


@pytest.mark.parametrize("kind", EventKind)
def test_an_event_of_a_user_changes_no_run_whatever_its_kind(tmp_path, info, rng, kind) -> None:
    """Neither what is read nor where the run goes on, also with data that the library's lack."""
    data = {"steps": [1000], "segments": {"records": 0}, "lr": "x", "parameters": 3, "changed": 1}
    with RunWriter(tmp_path, info) as writer:
        for step in range(10):
            writer.rows(step, rng.normal(size=(3, 6)))
            writer.scalars(step, {"loss": 1.0})
            writer.event(kind.value, step=3)
            writer.event(kind, step=3, **data)
    for goes_on in (10, 10):
        records = read(tmp_path, strict=True)
        assert records.steps.tolist() == list(range(10))
        steers = kind in (EventKind.RESCALED, EventKind.RESCALING_LIMITED)
        told = [e for e in records.events if e["kind"] == f"{kind}{'' if steers else '_'}"]
        assert [e.get("lr") for e in told] == [None, "x"] * 10
        with RunWriter(tmp_path, info, resume=True) as writer:
            assert writer.next_step == goes_on
    assert [branch.first_step for branch in read(tmp_path).branches] == [10, 10]


def test_the_reason_of_an_audited_step_may_be_any_text(tmp_path, info, rng) -> None:
    reasons = ["", "\ud800", "a\nb", "x" * 5000]
    with RunWriter(tmp_path, info) as writer:
        for step, reason in enumerate(reasons):
            writer.rows(step, rng.normal(size=(3, 6)))
            writer.audit_step(step, 0, 1.0, 1.0, 1.0, reason)
    records = read(tmp_path, strict=True)
    assert records.steps.tolist() == [0, 1, 2, 3]
    expected = ["", r"\ud800", r"a\nb", "x" * 1000 + "..."]
    assert records.audit_steps.skipped.tolist() == expected


@pytest.mark.parametrize("optimizer", [-1, 2**31])
def test_the_number_of_an_optimizer_that_cannot_be(tmp_path, info, rng, optimizer) -> None:
    """It ends recording like a wrong number of a group, and is not stored."""
    writer = RunWriter(tmp_path, info)
    writer.rows(0, rng.normal(size=(3, 6)))
    with pytest.warns(RecordingStopped, match="optimizer"):
        writer.audit_step(0, optimizer, 1.0, 1.0, 1.0, "")
    writer.close()
    records = read(tmp_path, strict=True)
    assert records.steps.tolist() == [0]
    assert len(records.audit_steps) == 0


def test_an_item_that_fits_into_no_table_is_left_out_alone(tmp_path, info, rng) -> None:
    """Such items are refused earlier, so they are made by hand."""
    made = make_audit_steps([(0, "fine"), (1, "\ud800"), (2, "fine"), (3, "\udfff")])
    with RunWriter(tmp_path, info) as writer:
        for step in range(4):
            writer.rows(step, rng.normal(size=(3, 6)))
        for row in made:
            writer._worker.put(lambda pending, row=row: pending.add(row))
        assert writer.flush()
        writer.rows(4, rng.normal(size=(3, 6)))
        writer._worker.put(lambda pending: pending.add(made[1]))
        assert writer.flush()
        assert list(writer.skipped) == ["audit_steps"]
    records = read(tmp_path, strict=True)
    assert records.steps.tolist() == [0, 1, 2, 3, 4]
    assert records.audit_steps.step.tolist() == [0, 2]
    (event,) = (e for e in records.events if e["kind"] == "skipped")
    assert (event["name"], event["step"]) == ("audit_steps", 1)
    assert "surrogates not allowed" in event["reason"]


def make_audit_steps(given: list[tuple[int, str]]) -> list[AuditStepRow]:
    return [AuditStepRow(step, 0, np.ones(3), why) for step, why in given]
