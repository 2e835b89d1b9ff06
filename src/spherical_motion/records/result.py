"""A run as arrays of (steps, groups), and the figures that follow from them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spherical_motion import sphere
from spherical_motion.errors import InvalidArgument, MissingExtra
from spherical_motion.records.dense import Layout, arrange
from spherical_motion.records.events import Event
from spherical_motion.records.rates import changes_of, held_values, lasting_changes
from spherical_motion.records.schema import SETTINGS, RunInfo
from spherical_motion.vocabulary import Gram, Schedule
from spherical_motion.vocabulary.gram import FIELDS

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

SCHEDULED = ("lr", "weight_decay", "momentum")


class Series(NamedTuple):
    """A logged scalar: increasing steps, and the value at each."""

    steps: NDArray[np.int64]
    values: Array


class CellSeries(NamedTuple):
    """The cells of a group: increasing steps, and Grams of shape (steps, cells)."""

    steps: NDArray[np.int64]
    gram: Gram


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Records:
    """A recorded run. Arrays have shape (steps, groups), and NaN where nothing was measured.

    Attributes:
        directory: the run directory.
        info: the facts that do not change during the run.
        events: the events in order, each a dict with "time", "kind", "step" and its data.
        scalars: the numbers that the training loop logged, by name.
        rows: the columns of the stored table, one entry per row as written; `steps`, `gram` and
            the settings are made from them on first use.
        load_cells: reads the cells of a group by its number; see `cells`.
    """

    directory: Path
    info: RunInfo
    events: tuple[Event, ...]
    scalars: Mapping[str, Series]
    rows: Mapping[str, NDArray[Any]]
    load_cells: Callable[[int], CellSeries]

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
        """The six products per group: sums over its slices, NaN if one was not measured."""
        return Gram(*(_frozen(self._summed(getattr(self.slice_gram, name))) for name in FIELDS))

    @functools.cached_property
    def lr(self) -> Array:
        """Learning rate; of the largest slice where the slices of a group differ (see `mixed`)."""
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
        """Groups whose slices have different settings (weight decayed, bias not).

        By name the distinct (lr, weight_decay, momentum) among its slices at the first recorded
        step at which they differ. Groups whose slices always agree are left out.
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
                found[name] = tuple(dict.fromkeys((lr, wd, mu) for lr, wd, mu in values))
        return MappingProxyType(found)

    def cells(self, group: str) -> CellSeries:
        """Read the six products of each certified cell of a group (filter, head).

        Empty, shape (0, 0), unless the run recorded cells (`Monitor(cells_every=...)`).
        """
        return self.load_cells(self.index(group))

    def index(self, group: str) -> int:
        """The column of a group.

        Raises:
            InvalidArgument: there is no such group; the message has the closest names.
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
        """Settings of a group at each step, from the first to the last recorded one.

        A recorded value holds until the next one; a "rate_changed" event between two of them
        (with "step", "optimizer", "param_group" and the new values) sets the exact step of a
        change. A group with `mixed` settings has those of its largest slice. Values are as
        recorded, even if no optimizer accepts them.

        Raises:
            InvalidArgument: no such group, or nothing is recorded of it yet.
        """
        column = self.index(group)
        main_slice = self.main_slices[column]
        measured = ~np.isnan(self.lr[:, column])
        if not measured.any():
            raise InvalidArgument(
                f"Nothing is recorded of group {group!r} in {self.directory} yet. Read it again "
                "after the first flush."
            )
        sampled = self.steps[measured]
        param_group = self.info.slice_param_group[main_slice]
        values = {}
        for name in SCHEDULED:
            changes = changes_of(name, self._lasting_changes, self.info, param_group)
            samples = getattr(self, name)[measured, column]
            values[name] = held_values(sampled, samples, changes)
        hp = self.info.hyperparameters(main_slice)
        return Schedule(hp, start=int(sampled[0]), recorded=True, **values)

    def to_arrow(self) -> pa.Table:
        """One row per step and group: step, group, the six products, the four settings."""
        steps, groups = len(self.steps), len(self.groups)
        names = pa.DictionaryArray.from_arrays(
            np.tile(np.arange(groups, dtype=np.int32), steps), pa.array(self.groups)
        )
        step = np.repeat(self.steps, groups)
        products = {name: getattr(self.gram, name).reshape(-1) for name in FIELDS}
        settings = {name: getattr(self, name).reshape(-1) for name in SETTINGS}
        return pa.table({"step": step, "group": names, **products, **settings})

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
        span = f" from {steps[0]:,} to {steps[-1]:,}" if len(steps) else ""
        return (
            f"Records({str(self.directory)!r}: {len(self.groups)} groups, {len(steps):,} steps"
            f"{span}, {len(self.events)} events)"
        )

    @functools.cached_property
    def _layout(self) -> Layout:
        return arrange(self.rows["step"], self.rows["slice"], width=len(self.info.slices))

    @functools.cached_property
    def _columns(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.groups)}

    @functools.cached_property
    def main_slices(self) -> tuple[int, ...]:
        """Per group the index in `info.slices` of the slice with the largest |w|² at the start."""
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
        return np.add.reduceat(per_slice, np.cumsum([0, *counts[:-1]]), axis=1)

    def _of_main_slice(self, name: str) -> Array:
        per_slice = self._per_slice(name)
        if self.main_slices == tuple(range(per_slice.shape[1])):
            return per_slice
        return _frozen(per_slice[:, self.main_slices])

    @functools.cached_property
    def _lasting_changes(self) -> tuple[Event, ...]:
        return lasting_changes(self.events)


def _first_known(values: Array) -> Array:
    """Per column the first value that is not NaN; NaN where there is none."""
    if not len(values):
        return np.full(values.shape[1], np.nan)
    known = ~np.isnan(values)
    return values[known.argmax(axis=0), np.arange(values.shape[1])]


def _frozen(array: Array) -> Array:
    """The array, made read-only: it is cached, so all callers share it."""
    array.flags.writeable = False
    return array
