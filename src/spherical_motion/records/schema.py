"""The facts of a run, which `run.json` holds, and the columns of its tables."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument, NotARun
from spherical_motion.records import packing
from spherical_motion.records.events import Event
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice
from spherical_motion.vocabulary.gram import FIELDS
from spherical_motion.vocabulary.hyperparameters import ParamGroup

SCHEMA_VERSION = 1
"""Goes up whenever an older reader could misread a run."""

SETTINGS = ("lr", "weight_decay", "momentum", "beta2")
"""Settings that may change at each step; momentum holds β1, and NaN means there is none."""

BYTES_PER_ROW = 42
"""Disk space of one (step, slice) row, to predict the size of a run.

Measured: 41.6 bytes on 2,120,000 rows of 53 slices, 46 on a segment of 1,060. The six products take
nearly all, since their lower halves are noise; step, slice and settings take about 0.2.
"""

ROW_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("slice", pa.int32()),
        *((name, pa.float64()) for name in (*FIELDS, *SETTINGS)),
    ]
)
"""`records/`: one row per step and slice; `slice` is an index into `RunInfo.slices`."""

SCALAR_SCHEMA = pa.schema([("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())])
"""`scalars/`: the numbers that the training loop logged."""

CELL_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("group", pa.int32()),
        *((name, pa.list_(pa.float64())) for name in FIELDS),
    ]
)
"""`cells/`, only if asked for: one row per step and group, a list entry per certified cell."""


PLAIN = ("created", "command", "commit", "versions", "every", "burst")
"""Facts of a run that `run.json` holds as they are."""


def union_of_slices(groups: tuple[InvariantGroup, ...]) -> tuple[Slice, ...]:
    """The slices of all groups in order, each once: the meaning of a row's `slice`."""
    return tuple(dict.fromkeys(s for group in groups for s in group.slices))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The facts of a run that do not change during it; `run.json` holds them.

    Attributes:
        groups: the measured groups.
        param_groups: the settings of all param groups of all optimizers when recording began:
            plain scalars under the optimizer's names, "class" (the optimizer's class name) and
            "optimizer" (its index).
        slice_param_group: per slice, the index of its param group in `param_groups`.
        slices: the union over `groups` in order; follows from them when left out.
        every, burst: `burst` consecutive steps out of every `every` are measured.
        versions: versions of the libraries.
        command: the command line.
        commit: the revision of the caller's code, if known.
        created: when recording began, ISO 8601.

    Raises:
        InvalidArgument: parts contradict each other, or a setting is not a plain scalar.

    >>> s = Slice("conv.weight", axis=0, start=0, stop=64)
    >>> group = InvariantGroup("conv", "scale", (s,), cells=((s,),), numel=576)
    >>> sgd = {"class": "SGD", "optimizer": 0, "lr": 0.1, "momentum": 0.9}
    >>> info = RunInfo(groups=(group,), param_groups=(sgd,), slice_param_group=(0,))
    >>> info.hyperparameters(0).momentum
    0.9
    >>> RunInfo.from_json(info.to_json()) == info
    True
    """

    groups: tuple[InvariantGroup, ...]
    param_groups: tuple[ParamGroup, ...]
    slice_param_group: tuple[int, ...]
    slices: tuple[Slice, ...] = ()
    every: int = 1
    burst: int = 1
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: str = ""
    commit: str | None = None
    created: str = dataclasses.field(default_factory=_now)

    def __post_init__(self) -> None:
        union = union_of_slices(self.groups)
        for name, value in {
            "groups": tuple(self.groups),
            "param_groups": tuple(
                MappingProxyType({k: packing.frozen_setting(k, v) for k, v in group.items()})
                for group in self.param_groups
            ),
            "slice_param_group": tuple(int(i) for i in self.slice_param_group),
            "slices": tuple(self.slices) or union,
            "versions": MappingProxyType(dict(self.versions)),
        }.items():
            object.__setattr__(self, name, value)
        self._check(union)

    def _check(self, union: tuple[Slice, ...]) -> None:
        names = [group.name for group in self.groups]
        if not names or len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1}) if names else "none"
            raise InvalidArgument(
                f"RunInfo(groups=...) must have at least one group and distinct names, got {twice}."
            )
        if self.slices != union:
            raise InvalidArgument(
                f"RunInfo(slices=...) must be the {len(union)} slices of the groups in order, got "
                f"{len(self.slices)} that differ. Leave it out: it follows from the groups."
            )
        known = range(len(self.param_groups))
        if len(self.slice_param_group) != len(union) or not set(self.slice_param_group) <= {*known}:
            raise InvalidArgument(
                f"RunInfo(slice_param_group=...) must have an index below {len(known)} for each of "
                f"{len(union)} slices, got {len(self.slice_param_group)} values, "
                f"largest {max(self.slice_param_group, default=None)}."
            )
        for group in self.param_groups:
            if "class" not in group or "lr" not in group:
                raise InvalidArgument(
                    "RunInfo(param_groups=...) must have 'class' and 'lr' in each, got the keys "
                    f"{', '.join(group)}."
                )
        checks.whole("RunInfo", "every", self.every, least=1)
        checks.whole("RunInfo", "burst", self.burst, least=1)

    def hyperparameters(self, slice_index: int) -> HyperParameters:
        """Settings of the optimizer for this slice when recording began."""
        group = self.param_groups[self.slice_param_group[slice_index]]
        return HyperParameters.from_param_group(group["class"], group)

    def param_group_of(self, event: Event) -> int | None:
        """Index in `param_groups` of the param group of the optimizer that an event names."""
        optimizer, local = event.get("optimizer", 0), event.get("param_group")
        own = [i for i, g in enumerate(self.param_groups) if g.get("optimizer", 0) == optimizer]
        return own[local] if isinstance(local, int) and 0 <= local < len(own) else None

    @functools.cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Per group, the indices of its slices in `slices`."""
        index = {s: i for i, s in enumerate(self.slices)}
        return tuple(tuple(index[s] for s in group.slices) for group in self.groups)

    def to_json(self) -> str:
        """The text of `run.json`: strict JSON, cells packed as runs."""
        document = {
            "schema_version": SCHEMA_VERSION,
            **{name: getattr(self, name) for name in PLAIN},
            "param_groups": [
                {key: packing.pack_setting(value) for key, value in group.items()}
                for group in self.param_groups
            ],
            "slices": packing.pack_cells((s,) for s in self.slices),
            "slice_param_group": list(self.slice_param_group),
            "groups": [packing.pack_group(group) for group in self.groups],
        }
        return json.dumps(document, allow_nan=False, ensure_ascii=False, default=dict) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "run.json") -> RunInfo:
        """Read the text of a `run.json`; errors name `where`.

        Raises:
            NotARun: the text does not describe a run, or its version is newer.
        """
        try:
            document = json.loads(text)
            version = int(document["schema_version"])
        except (ValueError, TypeError, KeyError) as error:
            raise NotARun(
                f"{where} is not the description of a run ({type(error).__name__}: {error}). "
                "Name a directory that spherical-motion wrote."
            ) from error
        if version > SCHEMA_VERSION:
            raise NotARun(
                f"{where} has schema version {version}; this library reads up to "
                f"{SCHEMA_VERSION}. Upgrade spherical-motion."
            )
        try:
            return cls(
                groups=tuple(packing.unpack_group(group) for group in document["groups"]),
                param_groups=tuple(
                    {key: packing.unpack_setting(value) for key, value in group.items()}
                    for group in document["param_groups"]
                ),
                slice_param_group=tuple(document["slice_param_group"]),
                slices=tuple(s for (s,) in packing.unpack_cells(document["slices"])),
                **{name: document[name] for name in PLAIN},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NotARun(
                f"{where} is damaged ({type(error).__name__}: {error}). Restore it from a copy."
            ) from error
