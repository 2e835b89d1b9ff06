"""Go on with a recorded run: bring its directory to this version and to its new param groups."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.files.segments import SegmentStore
from spherical_motion.records.info import RunInfo, version_of
from spherical_motion.records.reader import read
from spherical_motion.records.schema import SCHEMA_VERSION, SETTINGS, SETTINGS_SCHEMA


class GoesOn(NamedTuple):
    """Where a resumed run goes on, in words by `str`.

    Attributes:
        step: the first step that it records.
        last_step: the last one that it had recorded, -1 if there is none.
        branch: `read(directory, branch=...)` reads the run as it stood before.

    >>> print(GoesOn(150, 421, 1))
    goes on at step 150; steps 150 to 421 are set aside, read(directory, branch=1) shows them
    """

    step: int
    last_step: int
    branch: int

    def __str__(self) -> str:
        where = f"goes on at step {self.step}"
        if self.last_step < 0:
            return f"{where}; no step was recorded before"
        if self.step > self.last_step:
            return f"{where}; the last recorded step is {self.last_step}"
        one = self.step == self.last_step
        which = f"step {self.step} is" if one else f"steps {self.step} to {self.last_step} are"
        shows = f"read(directory, branch={self.branch}) shows {'it' if one else 'them'}"
        return f"{where}; {which} set aside, {shows}"


def continue_run(directory: RunDirectory, given: RunInfo) -> int:
    """Make `run.json` describe a run that goes on with `given`; the caller holds the lock.

    Returns:
        The index among the run's param groups of the first of `given.param_groups`.

    Raises:
        RunDirectoryError: a run of version 1 holds a damaged file.
    """
    text = directory.read_text()
    recorded = RunInfo.from_json(text, where=str(directory.info))
    directory.settings.mkdir(exist_ok=True)
    if version_of(text) == 1:
        _store_settings(directory)
    facts, first = _continued(recorded, given)
    if facts != recorded or version_of(text) < SCHEMA_VERSION:
        directory.publish_info(facts)
    return first


def _continued(recorded: RunInfo, given: RunInfo) -> tuple[RunInfo, int]:
    """The facts of a run that goes on, and where among its param groups the given ones are."""
    facts = dataclasses.replace(
        recorded,
        products=max(recorded.products, given.products),
        plan=recorded.plan if given.plan is None else given.plan,
    )
    count = len(given.param_groups)
    for known in (recorded.slice_param_group, *recorded.regrouped):
        first = known[0] - given.slice_param_group[0]
        if 0 <= first <= len(recorded.param_groups) - count and known == tuple(
            first + index for index in given.slice_param_group
        ):
            return facts, first
    # The slices are divided otherwise than before, so their settings get places of their own.
    first = len(recorded.param_groups)
    moved = tuple(first + index for index in given.slice_param_group)
    groups = (*recorded.param_groups, *given.param_groups)
    return (
        dataclasses.replace(facts, param_groups=groups, regrouped=(*recorded.regrouped, moved)),
        first,
    )


def _store_settings(directory: RunDirectory) -> None:
    """Store as changes the settings that a run of version 1 has in each row.

    `run.json` still says version 1, so a reader looks for them in the rows, and what a killed
    attempt left here is removed.
    """
    for leftover in directory.settings.iterdir():
        leftover.unlink()
    records = read(directory.path, strict=True)
    tables = [SETTINGS_SCHEMA.empty_table()]
    for param_group in sorted(set(records.info.slice_param_group)):
        main_slice = records.info.slice_param_group.index(param_group)
        rows = np.flatnonzero(records.rows["slice"] == main_slice)
        if not len(rows):
            continue
        sampled = np.unique(records.rows["step"][rows])
        values = np.stack(
            [records.settings.at_each_step(name, main_slice, sampled) for name in SETTINGS]
        )
        same = (values[:, 1:] == values[:, :-1]) | (
            np.isnan(values[:, 1:]) & np.isnan(values[:, :-1])
        )
        changes = np.flatnonzero(~np.concatenate([[False], same.all(axis=0)]))
        columns = [sampled[0] + changes, np.full(len(changes), param_group), *values[:, changes]]
        tables.append(
            pa.table(
                [pa.array(c, f.type) for c, f in zip(columns, SETTINGS_SCHEMA, strict=True)],
                schema=SETTINGS_SCHEMA,
            )
        )
    store = SegmentStore(directory.settings, SETTINGS_SCHEMA, noise=("lr",))
    store.append(pa.concat_tables(tables))
