"""The paths of a run directory, and how a writer claims one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from spherical_motion.errors import NotARun, RunDirectoryError, RunExists
from spherical_motion.records.files.durable import TEMPORARY_SUFFIX, publish, remove_leftovers, sync
from spherical_motion.records.files.events import drop_torn_line
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
            return self.info.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            found = self._describe()
            raise NotARun(
                f"{self.path} holds no run: expected {self.info.name} in it, found {found}. "
                "Pass a directory that spherical-motion wrote."
            ) from error
        except UnicodeDecodeError as error:
            raise NotARun(f"{self.info} is damaged ({error}). Restore it from a copy.") from error

    def publish_info(self, info: RunInfo) -> None:
        """Write `run.json`; it is the old one or the new one, whatever kills the process."""
        text = info.to_json()
        publish(self.info, lambda path: path.write_text(text, encoding="utf-8"))

    def foreign(self) -> list[str]:
        """Sorted names in it, without those that an interrupted start of a run leaves."""
        ours = {
            *(self.records.name, self.settings.name, self.scalars.name, self.cells.name),
            *(self.correlation.name, self.audit.name, self.audit_steps.name),
            *(self.events.name, self.lock.name),
            self.info.name + TEMPORARY_SUFFIX,
        }
        return sorted(p.name for p in self.path.iterdir() if p.name not in ours)

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
        RunDirectoryError: it holds other files or another model's run, or cannot be written.
    """
    try:
        recorded = directory.read_info() if resume else _make(directory)
        lock = RunLock(directory.lock)
        try:
            if recorded:
                _resume(directory, recorded, info)
            else:
                _begin(directory, info)
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
    directory.path.mkdir(parents=True, exist_ok=True)
    if not directory.info.exists() and (foreign := directory.foreign()):
        raise RunDirectoryError(
            f"{directory.path} must be new or empty, or hold a run; found "
            f"{', '.join(foreign[:5])}. Use another directory."
        )


def _begin(directory: RunDirectory, info: RunInfo) -> None:
    if directory.info.exists():
        raise RunExists(
            f"{directory.path} already holds a run. Pass resume=True to append to it, or use "
            "another directory."
        )
    directory.records.mkdir(exist_ok=True)
    directory.settings.mkdir(exist_ok=True)
    directory.scalars.mkdir(exist_ok=True)
    directory.events.touch()
    directory.publish_info(info)
    sync(directory.path.parent)


def _resume(directory: RunDirectory, recorded: RunInfo, info: RunInfo) -> None:
    if difference := _difference(recorded, info):
        raise RunDirectoryError(
            f"{directory.path} cannot be resumed: {difference}. Resume with the model and "
            "optimizer it began with, or begin a new run in another directory."
        )
    remove_leftovers(directory.path)
    drop_torn_line(directory.events)


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
