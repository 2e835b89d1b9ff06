"""The settings of the optimizer at each step, however a run has recorded them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spherical_motion.records.dense import latest
from spherical_motion.records.files.events import Event
from spherical_motion.records.info import RunInfo
from spherical_motion.records.reading.slice_columns import SliceColumns
from spherical_motion.vocabulary import EventKind

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = Mapping[str, NDArray[Any]]
Different = tuple[tuple[float, float, float], ...]

SCHEDULED = ("lr", "weight_decay", "momentum")


class Sampled(Protocol):
    """Which steps a run has recorded."""

    @property
    def steps(self) -> Ints:
        """The steps, increasing, shape (steps,)."""
        ...

    @property
    def present(self) -> NDArray[np.bool_] | None:
        """Which slices have a row at which steps, shape (steps, slices); None if all have."""
        ...


class RecordedSettings(Protocol):
    """Settings under their names in `schema.SETTINGS`."""

    def at_samples(self, name: str, slices: Sequence[int]) -> Array:
        """A setting of these slices at each recorded step, shape (steps, slices).

        NaN where a slice has no row.
        """
        ...

    def at_each_step(self, name: str, slice_index: int, sampled: Ints) -> Array:
        """A setting of one slice at every step from the first of `sampled` to the last."""
        ...

    def differing(self, slices: Sequence[int]) -> Different:
        """The distinct (lr, weight_decay, momentum) of these slices where they first differ."""
        ...


class SettingsOfChanges:
    """Settings from the table of their changes (schema 2).

    Args:
        changes: the columns of `SETTINGS_SCHEMA`, in the order of writing.
        sampled: which steps were recorded.
        info: the facts of the run.
    """

    def __init__(self, changes: Columns, sampled: Sampled, info: RunInfo) -> None:
        self._changes, self._sampled = changes, sampled
        # The param groups of each slice: one, or several if a resume divided the slices otherwise.
        starts = (info.slice_param_group, *info.regrouped)
        self._param_groups = [tuple(sorted({*own})) for own in zip(*starts, strict=True)]
        self._histories: dict[tuple[int, ...], History] = {}
        self._differing: dict[tuple[tuple[int, ...], ...], Different] = {}

    def at_samples(self, name: str, slices: Sequence[int]) -> Array:
        place: dict[tuple[int, ...], int] = {}
        which = [place.setdefault(self._param_groups[i], len(place)) for i in slices]
        found = [self._history(own).at(name, self._sampled.steps) for own in place]
        if len(found) == 1:
            values = np.broadcast_to(found[0][:, None], (len(found[0]), len(slices)))
        else:
            values = np.stack(found, axis=1)[:, which]
        if self._sampled.present is None:
            return values
        return np.where(self._sampled.present[:, slices], values, np.nan)

    def at_each_step(self, name: str, slice_index: int, sampled: Ints) -> Array:
        steps = np.arange(sampled[0], sampled[-1] + 1)
        return self._history(self._param_groups[slice_index]).at(name, steps)

    def differing(self, slices: Sequence[int]) -> Different:
        own = tuple(dict.fromkeys(self._param_groups[i] for i in slices))
        if own not in self._differing:
            self._differing[own] = self._first_difference([self._history(one) for one in own])
        return self._differing[own]

    def _first_difference(self, histories: Sequence[History]) -> Different:
        recorded = self._sampled.steps
        if len(histories) == 1 or not len(recorded):
            return ()
        steps = np.unique(np.concatenate([recorded[:1], *(h.steps for h in histories)]))
        steps = steps[(steps >= recorded[0]) & (steps <= recorded[-1])]
        values = np.array([[h.at(name, steps) for name in SCHEDULED] for h in histories])
        return _first_difference(np.moveaxis(values, 0, -1))

    @functools.cached_property
    def _order(self) -> tuple[NDArray[np.intp], Ints]:
        """The rows sorted by param group, in each as written; and their param groups."""
        order = np.argsort(self._changes["param_group"], kind="stable")
        return order, self._changes["param_group"][order]

    def _history(self, param_groups: tuple[int, ...]) -> History:
        if param_groups not in self._histories:
            order, ordered = self._order
            first = np.searchsorted(ordered, param_groups, side="left")
            last = np.searchsorted(ordered, param_groups, side="right")
            rows = [order[i:j] for i, j in zip(first, last, strict=True)]
            written = rows[0] if len(rows) == 1 else np.sort(np.concatenate(rows))
            steps = self._changes["step"][written]
            counts = written[lasting(steps)]
            values = {name: column[counts] for name, column in self._changes.items()}
            self._histories[param_groups] = History(values["step"], values)
        return self._histories[param_groups]


class History(NamedTuple):
    """Settings that hold from each of some increasing steps on."""

    steps: Ints
    values: Columns

    def at(self, name: str, steps: Ints) -> Array:
        """The values of a setting at `steps`, NaN before the first one known."""
        if not len(self.steps):
            return np.full(len(steps), np.nan)
        last = np.searchsorted(self.steps, steps, side="right") - 1
        return np.where(last >= 0, self.values[name][last], np.nan)


def lasting(steps: Ints) -> NDArray[np.bool_]:
    """Which of a history's rows, in the order of writing, no later row undid.

    A row undoes the earlier ones of its step and of all steps after it: the run went back there.

    >>> lasting(np.array([0, 30, 60, 25, 40])).tolist()
    [True, False, False, True, True]
    """
    if not len(steps):
        return np.zeros(0, dtype=bool)
    least = np.minimum.accumulate(steps[::-1])[::-1]  # of each row and all later ones
    return np.append(steps[:-1] < least[1:], True)


class SettingsOfRows:
    """Settings from the rows of schema 1, and from the events between them.

    Args:
        rows: the columns of the rows, with the settings.
        info: the facts of the run.
        events: its events; "rate_changed" ones have step, optimizer, param_group and new values.
    """

    def __init__(self, rows: SliceColumns, info: RunInfo, events: Iterable[Event]) -> None:
        self._rows, self._info = rows, info
        self._changes = _lasting_changes(events)

    def at_samples(self, name: str, slices: Sequence[int]) -> Array:
        per_slice = self._rows[name]
        every = tuple(slices) == tuple(range(per_slice.shape[1]))
        return per_slice if every else per_slice[:, slices]

    def at_each_step(self, name: str, slice_index: int, sampled: Ints) -> Array:
        rows = np.searchsorted(self._rows.steps, sampled)
        values = self.at_samples(name, [slice_index])[rows, 0]
        first, last = sampled[0], sampled[-1]
        param_group = self._info.slice_param_group[slice_index]
        own = (e for e in self._changes if self._info.param_group_of(e) == param_group)
        found = ((event.get("step"), event.get(name)) for event in own)
        known = [(s, value) for s, value in found if s is not None and value is not None]
        between = [(s, value) for s, value in known if first < s <= last]
        # `latest` takes the last value of a step, which is the sampled one if there is one.
        steps = np.concatenate([[s for s, _ in between], sampled]).astype(np.int64)
        values = np.concatenate([[value for _, value in between], values])
        chosen = latest(steps)
        return np.repeat(values[chosen], np.diff(steps[chosen], append=last + 1))

    def differing(self, slices: Sequence[int]) -> Different:
        return _first_difference(np.stack([self.at_samples(name, slices) for name in SCHEDULED]))


def _first_difference(values: Array) -> Different:
    """The distinct triples where values of shape (3, steps, slices) first differ; () if nowhere."""
    differs = (values != values[:, :, :1]) & ~np.isnan(values) & ~np.isnan(values[:, :, :1])
    at = differs.any(axis=(0, 2))
    if not at.any():
        return ()
    found = values[:, int(np.argmax(at))].T.tolist()
    return tuple(dict.fromkeys((lr, decay, momentum) for lr, decay, momentum in found))


def _lasting_changes(events: Iterable[Event]) -> tuple[Event, ...]:
    """The "rate_changed" events, without those that resuming from an earlier step undid."""
    kept: list[Event] = []
    for event in events:
        if event["kind"] == EventKind.RATE_CHANGED:
            kept.append(event)
        elif event["kind"] == EventKind.RESUMED and event.get("step") is not None:
            kept = [e for e in kept if (e.get("step") or 0) < event["step"]]
    return tuple(kept)
