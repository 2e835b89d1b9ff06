"""A run as arrays of (steps, groups), and the figures that follow from them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spherical_motion import checks, sphere
from spherical_motion.errors import InvalidArgument, MissingExtra
from spherical_motion.notices import listed
from spherical_motion.records.audits import AuditSeries, AuditStepSeries
from spherical_motion.records.files.branches import Branch
from spherical_motion.records.files.events import Event
from spherical_motion.records.files.segments import said
from spherical_motion.records.info import RunInfo
from spherical_motion.records.inward import (
    decay_in_pull,
    decoupled_decay,
    hyperparameters_of_slices,
    pull_of_slice,
    scales,
)
from spherical_motion.records.parts import Parts, Unreadable
from spherical_motion.records.reading.restriction import blocks_of_groups, restricted
from spherical_motion.records.reading.slice_columns import SliceColumns
from spherical_motion.records.schema import SETTINGS
from spherical_motion.records.series import CellSeries, CorrelationSeries, Series
from spherical_motion.records.settings import (
    SCHEDULED,
    Different,
    RecordedSettings,
    SettingsOfChanges,
    SettingsOfRows,
)
from spherical_motion.vocabulary import Gram, HyperParameters, Schedule
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS, is_unknown, unknown

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

BLOCK = 512 << 20
"""Bytes of products that `Records.blocks` gives at a time."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Records:
    """A recorded run. Arrays have shape (steps, groups), and NaN where nothing was measured.

    Attributes:
        directory: the run directory.
        info: the facts that do not change during the run.
        events: the events in order, each a dict with "time", "kind", "step" and its data, without
            those about steps that were given up.
        scalars: the numbers that the training loop logged, by name.
        columns: the stored columns of each slice, from which `gram` is made on first use.
        changes: the columns of the table of settings, one entry per param group and change as
            written; None for a run of schema 1, whose rows hold the settings.
        load_cells: reads the cells of a group by its number; see `cells`.
        load_correlations: reads the autocorrelations of a group's updates by its number.
        load_audits, load_audit_steps: read the audited steps.
        load_branches: counts what was given up; see `branches`.
        parts: reads the files, and knows which are damaged.
    """

    directory: Path
    info: RunInfo
    events: tuple[Event, ...]
    scalars: Mapping[str, Series]
    columns: SliceColumns
    changes: Mapping[str, NDArray[Any]] | None
    load_cells: Callable[[int], CellSeries]
    load_correlations: Callable[[int], CorrelationSeries]
    load_audits: Callable[[], AuditSeries] = AuditSeries.empty
    load_audit_steps: Callable[[], AuditStepSeries] = AuditStepSeries.empty
    load_branches: Callable[[], tuple[Branch, ...]] = tuple
    parts: Parts | None = None

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The files that are damaged or missing, and why; what they hold is not in this run."""
        return () if self.parts is None else self.parts.unreadable

    def lost(self, *tables: str) -> str:
        """What of these tables could not be read, and why, in words; "" if all could."""
        found = [part for part in self.unreadable if part.name.partition("/")[0] in tables]
        return listed([said(*part) for part in found], separator="; ")

    @property
    def rows(self) -> Mapping[str, NDArray[Any]]:
        """The columns of the stored table, an entry per row; each time they are read anew."""
        settings = () if self.changes is not None else SETTINGS
        return self.columns.stored(("step", "slice", *self._stored, *settings))

    @functools.cached_property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order of the columns."""
        return tuple(group.name for group in self.info.groups)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The recorded steps, increasing, shape (steps,)."""
        return self.columns.steps

    @functools.cached_property
    def slice_gram(self) -> Gram:
        """The products per slice, shape (steps, slices).

        wp = <w, Px> of slices that SGD steps follows from the others where it is not stored; wp
        and ws are NaN where they are neither stored nor follow.
        """
        stored = {name: self.columns[name] for name in self._stored}
        pulls = [self._pull_of(i) for i in range(len(self.info.slices))]
        wp = None if all(pull is None for pull in pulls) else self._matrix(pulls)
        return Gram(*(stored[name] for name in FIELDS), wp=wp, ws=stored.get("ws"))

    @functools.cached_property
    def gram(self) -> Gram:
        """The products per group: sums over its slices, NaN if one was not measured."""
        if self._groups_are_slices:
            return self.slice_gram
        whole = self.slice_gram
        return Gram(*(_frozen(self._summed(getattr(whole, name))) for name in PRODUCTS))

    def gram_of(self, group: int) -> Gram:
        """The products of one group, by its number: a column of `gram`, shape (steps,)."""
        members = self.info.members[group]
        stored = {n: _sum([self.columns[n][:, i] for i in members]) for n in self._stored}
        pulls = [pull for pull in map(self._pull_of, members) if pull is not None]
        wp = _sum(pulls) if len(pulls) == len(members) else None
        return Gram(*(stored[name] for name in FIELDS), wp=wp, ws=stored.get("ws"))

    def setting_of(self, name: str, group: int) -> Array:
        """A setting of one group, by its number: a column of `lr` or its like, shape (steps,)."""
        return self.settings.at_samples(name, [self.main_slices[group]])[:, 0]

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
    def mixed(self) -> Mapping[str, Different]:
        """Groups whose slices have different settings (weight decayed, bias not).

        By name the distinct (lr, weight_decay, momentum) among its slices at the first step at
        which they differ, from the first recorded step to the last. Groups whose slices always
        agree are left out.
        """
        members = zip(self.groups, self.info.members, strict=True)
        found = ((name, self.settings.differing(own)) for name, own in members if len(own) > 1)
        return MappingProxyType({name: different for name, different in found if different})

    def cells(self, group: str) -> CellSeries:
        """Read the six products of each certified cell of a group (filter, head).

        Empty, shape (0, 0), unless the run recorded cells (`Monitor(cells_every=...)`).
        """
        return self.load_cells(self.index(group))

    def correlations(self, group: str) -> CorrelationSeries:
        """Read how the updates of a group resemble each other over bursts of steps.

        Empty unless the run recorded them (`Monitor(correlation_every=...)`).
        """
        return self.load_correlations(self.index(group))

    @functools.cached_property
    def audits(self) -> AuditSeries:
        """The audited steps of each parameter; none in a run without an audit."""
        return self.load_audits()

    @functools.cached_property
    def audit_steps(self) -> AuditStepSeries:
        """The audited steps of each optimizer; none in a run without an audit."""
        return self.load_audit_steps()

    @functools.cached_property
    def branches(self) -> tuple[Branch, ...]:
        """The run as it stood before each of its resumes, and how much of it was given up.

        `read(directory, branch=number)` reads one of them. Resumes of older versions, whose
        boundary is not known, are left out.
        """
        return self.load_branches()

    def index(self, group: str) -> int:
        """The column of a group.

        Raises:
            InvalidArgument: there is no such group; the message has the closest names.
        """
        try:
            return self._numbers[group]
        except KeyError:
            close = difflib.get_close_matches(group, self.groups, n=3, cutoff=0.4)
            names = close or [*self.groups[:3], *(["..."] if len(self.groups) > 3 else [])]
            raise InvalidArgument(
                f"No group {group!r} among the {len(self.groups)} in {self.directory}. "
                f"{'Close to it' if close else 'There are'}: {', '.join(names)}."
            ) from None

    def select(self, names: Iterable[str]) -> Records:
        """The same run restricted to some groups, in this order.

        Raises:
            InvalidArgument: a name is unknown, given twice, or none is given.
        """
        chosen = [self.index(name) for name in names]
        if not chosen or len(set(chosen)) < len(chosen):
            raise InvalidArgument(
                "Records.select(names) must have at least one group and each once, got "
                f"{', '.join(self.groups[i] for i in chosen) or 'none'}."
            )
        return self._restricted_to(chosen)

    def blocks(self, limit: int = BLOCK) -> Iterator[Records]:
        """The run in parts of consecutive groups; the run itself if it fits into one.

        Args:
            limit: bytes that the products of a part may take; a part has at least one group.
        """
        checks.whole("Records.blocks", "limit", limit, least=1)
        ranges = list(blocks_of_groups(self.info, len(self.steps), limit))
        if len(ranges) == 1:
            yield self
            return
        for groups in ranges:
            yield self._restricted_to(groups)

    def _restricted_to(self, groups: Sequence[int]) -> Records:
        part = restricted(self.info, groups)
        return dataclasses.replace(
            self,
            info=part.info,
            columns=self.columns.of(part.slices),
            load_cells=lambda group: self.load_cells(part.groups[group]),
            load_correlations=lambda group: self.load_correlations(part.groups[group]),
            load_audits=lambda: self.audits.renumbered(part.parameters),
            load_audit_steps=lambda: self.audit_steps,
        )

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

    def pull(self) -> Array:
        """How strongly decay and loss draw the weights inward at each step, p = δ + c·wp/ww.

        In units of weight decay; negative is outward. NaN where wp is unknown: for optimizers
        other than SGD in runs that recorded six products. Of one step this is a noisy number:
        for a window divide sums (`theory.balance`). See `sphere.pull`.
        """
        decay = decoupled_decay(self.info, self._per_slice("weight_decay"))
        delta = self._summed(decay * self.slice_gram.ww) / self.gram.ww
        return sphere.pull(self.gram, delta, scales(self.info, self.main_slices, self.momentum))

    def decay_share(self) -> Array:
        """Weight decay over pull at each step: 1 if the loss leaves the norm alone.

        Above 1 the loss cancels a part of the decay, below 1 it helps. NaN where the pull is
        unknown or not inward, and for Adam with L2 decay: its decay passes the preconditioner,
        and its share needs <w, Pw>, which is not measured.
        """
        decay, momentum = self._per_slice("weight_decay"), self._per_slice("momentum")
        part = self._summed(decay_in_pull(self.info, decay, momentum) * self.slice_gram.ww)
        pull = self.pull()
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(pull > 0, part / self.gram.ww / pull, np.nan)

    def growth(self) -> Array:
        """Relative growth of the squared norm in each step, (|w_after|² - |w|²)/|w|².

        `Row.growth` is the same for many steps: 2·ln(|w_end|/|w_start|) over their number, the mean
        of ln(1 + this) where every step was recorded and nothing else wrote the weights.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return (2.0 * self.gram.wd + self.gram.dd) / self.gram.ww

    def schedule(self, group: str) -> Schedule:
        """Settings of a group at each step, from the first to the last recorded one.

        They are exact at every step. In a run of schema 1, which recorded settings with its rows
        alone, a value holds until the next row, or until a "rate_changed" event between the two.
        A group with `mixed` settings has those of its largest slice. Values are as recorded, even
        if no optimizer accepts them.

        Raises:
            InvalidArgument: no such group, nothing is recorded of it yet, or the first and the last
                step are too far apart.
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
        first, last = int(sampled[0]), int(sampled[-1])
        if last - first >= checks.MOST_STEPS:
            raise InvalidArgument(
                f"{self.directory} has steps from {first:,} to {last:,}, and a schedule has an "
                f"entry for each step, {checks.MOST_STEPS:,} at most. If a step is not of this "
                "run, take its part out of records/."
            )
        values = {n: self.settings.at_each_step(n, main_slice, sampled) for n in SCHEDULED}
        hp = self.info.hyperparameters(main_slice)
        return Schedule(hp, start=int(sampled[0]), recorded=True, **values)

    def to_arrow(self) -> pa.Table:
        """One row per step and group: step, group, the stored products, the four settings."""
        steps, groups = len(self.steps), len(self.groups)
        names = pa.DictionaryArray.from_arrays(
            np.tile(np.arange(groups, dtype=np.int32), steps), pa.array(self.groups)
        )
        step = np.repeat(self.steps, groups)
        products = {name: getattr(self.gram, name).reshape(-1) for name in self._stored}
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
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.groups)}

    @functools.cached_property
    def main_slices(self) -> tuple[int, ...]:
        """Per group the index in `info.slices` of the slice with the largest |w|² at the start."""
        if all(len(members) == 1 for members in self.info.members):
            return tuple(member for (member,) in self.info.members)
        size = np.nan_to_num(_first_known(self.columns["ww"]))
        return tuple(max(members, key=lambda i: size[i]) for members in self.info.members)

    @functools.cached_property
    def settings(self) -> RecordedSettings:
        """The settings at each step, from which `lr` and its like are made."""
        if self.changes is None:
            return SettingsOfRows(self.columns, self.info, self.events)
        return SettingsOfChanges(self.changes, self.columns, self.info)

    @property
    def _stored(self) -> tuple[str, ...]:
        """The products that the rows hold."""
        return PRODUCTS[: self.info.products]

    def _per_slice(self, name: str) -> Array:
        return self.settings.at_samples(name, range(len(self.info.slices)))

    @functools.cached_property
    def _groups_are_slices(self) -> bool:
        return self.info.members == tuple((i,) for i in range(len(self.info.slices)))

    def _pull_of(self, i: int) -> Array | None:
        """wp of a slice; None if it is unknown."""
        stored = self.columns["wp"][:, i] if "wp" in self._stored else None
        ww, wg = self.columns["ww"][:, i], self.columns["wg"][:, i]
        return pull_of_slice(
            self._hyperparameters[i],
            *(ww, wg, stored),
            lambda: self.settings.at_samples("weight_decay", [i])[:, 0],
        )

    @functools.cached_property
    def _hyperparameters(self) -> tuple[HyperParameters, ...]:
        return hyperparameters_of_slices(self.info)

    def _matrix(self, columns: Sequence[Array | None]) -> Array:
        """Columns of shape (steps,) beside each other; NaN for None."""
        found = np.empty((len(columns), len(self.steps)))
        for line, column in zip(found, columns, strict=True):
            line[:] = np.nan if column is None else column
        return _frozen(found.T)

    def _summed(self, per_slice: Array) -> Array:
        """Sums over the slices of each group, (steps, slices) to (steps, groups)."""
        if is_unknown(per_slice):
            return unknown((len(per_slice), len(self.groups)))
        members = self.info.members
        return self._matrix([_sum([per_slice[:, i] for i in own]) for own in members])

    def _of_main_slice(self, name: str) -> Array:
        return _frozen(self.settings.at_samples(name, self.main_slices))


def _sum(columns: Sequence[Array]) -> Array:
    """The sum of the slices of a group, the column itself if there is one."""
    return columns[0] if len(columns) == 1 else functools.reduce(np.add, columns)


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
