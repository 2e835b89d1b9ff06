"""The paths of a run directory, and how a writer claims one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from spherical_motion.errors import NotARun, RunDirectoryError, RunExists
from spherical_motion.notices import notify
from spherical_motion.records.files.checksum import require_file
from spherical_motion.records.files.durable import (
    TEMPORARY_SUFFIX,
    make_empty,
    publish,
    remove_leftovers,
    sync_names,
)
from spherical_motion.records.files.events import drop_torn_line
from spherical_motion.records.files.folders import LEFT_BY_PROBE, make_folders, try_out
from spherical_motion.records.files.lock import RunLock
from spherical_motion.records.info import RunInfo


class RunDirectory:
    """The paths of a run directory, whether they exist or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info = path / "run.json"  # written last: if it exists, there is a run
        self.records = path / "records"
        self.scalars = path / "scalars"
        self.settings = path / "settings"
        self.cells = path / "cells"  # made when first needed, as is the next
        self.correlation = path / "correlation"
        self.audit = path / "audit"
        self.audit_steps = path / "audit_steps"
        self.events = path / "events.jsonl"
        self.lock = path / "run.lock"

    @property
    def tables(self) -> tuple[Path, ...]:
        """The folders of tables that every run has."""
        return self.records, self.settings, self.scalars

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of all tables, that of the rows first."""
        return (*self.tables, self.cells, self.correlation, self.audit, self.audit_steps)

    def read_info(self) -> RunInfo:
        """The facts of the run.

        Raises:
            NotARun: there is none here, or one this version cannot read.
        """
        return RunInfo.from_json(self.read_text(), where=str(self.info))

    def read_text(self) -> str:
        """The text of `run.json`.

        Raises:
            NotARun: there is none, or it is no text.
        """
        try:
            require_file(self.info)
            return self.info.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            found = self._describe()
            raise NotARun(
                f"{self.path} holds no run: expected {self.info.name} in it, found {found}. "
                "Pass a directory that spherical-motion wrote."
            ) from error
        except OSError as error:
            raise NotARun(f"{self.info} cannot be read ({error}).") from error
        except UnicodeDecodeError as error:
            raise NotARun(f"{self.info} is damaged ({error}). Restore it from a copy.") from error

    def publish_info(self, info: RunInfo) -> None:
        """Write `run.json`; it is the old one or the new one, whatever kills the process."""
        text = info.to_json().encode()
        publish(self.info, lambda file: file.write(text), replace=True)

    def foreign(self) -> list[str]:
        """Sorted names in it, without those that an interrupted start of a run leaves."""
        ours = {folder.name for folder in self.tables}
        ours |= {
            self.events.name,
            self.lock.name,
            self.info.name + TEMPORARY_SUFFIX,
            *LEFT_BY_PROBE,
        }
        others = [p.name for p in self.path.iterdir() if p.name not in ours]
        parts = [
            f"{p.parent.name}/{p.name}" for t in self.tables if t.is_dir() for p in t.iterdir()
        ]
        told = [self.events.name] if self.events.exists() and self.events.stat().st_size else []
        return sorted(others + parts + told)

    def _describe(self) -> str:
        if not self.path.exists():
            return "no such directory"
        if not self.path.is_dir():
            return "a file"
        names = self.foreign()
        return ", ".join(names[:5] + ["..."] * (len(names) > 5)) or "nothing"


def claim(directory: RunDirectory, info: RunInfo, *, resume: bool) -> RunLock:
    """Begin a run in a new or empty directory, or resume one; returns the held lock.

    Raises:
        RunExists: there is a run, and `resume` is False.
        NotARun: there is none, and `resume` is True.
        RunInUse: another writer holds the lock.
        RunDirectoryError: it holds other files or another model's run, cannot be written, or lies
            on a file system that cannot lock or rename files.
    """
    try:
        recorded = directory.read_info() if resume else _make(directory)
        lock = RunLock(directory.lock)
        try:
            lock.check()
            if recorded:
                _resume(directory, recorded, info, lock)
            else:
                _begin(directory, info, lock)
            _warn_of_idle_lock(lock)
        except BaseException:
            lock.release()
            raise
        return lock
    except RunDirectoryError:
        raise
    except OSError as error:
        raise RunDirectoryError(
            f"{directory.path} cannot be written ({error.strerror or error}). Use a directory "
            "that can."
        ) from error


def _make(directory: RunDirectory) -> None:
    """Make the directory, and raise if it holds files that are not of a run."""
    make_folders(directory.path)
    if not directory.info.exists() and (foreign := directory.foreign()):
        raise RunDirectoryError(
            f"{directory.path} must be new or empty, or hold a run; found "
            f"{', '.join(foreign[:5])}. Use another directory."
        )


def _begin(directory: RunDirectory, info: RunInfo, lock: RunLock) -> None:
    if directory.info.exists():
        raise RunExists(
            f"{directory.path} already holds a run. Pass resume=True to append to it (with "
            "first_step= if training goes on from an earlier checkpoint), or use another directory."
        )
    _prepare(directory, lock)
    directory.publish_info(info)


def _resume(directory: RunDirectory, recorded: RunInfo, info: RunInfo, lock: RunLock) -> None:
    if difference := _difference(recorded, info):
        raise RunDirectoryError(
            f"{directory.path} cannot be resumed: {difference}. Resume with the model and "
            "optimizer it began with, or begin a new run in another directory."
        )
    for there, name in (
        (directory.records.is_dir(), f"{directory.records.name}/"),
        (directory.events.exists(), directory.events.name),  # tells which rows were given up
    ):
        if not there:
            raise RunDirectoryError(
                f"{directory.path} cannot be resumed: its {name} is missing. Restore it from a "
                "copy, or begin a new run in another directory."
            )
    make_folders(directory.path)
    _prepare(directory, lock)
    drop_torn_line(directory.events)


def _prepare(directory: RunDirectory, lock: RunLock) -> None:
    """Make what is missing, so that where `run.json` is, the folders are, even after a crash."""
    remove_leftovers(directory.path)
    try_out(directory.path, lock.check)
    for folder in directory.tables:
        folder.mkdir(exist_ok=True)
    make_empty(directory.events)
    sync_names(directory.path)


def _warn_of_idle_lock(lock: RunLock) -> None:
    if not lock.excludes_others():
        notify(
            f"the file system of {lock.path.parent} grants the same lock twice, so it cannot keep "
            "a second writer away. Let only one process record there, or use a local disk."
        )


def _difference(recorded: RunInfo, given: RunInfo) -> str | None:
    """Why rows of `given` cannot follow rows of `recorded`, or None if they can."""
    old, new = ({g.name: g for g in info.groups} for info in (recorded, given))
    if missing := [name for name in old if name not in new]:
        return f"it recorded group {missing[0]!r} ({len(missing)} such), which no longer exists"
    if added := [name for name in new if name not in old]:
        return f"it did not record group {added[0]!r} ({len(added)} such)"
    for name, group in old.items():
        # The defect is measured again at each start and may differ.
        if dataclasses.replace(group, defect=0.0) != dataclasses.replace(new[name], defect=0.0):
            return f"group {name!r} recorded other slices, cells or kind"
    if recorded.slices != given.slices:
        return "it recorded the same groups in another order"
    # These settings may change: the run records each change.
    fixed = {"lr": 0.0, "weight_decay": 0.0, "momentum": 0.0, "beta2": None}
    for i, piece in enumerate(recorded.slices):
        before, now = (
            dataclasses.replace(x.hyperparameters(i), **fixed) for x in (recorded, given)
        )
        if before != now:
            return f"the optimizer of {piece} was {before}, and is now {now}"
    return None
