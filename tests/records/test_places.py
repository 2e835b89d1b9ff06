"""Where a run is recorded: replaced, linked, shared or unfit places, and names of new ones."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from spherical_motion.errors import InvalidArgument, RecordingStopped, RunDirectoryError
from spherical_motion.records import RunWriter, read
from spherical_motion.records.files.folders import PROBE
from spherical_motion.records.files.lock import RunLock
from spherical_motion.records.files.segments import FAN_IN, SegmentStore


def write(writer: RunWriter, steps: range, value: float) -> None:
    for step in steps:
        writer.rows(step, np.full((3, 6), value))
        writer.scalars(step, {"loss": value})
        writer.event("tick", step=step)
        writer.flush()


def content(directory: Path) -> dict[str, bytes]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


# Replaced while it is written.


def remove_all(directory: Path) -> None:
    shutil.rmtree(directory)


def empty(directory: Path) -> None:
    """The directory itself stays."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def move_away(directory: Path) -> None:
    directory.rename(directory.with_name("moved"))


@pytest.mark.parametrize("replace", [remove_all, empty, move_away])
@pytest.mark.parametrize("parts", [1, FAN_IN - 1], ids=["one part", "before a merge"])
def test_a_replaced_directory_is_left_alone_by_its_old_writer(tmp_path, info, replace, parts):
    place = tmp_path / "run"
    old = RunWriter(place, info, flush_seconds=3600)
    write(old, range(parts), 1.0)
    replace(place)
    with RunWriter(place, info, flush_seconds=3600) as new:
        write(new, range(FAN_IN - 1), 2.0)
        before = content(place)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            write(old, range(parts, parts + 3), 1.0)
            old.close()
        assert [w.category for w in caught] == [RecordingStopped]
        assert "was removed, moved or replaced" in str(caught[0].message)
        assert content(place) == before
        write(new, range(FAN_IN - 1, FAN_IN + 1), 2.0)
    records = read(place, strict=True)
    assert records.steps.tolist() == list(range(FAN_IN + 1))
    assert (records.gram.ww[:, 0] == 2.0).all()
    if replace is move_away:
        assert read(tmp_path / "moved", strict=True).steps.tolist() == list(range(parts))


def test_a_merge_in_a_replaced_directory_removes_no_part_of_the_new_run(tmp_path, info):
    """Its parts have the names of parts of the old run."""
    place = tmp_path / "run" / "records"
    place.mkdir(parents=True)
    schema = pa.schema([("step", pa.int64())])
    lock = RunLock(tmp_path / "run" / "run.lock")
    old = SegmentStore(place, schema, (), check=lock.check)
    for step in range(FAN_IN):
        old.append(pa.table({"step": [step]}, schema=schema))
    shutil.rmtree(tmp_path / "run")
    with RunWriter(tmp_path / "run", info, flush_seconds=3600) as new:
        write(new, range(FAN_IN - 1), 2.0)
        before = content(tmp_path / "run")
        with pytest.raises(OSError, match="part-"):  # the sixteenth part is not there
            old.merge()
        with pytest.raises(RunDirectoryError, match="removed, moved or replaced"):
            old._remove(old.segments)
        assert content(tmp_path / "run") == before
    lock.release()


# Links and odd files.


def test_a_lock_file_that_is_a_link_is_refused_and_not_followed(tmp_path, info):
    target = tmp_path / "precious"
    target.write_text("data")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").symlink_to(target)
    with pytest.raises(RunDirectoryError, match=r"run\.lock is a symbolic link"):
        RunWriter(tmp_path / "run", info)
    assert target.read_text() == "data"


def test_a_lock_file_that_is_no_file_is_refused(tmp_path, info):
    os.mkfifo(tmp_path / "run.lock")
    with pytest.raises(RunDirectoryError, match="no regular file"):
        RunWriter(tmp_path, info)


@pytest.mark.parametrize("name", ["events.jsonl", "run.json.tmp", PROBE, f"{PROBE}.tmp"])
@pytest.mark.parametrize("resume", [False, True])
def test_no_link_is_followed_when_a_run_begins(tmp_path, info, name, resume):
    target, place = tmp_path / "precious", tmp_path / "run"
    target.write_text("")  # an events file with content would count as another run
    if resume:
        RunWriter(place, info).close()
    place.mkdir(exist_ok=True)
    (place / name).unlink(missing_ok=True)
    (place / name).symlink_to(target)
    if name == "events.jsonl":
        with pytest.raises(RunDirectoryError, match="cannot be written"):
            RunWriter(place, info, resume=resume)
    else:
        RunWriter(place, info, resume=resume).close()
        assert not (place / name).is_symlink()
    assert target.read_text() == ""


# Unfit places.


def test_parts_without_a_run_are_not_taken_for_an_empty_place(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(2), 1.0)
    (tmp_path / "run.json").unlink()
    before = content(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"events\.jsonl, records/part-"):
        RunWriter(tmp_path, info)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["records/", "events.jsonl"])
def test_a_run_without_its_rows_or_events_is_not_resumed(tmp_path, info, name):
    """Without the events nobody knows which of the rows were given up."""
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(2), 1.0)
    (tmp_path / name).rename(tmp_path.with_name(f"{tmp_path.name}-lost"))
    with pytest.raises(RunDirectoryError, match=f"its {name} is missing"):
        RunWriter(tmp_path, info, resume=True)


def test_a_copy_without_empty_folders_is_resumed(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        writer.rows(0, np.ones((3, 6)))
    (tmp_path / "scalars").rmdir()
    with RunWriter(tmp_path, info, resume=True) as writer:
        write(writer, range(1, 2), 1.0)
    assert read(tmp_path, strict=True).steps.tolist() == [0, 1]


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_system_that_does_not_rename_is_named_at_the_start(
    tmp_path, info, monkeypatch, resume
):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if resume:
        RunWriter(tmp_path, info).close()
    for name in ("link", "rename"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(RunDirectoryError, match=r"synced and renamed there.*local disk"):
        RunWriter(tmp_path, info, resume=resume)


def test_locks_that_keep_nobody_away_are_named_at_the_start(tmp_path, info, monkeypatch, caplog):
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    RunWriter(tmp_path, info).close()
    (notice,) = caplog.messages
    assert "grants the same lock twice" in notice


def test_a_parent_that_cannot_be_listed_is_no_obstacle(tmp_path, info, monkeypatch):
    """Folders above may be closed to us; what lies in them is synced as far as we may."""
    real = os.open

    def closed(path, *args, **kwargs):
        if os.fspath(path) == os.fspath(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *args, **kwargs)

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "open", closed)
    RunWriter(tmp_path / "run", info).close()


# Names of new runs.

START = """
import sys, time
import numpy as np
from pathlib import Path
from spherical_motion.records import RunInfo, RunWriter
from spherical_motion.records.files.folders import make_new_folder
info = RunInfo.from_json(open(sys.argv[1]).read())
print("ready", flush=True)
sys.stdin.readline()
directory = make_new_folder(Path(sys.argv[2]))
with RunWriter(directory, info) as writer:
    writer.rows(0, np.full((3, 6), float(sys.argv[3])))
print(directory, flush=True)
"""


def test_six_writers_that_start_at_once_get_six_directories(tmp_path, info):
    (tmp_path / "info.json").write_text(info.to_json())
    started = [
        subprocess.Popen(
            [sys.executable, "-c", START, tmp_path / "info.json", tmp_path / "runs", str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        found = [process.communicate("go\n", timeout=60)[0].strip() for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert [process.returncode for process in started] == [0] * 6
    assert len(set(found)) == 6
    for number, directory in enumerate(found):
        assert read(directory, strict=True).gram.ww.tolist() == [[number, 2.0 * number]]


@pytest.mark.parametrize("url", ["memory://runs/a", "s3://bucket/run", "file:///runs/a"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_url_is_refused_where_a_run_is_recorded(tmp_path, info, monkeypatch, url, resume):
    """It used to make a local folder of that name."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match=r"local directory, got .*`read` takes the URL"):
        RunWriter(url, info, resume=resume)
    assert list(tmp_path.iterdir()) == []
