"""What `read` returns: a run as arrays of (steps, groups), and what follows from them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spherical_motion import sphere
from spherical_motion.errors import InvalidArgument, MissingExtra
from spherical_motion.records.dense import Layout, arrange, latest
from spherical_motion.records.schema import SETTINGS, RunInfo
from spherical_motion.vocabulary import Gram, Schedule
from spherical_motion.vocabulary.gram import FIELDS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CellSeries", "Records", "Series"]

Array = NDArray[np.float64]

SCHEDULED = ("lr", "weight_decay", "momentum")


class Series(NamedTuple):
    """A logged scalar: the steps, increasing, and the value at each."""

    steps: NDArray[np.int64]
    values: Array


class CellSeries(NamedTuple):
    """A group's cells: the steps, increasing, and Grams of shape (steps, cells)."""

    steps: NDArray[np.int64]
    gram: Gram


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Records:
    """A recorded run. Arrays have shape (steps, groups), and NaN where nothing was measured.

    Attributes:
        directory: where it was read from.
        info: its unchanging facts.
        events: what happened, in order, each a dict with "time", "kind", "step" and its data.
        scalars: what the training loop logged, by name.
        rows: the columns of the stored table, one entry per row as written; `steps`, `gram` and
            the settings are made from them when first asked for.
        load_cells: reads the cells of a group by its number; see `cells`.
    """

    directory: Path
    info: RunInfo
    events: tuple[dict[str, Any], ...]
    scalars: Mapping[str, Series]
    rows: Mapping[str, NDArray[Any]]
    load_cells: Callable[[int], CellSeries]

    # What was recorded.

    @functools.cached_property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order of the columns."""
        return tuple(group.name for group in self.info.groups)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The recorded steps, increasing, shape (steps,)."""
        return self._layout.steps

    @functools.cached_property
    def slice_gram(self) -> Gram:
        """The six products per slice, shape (steps, slices)."""
        return Gram(*(self._per_slice(name) for name in FIELDS))

    @functools.cached_property
    def gram(self) -> Gram:
        """The six products per group: the sum over its slices, NaN if one was not measured."""
        return Gram(*(_frozen(self._summed(getattr(self.slice_gram, name))) for name in FIELDS))

    @functools.cached_property
    def lr(self) -> Array:
        """Learning rate; where the slices of a group differ (see `mixed`), its largest slice's."""
        return self._of_main_slice("lr")

    @functools.cached_property
    def weight_decay(self) -> Array:
        """Weight decay coefficient; of the largest slice, like `lr`."""
        return self._of_main_slice("weight_decay")

    @functools.cached_property
    def momentum(self) -> Array:
        """Momentum, or β1 of Adam-type optimizers; of the largest slice, like `lr`."""
        return self._of_main_slice("momentum")

    @functools.cached_property
    def beta2(self) -> Array:
        """β2; NaN for optimizers without one."""
        return self._of_main_slice("beta2")

    @functools.cached_property
    def mixed(self) -> Mapping[str, tuple[tuple[float, float, float], ...]]:
        """Groups whose slices were told different things (weight decayed, bias not).

        By name the distinct (lr, weight_decay, momentum) among its slices at the first recorded
        step at which they differ. Groups whose slices always agree are absent.
        """
        found: dict[str, tuple[tuple[float, float, float], ...]] = {}
        if max(map(len, self.info.members)) == 1:
            return MappingProxyType(found)
        settings = np.stack([self._per_slice(name) for name in SCHEDULED])
        for name, members in zip(self.groups, self.info.members, strict=True):
            ours = settings[:, :, members]  # (3, steps, members)
            differs = (ours != ours[:, :, :1]) & ~np.isnan(ours) & ~np.isnan(ours[:, :, :1])
            at = differs.any(axis=(0, 2))
            if at.any():
                values = ours[:, int(np.argmax(at))].T.tolist()
                found[name] = tuple(dict.fromkeys((v[0], v[1], v[2]) for v in values))
        return MappingProxyType(found)

    def cells(self, group: str) -> CellSeries:
        """The six products of each certified cell of a group (filter, head), read now.

        Empty, shape (0, 0), unless the run recorded cells (`Monitor(cells_every=...)`).
        """
        return self.load_cells(self.index(group))

    def index(self, group: str) -> int:
        """The column of a group.

        Raises:
            InvalidArgument: there is no such group; names the ones that come close.
        """
        try:
            return self._columns[group]
        except KeyError:
            close = difflib.get_close_matches(group, self.groups, n=3, cutoff=0.4)
            names = close or [*self.groups[:3], *(["..."] if len(self.groups) > 3 else [])]
            raise InvalidArgument(
                f"No group {group!r} among the {len(self.groups)} in {self.directory}. "
                f"{'Close to it' if close else 'There are'}: {', '.join(names)}."
            ) from None

    # What follows from it.

    def angle(self) -> Array:
        """Angle between the weights before and after each step, in radians."""
        return sphere.angle(self.gram)

    def norm(self) -> Array:
        """Norm of the weights before each step."""
        return sphere.norm(self.gram)

    def norm_after(self) -> Array:
        """Norm of the weights after each step."""
        return sphere.norm_after(self.gram)

    def unit_gradient_norm(self) -> Array:
        """Norm of the gradient at weights of norm 1."""
        return sphere.unit_gradient_norm(self.gram)

    def defect(self) -> Array:
        """|<w, g>| / (|w||g|) of the training gradient: 0 for exact scale invariance."""
        return sphere.defect(self.gram)

    def effective_lr(self) -> Array:
        """Learning rate over squared norm, as SGD's step acts on the sphere."""
        return sphere.effective_lr(self.gram, self.lr)

    def schedule(self, group: str) -> Schedule:
        """What the optimizer was told about a group, at each step from first to last recorded.

        A recorded value holds until the next one; an event "rate_changed" between two of them
        (with "step", "optimizer", "param_group" and the new values) puts the change at its exact
        step. Of a group with `mixed` settings: its largest slice's. Values are as recorded, also
        those no optimizer should have been told.

        Raises:
            InvalidArgument: no such group, or nothing is recorded of it yet.
        """
        column = self.index(group)
        main_slice = self.main_slices[column]
        param_group = self.info.slice_param_group[main_slice]
        measured = ~np.isnan(self.lr[:, column])
        if not measured.any():
            raise InvalidArgument(
                f"Nothing is recorded of group {group!r} in {self.directory} yet. Read it again "
                "after the first flush."
            )
        recorded = self.steps[measured]
        values = {}
        for name in SCHEDULED:
            changes = list(self._rate_changes(param_group, name, recorded[0], recorded[-1]))
            # Samples come last: where one and an event meet, the sample is what was in force.
            steps = np.concatenate([[step for step, _ in changes], recorded]).astype(np.int64)
            held = np.concatenate(
                [[value for _, value in changes], getattr(self, name)[measured, column]]
            )
            chosen = latest(steps)
            lasts = np.diff(steps[chosen], append=recorded[-1] + 1)
            values[name] = np.repeat(held[chosen], lasts)
        hp = self.info.hyperparameters(main_slice)
        return Schedule(hp, start=int(recorded[0]), recorded=True, **values)

    def to_arrow(self) -> pa.Table:
        """One row per step and group: step, group, the six products, the four settings."""
        steps, groups = len(self.steps), len(self.groups)
        names = pa.DictionaryArray.from_arrays(
            np.tile(np.arange(groups, dtype=np.int32), steps), pa.array(self.groups)
        )
        columns: dict[str, Any] = {"step": np.repeat(self.steps, groups), "group": names}
        columns |= {name: getattr(self.gram, name).reshape(-1) for name in FIELDS}
        columns |= {name: getattr(self, name).reshape(-1) for name in SETTINGS}
        return pa.table(columns)

    def to_pandas(self) -> pd.DataFrame:
        """`to_arrow` as a DataFrame.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise MissingExtra(
                "Records.to_pandas needs pandas. Run: pip install 'spherical-motion[pandas]'"
            ) from error
        return self.to_arrow().to_pandas()

    def __repr__(self) -> str:
        steps = self.steps
        span = f"{len(steps):,} steps"
        if len(steps):
            span += f" from {steps[0]:,} to {steps[-1]:,}"
        return (
            f"Records({str(self.directory)!r}: {len(self.groups)} groups, {span}, "
            f"{len(self.events)} events)"
        )

    # How the arrays are made.

    @functools.cached_property
    def _layout(self) -> Layout:
        return arrange(self.rows["step"], self.rows["slice"], width=len(self.info.slices))

    @functools.cached_property
    def _columns(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.groups)}

    @functools.cached_property
    def main_slices(self) -> tuple[int, ...]:
        """Per group the slice (an index into `info.slices`) that holds most of |w|² at first."""
        size = np.nan_to_num(_first_known(self.slice_gram.ww))
        return tuple(max(members, key=lambda i: size[i]) for members in self.info.members)

    def _per_slice(self, name: str) -> Array:
        return _frozen(self._layout.spread(self.rows[name]))

    def _summed(self, per_slice: Array) -> Array:
        """Sums over the slices of each group, (steps, slices) to (steps, groups)."""
        counts = [len(members) for members in self.info.members]
        order = np.concatenate(self.info.members)
        if not np.array_equal(order, np.arange(per_slice.shape[1])):
            per_slice = per_slice[:, order]
        if max(counts) == 1:
            return per_slice
        starts = np.cumsum([0, *counts[:-1]])
        return np.add.reduceat(per_slice, starts, axis=1)

    def _of_main_slice(self, name: str) -> Array:
        per_slice = self._per_slice(name)
        if self.main_slices == tuple(range(per_slice.shape[1])):
            return per_slice
        return _frozen(per_slice[:, self.main_slices])

    def _rate_changes(
        self, param_group: int, name: str, after: int, until: int
    ) -> Iterator[tuple[int, float]]:
        """Steps and values of `name` from the events of one parameter group."""
        for event in self._standing_changes:
            if self.info.param_group_of(event) == param_group:
                step, value = event.get("step"), event.get(name)
                if step is not None and value is not None and after < step <= until:
                    yield step, value

    @functools.cached_property
    def _standing_changes(self) -> tuple[dict[str, Any], ...]:
        """The "rate_changed" events that were not undone by going back to an earlier step."""
        standing: list[dict[str, Any]] = []
        for event in self.events:
            if event["kind"] == "rate_changed":
                standing.append(event)
            elif event["kind"] == "resumed" and event.get("step") is not None:
                standing = [e for e in standing if (e.get("step") or 0) < event["step"]]
        return tuple(standing)


def _first_known(values: Array) -> Array:
    """Per column the first value that is no NaN; NaN where there is none, or there are no rows."""
    if not len(values):
        return np.full(values.shape[1], np.nan)
    known = ~np.isnan(values)
    return values[known.argmax(axis=0), np.arange(values.shape[1])]


def _frozen(array: Array) -> Array:
    """The array, no longer writable: it is cached, and others will be handed it too."""
    array.flags.writeable = False
    return array
