"""Kills and failures at every call to the disk, in the life of a short run; a sample of them.

`make torture` runs all of them, and many more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from crash.calls import CHANGING, Counting, Failing, Killed, Killing, intercepted
from crash.children import Children
from crash.lives import LIVES, Alone, Life, Threaded, Truth, Wrong, check, live
from crash.power import Cuts, Recording

from spherical_motion.errors import RunDirectoryError
from spherical_motion.records.files import durable, segments

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EINTR, errno.EDQUOT, errno.EACCES)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one."""
    memory = Path("/dev/shm")
    base = memory / f"crash-{tmp_path.parent.name}-{tmp_path.name}" if memory.is_dir() else tmp_path
    yield base / "deep" / "run"
    shutil.rmtree(base, ignore_errors=True)


def calls_of(directory: Path, lives: tuple[Life, ...] = LIVES) -> list[str]:
    counting = Counting()
    with intercepted(counting):
        live(directory, Truth(), lives)
    shutil.rmtree(directory)
    return counting.names


def test_the_run_as_it_is_when_nothing_fails(place):
    for kind in (Alone, Threaded):
        truth = Truth()
        live(place, truth, kind=kind)
        first = {step: 1.0 + step for step in range(4)}
        expected = first | {step: 2001.0 + step for step in range(4, 7)}
        assert check(place, truth) == truth.stored == expected
        merged = [p for p in place.glob("records/*") if p.name[5:13] != p.name[14:22]]
        assert merged
        shutil.rmtree(place)


def test_a_kill_at_any_call(place):
    names = calls_of(place)
    changing = [k for k, name in enumerate(names) if name in CHANGING]
    for k in random.Random(3).sample(changing, 7):
        truth = Truth()
        with pytest.raises(Killed), intercepted(Killing(k)):
            live(place, truth)
        check(place, truth)
        shutil.rmtree(place, ignore_errors=True)


def test_a_failure_at_any_call(place):
    """Once, or of all that changes the disk from there on: an error of ours, and nothing lost."""
    rng = random.Random(4)
    names = calls_of(place)
    for k in rng.sample(range(len(names)), 7):
        truth = Truth()
        failing = Failing(k, rng.choice(ERRORS), for_ever=rng.random() < 0.5)
        with intercepted(failing), contextlib.suppress(OSError, pa.ArrowException):
            live(place, truth)
        assert failing.failed
        check(place, truth)
        shutil.rmtree(place, ignore_errors=True)


def test_a_power_cut_at_any_call(place):
    """Whatever a disk may hold after it: what a flush returned for is there, and all is right."""
    base = place.parents[1]
    base.mkdir(parents=True)
    truth = Truth()
    cuts = Cuts(
        base.with_name(f"{base.name}-cut"), "deep/run", truth, random.Random(5), share=0.0015
    )
    recording = Recording(base, cuts)
    with intercepted(recording) as aside:
        live(place, truth, kind=Threaded, promised=lambda: aside(lambda: cuts(recording)))
    assert cuts.try_all() >= 5
    real = [(str(p.relative_to(base)), p) for p in sorted(base.rglob("*"))]
    held = {name: None if path.is_dir() else path.read_bytes() for name, path in real}
    assert dict(recording.now().files) == held, "the recording has missed a call"


# The harness finds what it is there to find.


@pytest.mark.parametrize("lost", ["folders", "files"])
def test_a_sync_that_is_forgotten_is_found(place, lost):
    base = place.parents[1]
    base.mkdir(parents=True)
    truth = Truth()
    cuts = Cuts(base.with_name(f"{base.name}-cut"), "deep/run", truth, random.Random(5), share=0.05)
    recording = Recording(base, cuts, lost=lost)
    with intercepted(recording) as aside:
        live(place, truth, LIVES[:1], promised=lambda: aside(lambda: cuts(recording)))
    with pytest.raises((Wrong, RunDirectoryError)):
        cuts.try_all()


def test_a_part_that_is_not_published_whole_is_found(place, monkeypatch):
    def write_in_place(path, write, *, check):
        handle = os.open(path, os.O_RDWR | os.O_CREAT)
        write(durable._Whole(handle))
        os.close(handle)

    monkeypatch.setattr(segments, "publish", write_in_place)
    writes = [k for k, name in enumerate(calls_of(place, LIVES[:1])) if name == "write"]
    truth = Truth()
    with pytest.raises(Killed), intercepted(Killing(writes[60])):
        live(place, truth)
    with pytest.raises(RunDirectoryError, match="is damaged"):
        check(place, truth)


def test_a_value_that_is_wrong_is_found(place):
    truth = Truth()
    live(place, truth)
    truth.stored[2] += 1.0
    with pytest.raises(Wrong):
        check(place, truth)


# Processes that end in earnest.


@pytest.fixture
def children() -> Iterator[Children]:
    started = Children()
    yield started
    started.close()


def test_a_process_that_is_killed_in_earnest(place, children):
    names = calls_of(place)
    for k in random.Random(6).sample(range(len(names)), 3):
        truth, ended = children.run(place, "kill", k)
        assert ended == "signal 9"
        check(place, truth)
        shutil.rmtree(place, ignore_errors=True)


def test_a_process_that_runs_out_of_memory(place, children):
    """At one allocation of Python's, and of address space, which ends the C++ code too."""
    rng = random.Random(7)
    for mode, most in (("memory", 3000), ("space", 20 << 20)):
        for _ in range(2):
            truth, ended = children.run(place, mode, rng.randrange(most))
            assert ended != "signal 14", "it hangs"
            assert truth.begun
            check(place, truth)
            shutil.rmtree(place, ignore_errors=True)
