"""What a run directory says: the facts of a run, and the columns of its tables."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from spherical_motion.errors import InvalidArgument, NotARun
from spherical_motion.records.packing import pack_cells, unpack_cells
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice
from spherical_motion.vocabulary.gram import FIELDS

__all__ = [
    "BYTES_PER_ROW",
    "CELL_SCHEMA",
    "ROW_SCHEMA",
    "SCALAR_SCHEMA",
    "SCHEMA_VERSION",
    "SETTINGS",
    "RunInfo",
    "union_of_slices",
]

SCHEMA_VERSION = 1
"""Raised when an older reader could misread what is written."""

SETTINGS = ("lr", "weight_decay", "momentum", "beta2")
"""What an optimizer may change at each step; β1 stands in momentum, NaN means there is none."""

BYTES_PER_ROW = 42
"""Disk space of one (step, slice) row, to foretell the size of a run.

41.6 bytes were measured on 2,120,000 rows of 53 slices, 46 on a segment of 1,060. Six products
whose lower halves are noise take nearly all of it; step, slice and settings together about 0.2.
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
"""`scalars/`: what the training loop logged."""

CELL_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("group", pa.int32()),
        *((name, pa.list_(pa.float64())) for name in FIELDS),
    ]
)
"""`cells/`, only where asked for: one row per step and group, a list entry per certified cell."""


def union_of_slices(groups: tuple[InvariantGroup, ...]) -> tuple[Slice, ...]:
    """The slices of all groups in order, each once: the meaning of a row's `slice`."""
    return tuple(dict.fromkeys(s for group in groups for s in group.slices))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The facts of a run that do not change while it lasts; `run.json` holds them.

    Attributes:
        groups: what is measured.
        param_groups: the settings of every optimizer's parameter groups when recording began,
            plain scalars under the optimizer's own names, beside "class" (the optimizer's class
            name) and "optimizer" (its index).
        slice_param_group: per slice, the index of its parameter group in `param_groups`.
        slices: the union over `groups` in order; follows from them when left out.
        every: one measurement begins at every so many steps ...
        burst: ... and takes this many consecutive steps.
        versions: of the libraries the run used.
        command: what was run.
        commit: the revision of the caller's code, if known.
        created: when, ISO 8601.

    Raises:
        InvalidArgument: parts that contradict each other, or a setting that is no plain scalar.

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
    param_groups: tuple[Mapping[str, Any], ...]
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
        settings = tuple(
            MappingProxyType({key: _frozen(key, value) for key, value in group.items()})
            for group in self.param_groups
        )
        for name, value in {
            "groups": tuple(self.groups),
            "param_groups": settings,
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
                f"RunInfo(groups=...) expects at least one group and distinct names, got {twice}."
            )
        if self.slices != union:
            raise InvalidArgument(
                f"RunInfo(slices=...) must be the {len(union)} slices of the groups in order, got "
                f"{len(self.slices)} that differ. Leave it out: it follows from the groups."
            )
        known = range(len(self.param_groups))
        if len(self.slice_param_group) != len(union) or not set(self.slice_param_group) <= {*known}:
            raise InvalidArgument(
                f"RunInfo(slice_param_group=...) expects an index below {len(known)} for each of "
                f"{len(union)} slices, got {len(self.slice_param_group)} values, "
                f"largest {max(self.slice_param_group, default=None)}."
            )
        for group in self.param_groups:
            if "class" not in group or "lr" not in group:
                raise InvalidArgument(
                    "RunInfo(param_groups=...) expects 'class' and 'lr' in each, got the keys "
                    f"{', '.join(group)}."
                )
        if self.every < 1 or self.burst < 1:
            raise InvalidArgument(
                f"RunInfo expects every >= 1 and burst >= 1, got {self.every} and {self.burst}."
            )

    def hyperparameters(self, slice_index: int) -> HyperParameters:
        """What the optimizer of this slice was told when recording began."""
        group = self.param_groups[self.slice_param_group[slice_index]]
        return HyperParameters.from_param_group(group["class"], group)

    def param_group_of(self, event: Mapping[str, Any]) -> int | None:
        """Which of `param_groups` an event names by "optimizer" and its "param_group" there."""
        optimizer, local = event.get("optimizer", 0), event.get("param_group")
        own = [i for i, g in enumerate(self.param_groups) if g.get("optimizer", 0) == optimizer]
        return own[local] if isinstance(local, int) and 0 <= local < len(own) else None

    @functools.cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Per group, the indices of its slices in `slices`."""
        index = {s: i for i, s in enumerate(self.slices)}
        return tuple(tuple(index[s] for s in group.slices) for group in self.groups)

    def to_json(self) -> str:
        """The text of `run.json`: strict JSON, cells stored as runs."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "created": self.created,
            "command": self.command,
            "commit": self.commit,
            "versions": dict(self.versions),
            "every": self.every,
            "burst": self.burst,
            "param_groups": [
                {key: _to_plain(value) for key, value in group.items()}
                for group in self.param_groups
            ],
            "slices": pack_cells((s,) for s in self.slices),
            "slice_param_group": list(self.slice_param_group),
            "groups": [_group_to_plain(group) for group in self.groups],
        }
        return json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "run.json") -> RunInfo:
        """Read the text of a `run.json`; `where` is the name used in errors.

        Raises:
            NotARun: the text is no run description, or one of a newer version.
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
                groups=tuple(_group_from_plain(group) for group in document["groups"]),
                param_groups=tuple(
                    {key: _from_plain(value) for key, value in group.items()}
                    for group in document["param_groups"]
                ),
                slice_param_group=tuple(document["slice_param_group"]),
                slices=tuple(s for (s,) in unpack_cells(document["slices"])),
                every=document["every"],
                burst=document["burst"],
                versions=document["versions"],
                command=document["command"],
                commit=document["commit"],
                created=document["created"],
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NotARun(
                f"{where} is damaged ({type(error).__name__}: {error}). Restore it from a copy."
            ) from error


def _group_to_plain(group: InvariantGroup) -> dict[str, Any]:
    plain = {
        "name": group.name,
        "kind": group.kind,
        "numel": group.numel,
        "defect": group.defect if group.proven else None,
        "slices": pack_cells((s,) for s in group.slices),
    }
    if group.cells != (group.slices,):  # a group that is one cell need not say so
        plain["cells"] = pack_cells(group.cells)
    if not math.isnan(group.defect_error):
        plain["defect_error"] = group.defect_error
    if group.powers:
        plain["powers"] = list(group.powers)
    return plain


def _group_from_plain(plain: dict[str, Any]) -> InvariantGroup:
    slices = tuple(s for (s,) in unpack_cells(plain["slices"]))
    return InvariantGroup(
        name=plain["name"],
        kind=plain["kind"],
        slices=slices,
        cells=unpack_cells(plain["cells"]) if "cells" in plain else (slices,),
        numel=plain["numel"],
        defect=math.nan if plain["defect"] is None else plain["defect"],
        defect_error=plain.get("defect_error", math.nan),
        powers=tuple(plain.get("powers", ())),
    )


def _frozen(key: str, value: Any) -> Any:
    """`value` if it is a plain scalar or a sequence of them (as a tuple)."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(key, item) for item in value)
    raise InvalidArgument(
        f"RunInfo(param_groups=...) expects plain scalars, got {type(value).__name__} for {key!r}. "
        "Convert it with float(...) or leave it out."
    )


def _to_plain(value: Any) -> Any:
    """JSON knows neither tuples nor non-finite numbers: lists, and `{"float": "inf"}`."""
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _from_plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_plain(item) for item in value)
    if isinstance(value, dict):
        return float(value["float"])
    return value
