"""Faults: a full disk, a hung one, forks and signals. Training must not feel any of them."""

from __future__ import annotations

import errno
import multiprocessing
import shutil
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from spherical_motion.errors import RecordingStopped, RunInUse
from spherical_motion.records import RunWriter, read
from spherical_motion.records.files.segments import SegmentStore
from spherical_motion.records.writing import worker as worker_module

HOUR = 3600.0


@pytest.fixture
def gram(rng):
    """Six products of three slices."""
    return rng.normal(size=(3, 6))


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_stops_recording_with_one_warning(tmp_path, info, gram, monkeypatch):
    writer = RunWriter(tmp_path, info)
    writer.rows(0, gram)
    writer.flush()
    with monkeypatch.context() as patch:
        patch.setattr("spherical_motion.records.files.segments.write_part", full_disk)
        writer.rows(1, gram)
        with pytest.warns(RecordingStopped, match="No space left on device") as caught:
            writer.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(2, 5):
            writer.rows(step, gram)
            writer.scalars(step, {"loss": 1.0})
            writer.event("late")
        writer.flush()
        writer.close()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert read(tmp_path).steps.tolist() == [0]
    RunWriter(tmp_path, info, resume=True).close()


def test_a_failure_nobody_asked_about_is_told_at_close(tmp_path, info, gram, monkeypatch):
    writer = RunWriter(tmp_path, info, flush_seconds=HOUR)
    monkeypatch.setattr("spherical_motion.records.files.segments.write_part", full_disk)
    writer.rows(0, gram)
    with pytest.warns(RecordingStopped, match="No space left"):
        writer.close()


def test_where_warnings_are_errors_it_is_printed(tmp_path, info, gram, monkeypatch, capsys):
    writer = RunWriter(tmp_path, info)
    monkeypatch.setattr("spherical_motion.records.files.segments.write_part", full_disk)
    writer.rows(0, gram)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.flush()
        writer.close()
    assert capsys.readouterr().err.count("RecordingStopped") == 1


def test_a_deleted_directory_stays_deleted(tmp_path, info, gram):
    writer = RunWriter(tmp_path / "run", info)
    shutil.rmtree(tmp_path / "run")
    writer.rows(0, gram)
    writer.event("rescaled")
    with pytest.warns(RecordingStopped):
        writer.close()
    assert not (tmp_path / "run").exists()


def test_a_file_size_limit_is_a_full_disk(tmp_path, info):
    """The real thing: the kernel refuses to write more, in the middle of a segment."""
    (tmp_path / "info.json").write_text(info.to_json())
    script = """
import resource, sys, numpy as np
from spherical_motion.records import RunInfo, RunWriter
info = RunInfo.from_json(open(sys.argv[1]).read())
writer = RunWriter(sys.argv[2], info)
def train(steps):
    for step in steps:
        writer.rows(step, np.random.normal(size=(3, 6)))
train(range(100)); writer.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
train(range(100, 1000)); writer.flush()
train(range(1000, 1100)); writer.close()
print("trained on")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, tmp_path / "info.json", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "trained on\n"), done.stderr
    assert done.stderr.count("RecordingStopped") == 1
    assert read(tmp_path / "run").steps.tolist() == list(range(100))
    assert not list((tmp_path / "run" / "records").glob("*.tmp"))


def test_a_disk_that_hangs_costs_bounded_memory(tmp_path, info, gram, monkeypatch):
    hung, freed = threading.Event(), threading.Event()

    def hang(*_args, **_kwargs):
        hung.set()
        freed.wait(60)

    monkeypatch.setattr(worker_module, "PENDING_LIMIT", 10_000)
    writer = RunWriter(tmp_path, info, flush_bytes=1)
    monkeypatch.setattr(writer._worker._store, "write", hang)
    writer.rows(0, gram)
    assert hung.wait(60)
    for step in range(1, 70):  # 144 bytes each
        writer.rows(step, gram)
    with pytest.warns(RecordingStopped, match="did not keep up"):
        writer.rows(70, gram)
    assert writer._worker._pending.nbytes == 0
    freed.set()
    writer.close()


@pytest.mark.parametrize(
    "bad",
    [
        {"gram": np.zeros((2, 6))},
        {"slices": np.zeros((3, 4))},
        {"gram": "text"},
        {"slices": [0, 1, 3]},
        {"slices": [0]},
        {"step": None},
    ],
)
def test_a_mistake_in_measuring_stops_recording_not_training(tmp_path, info, gram, bad):
    writer = RunWriter(tmp_path, info)
    with pytest.warns(RecordingStopped, match="was given"):
        writer.rows(**({"step": 0, "gram": gram} | bad))
    writer.close()


def test_a_merge_that_fails_leaves_recording_alone(tmp_path, info, gram, monkeypatch):
    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SegmentStore, "_concatenate", no_room)
    with RunWriter(tmp_path, info) as writer:
        for step in range(40):
            writer.rows(step, gram)
            writer.flush()
    records = read(tmp_path)
    assert records.steps.tolist() == list(range(40))
    assert [event["kind"] for event in records.events] == ["not_merged"]
    monkeypatch.undo()
    RunWriter(tmp_path, info, resume=True).close()
    assert read(tmp_path).steps.tolist() == list(range(40))
    assert len(list((tmp_path / "records").iterdir())) == 25


def test_close_again_and_use_after_close_do_nothing(tmp_path, info, gram):
    writer = RunWriter(tmp_path, info)
    writer.close()
    writer.close()
    writer.rows(0, gram)
    writer.flush()
    assert len(read(tmp_path).steps) == 0


def test_a_signal_handler_may_close_while_a_row_is_given(tmp_path, info, gram):
    writer = RunWriter(tmp_path, info)
    previous = signal.signal(signal.SIGALRM, lambda *_: writer.close())
    try:
        with writer._worker._changed:  # as in the middle of rows()
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert writer._worker._ended


# Other processes.


def child_that_uses(writer, gram):
    writer.rows(7, gram)
    writer.event("from the child")
    writer.flush()
    writer.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_nothing_and_exits(tmp_path, info, gram):
    writer = RunWriter(tmp_path, info, flush_seconds=HOUR)
    writer.rows(0, gram)
    with writer._worker._changed:  # the worst moment: the child inherits a held lock
        child = multiprocessing.get_context("fork").Process(
            target=child_that_uses, args=(writer, gram)
        )
        child.start()
    child.join(30)
    assert child.exitcode == 0
    with pytest.raises(RunInUse):  # the parent still holds it
        RunWriter(tmp_path, info, resume=True)
    writer.close()
    assert read(tmp_path).steps.tolist() == [0]
    assert read(tmp_path).events == ()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_that_outlives_its_parent_does_not_keep_the_run(tmp_path, info):
    writer = RunWriter(tmp_path, info)
    fork = multiprocessing.get_context("fork")
    up, stay = fork.Event(), fork.Event()
    child = fork.Process(target=lambda: (up.set(), stay.wait(30)))
    child.start()
    assert up.wait(30)
    writer.close()
    RunWriter(tmp_path, info, resume=True).close()
    assert child.is_alive()
    stay.set()
    child.join(30)


def test_what_is_pending_at_exit_is_stored(tmp_path, info):
    (tmp_path / "info.json").write_text(info.to_json())
    script = """
import sys, numpy as np
from spherical_motion.records import RunInfo, RunWriter
writer = RunWriter(sys.argv[2], RunInfo.from_json(open(sys.argv[1]).read()), flush_seconds=3600)
writer.rows(0, np.ones((3, 6)))
raise SystemExit(3)
"""
    command = [sys.executable, "-c", script, tmp_path / "info.json", tmp_path / "run"]
    assert subprocess.run(command, timeout=60).returncode == 3
    assert read(tmp_path / "run").steps.tolist() == [0]
