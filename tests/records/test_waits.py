"""Waits for the disk end and say what they wait for; a writer that has died says so at once."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from spherical_motion.errors import RecordingStopped, RunDirectoryError
from spherical_motion.records import RunWriter, read
from spherical_motion.records.writing import waiting
from spherical_motion.records.writing.store import RunStore

HOUR = 3600.0
SOON = 5.0
"""Seconds that nothing here may take, on the slowest machine."""


@pytest.fixture
def gram(rng):
    """Six products of three slices."""
    return rng.normal(size=(3, 6))


@pytest.fixture
def stuck(monkeypatch) -> Iterator[threading.Event]:
    """A disk on which no sync returns until the event is set."""
    freed, sync = threading.Event(), os.fsync

    def wait(handle: int) -> None:
        assert freed.wait(60)
        sync(handle)

    monkeypatch.setattr(os, "fsync", wait)
    monkeypatch.setattr(waiting, "EVERY", 0.05)
    yield freed
    freed.set()


def begun(directory, info, monkeypatch, patience: float = HOUR) -> RunWriter:
    """A writer that was begun while the disk still answered."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        return RunWriter(directory, info, flush_seconds=HOUR, patience=patience)


def test_a_slow_disk_is_waited_for_and_the_wait_announced(
    tmp_path, info, gram, stuck, monkeypatch, caplog
) -> None:
    writer = begun(tmp_path, info, monkeypatch)
    for step in range(3, 8):
        writer.rows(step, gram)
    writer.scalars(7, {"loss": 0.5})
    threading.Timer(0.4, stuck.set).start()
    assert writer.close()
    told = [text for text in caplog.messages if "not stored" in text]
    assert 2 <= len(told) <= 8
    assert (
        f"{tmp_path}: the disk does not answer; not stored: 5 steps (3 to 7) and 1 scal" in told[0]
    )
    assert "If this process is killed now, that is lost" in told[0]
    assert read(tmp_path).steps.tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("call", ["flush", "close"])
def test_a_disk_that_never_answers_is_not_waited_for_without_end(
    tmp_path, info, gram, stuck, monkeypatch, caplog, call
) -> None:
    writer = begun(tmp_path, info, monkeypatch, patience=0.2)
    writer.rows(0, gram)
    began = time.monotonic()
    assert getattr(writer, call)() is False
    assert 0.2 <= time.monotonic() - began < SOON
    assert "Not waiting any longer than 0 s" in caplog.text
    assert "not stored: step 0" in caplog.messages[-1]
    stuck.set()
    writer._worker._thread.join(SOON if call == "close" else 0.0)
    assert writer.close()
    assert read(tmp_path).steps.tolist() == [0]


def test_nothing_but_flush_and_close_waits_for_the_disk(
    tmp_path, info, gram, stuck, monkeypatch
) -> None:
    writer = begun(tmp_path, info, monkeypatch, patience=HOUR)
    writer._worker._flush_bytes = 1
    began = time.monotonic()
    for step in range(100):
        writer.rows(step, gram)
        writer.scalars(step, {"loss": 1.0})
        writer.event("note")
    writer.end()
    writer.end()
    assert time.monotonic() - began < SOON
    stuck.set()
    assert writer.close()
    assert read(tmp_path).steps.tolist() == list(range(100))


def test_a_lock_that_cannot_be_closed_does_not_keep_close(
    tmp_path, info, gram, monkeypatch
) -> None:
    def fail(_: RunStore) -> None:
        raise OSError(5, "Input/output error")

    writer = RunWriter(tmp_path, info)
    writer.rows(0, gram)
    release = RunStore.close
    monkeypatch.setattr(RunStore, "close", fail)
    with pytest.warns(RecordingStopped, match="lock could not be released: OSError: .Errno 5"):
        assert writer.close()
    assert read(tmp_path).steps.tolist() == [0]
    release(writer._worker._store)


class Leaves:
    """A scalar whose reading asks for the end of the program."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def item(self) -> float:
        raise self.error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_scalar_that_asks_for_an_exit_is_left_out(tmp_path, info, gram, error) -> None:
    writer = RunWriter(tmp_path, info, patience=SOON)
    writer.rows(0, gram)
    writer.scalars(0, {"bad": Leaves(error), "loss": 0.5})
    assert writer.flush()
    writer.scalars(1, {"bad": Leaves(error), "loss": 0.4})
    assert writer.close()
    records = read(tmp_path)
    assert records.scalars["loss"].values.tolist() == [0.5, 0.4]
    (event,) = records.events
    assert (event["kind"], event["name"]) == ("skipped", "bad")
    assert type(error).__name__ in event["reason"]
    assert list(writer.skipped) == ["bad"]


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), OSError(5, "bad")]
)
def test_a_writer_that_dies_of_anything_says_so_at_the_next_call(
    tmp_path, info, gram, monkeypatch, error
) -> None:
    died = threading.Event()

    def die(*_: object) -> None:
        died.set()
        raise error

    writer = RunWriter(tmp_path, info, flush_bytes=1, patience=SOON)
    monkeypatch.setattr(RunStore, "write", die)
    writer.rows(0, gram)
    assert died.wait(SOON)
    writer._worker._thread.join(SOON)
    with pytest.warns(RecordingStopped, match=type(error).__name__):
        writer.rows(1, gram)
    began = time.monotonic()
    assert not writer.flush()
    assert writer.close()
    assert time.monotonic() - began < SOON / 2
    RunWriter(tmp_path, info, resume=True).close()  # the lock is free


def test_flush_does_not_wait_for_a_writer_that_dies_meanwhile(
    tmp_path, info, gram, monkeypatch
) -> None:
    def die(*_: object) -> None:
        raise SystemExit

    writer = RunWriter(tmp_path, info, flush_seconds=HOUR, patience=HOUR)
    monkeypatch.setattr(RunStore, "write", die)
    writer.rows(0, gram)
    with pytest.warns(RecordingStopped, match="SystemExit"):
        assert not writer.flush()


def test_a_thread_ended_from_outside_is_noticed(tmp_path, info, gram) -> None:
    writer = RunWriter(tmp_path, info, flush_seconds=0.01)
    thread = writer._worker._thread
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    thread.join(SOON)
    assert not thread.is_alive()
    with pytest.warns(RecordingStopped, match="SystemExit"):
        writer.event("note")
    RunWriter(tmp_path, info, resume=True).close()


def test_a_thread_that_vanished_without_a_word_is_noticed(tmp_path, info, gram) -> None:
    writer = RunWriter(tmp_path, info, patience=SOON)
    thread, writer._worker._thread = writer._worker._thread, threading.Thread()
    with pytest.warns(RecordingStopped, match="its thread has ended"):
        writer.rows(0, gram)
    writer._worker._thread = thread
    writer.close()


def test_where_no_thread_can_begin_the_directory_is_free_again(tmp_path, info, monkeypatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RunDirectoryError, match="can't start new thread"):
            RunWriter(tmp_path, info)
    RunWriter(tmp_path, info, resume=True).close()


def test_a_writer_that_is_dropped_stores_what_it_has_and_frees_the_directory(
    tmp_path, info, gram
) -> None:
    writer = RunWriter(tmp_path, info, flush_seconds=HOUR)
    thread = writer._worker._thread
    writer.rows(0, gram)
    del writer
    gc.collect()
    thread.join(SOON)
    assert not thread.is_alive()
    RunWriter(tmp_path, info, resume=True).close()
    assert read(tmp_path).steps.tolist() == [0]


def test_rows_before_a_mistake_are_kept(tmp_path, info, gram) -> None:
    writer = RunWriter(tmp_path, info, flush_seconds=HOUR)
    writer.rows(0, gram)
    with pytest.warns(RecordingStopped, match="was given"):
        writer.rows(1, np.zeros((2, 2)))
    writer.rows(2, gram)
    writer.close()
    assert read(tmp_path).steps.tolist() == [0]
