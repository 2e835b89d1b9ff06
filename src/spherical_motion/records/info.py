"""The facts of a run, which `run.json` holds."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument, NotARun
from spherical_motion.records import packing
from spherical_motion.records.files.events import Event
from spherical_motion.records.schema import SCHEMA_VERSION
from spherical_motion.records.validation import check_document, parse_document
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Schedule, Slice
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS
from spherical_motion.vocabulary.hyperparameters import ParamGroup

PLAIN = ("created", "command", "commit", "versions", "every", "burst")
"""Facts of a run that `run.json` holds as they are."""


NormLayer = tuple[str, float | None]
"""A norm layer's name in the model, and its ε."""


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
            plain scalars under the optimizer's names, "class" (the class to whose rule it is held),
            "subclass" (its own class, if that is another) and "optimizer" (its index).
        slice_param_group: per slice, the index of its param group in `param_groups`.
        slices: the union over `groups` in order; follows from them when left out.
        every, burst: `burst` consecutive steps out of every `every` are measured.
        products: how many of `PRODUCTS` the rows hold, 6 to 8.
        regrouped: `slice_param_group` of each later resume that divided the slices into other
            param groups, which follow those of the start in `param_groups`; nearly always empty.
        plan: the schedule that was planned, as `packing.pack_plan` gives it; None if none was.
        dtypes: name of a measured parameter → dtype of its weights, such as "float32"; empty in
            runs that did not record it.
        norms: name of a measured parameter → (name, ε) of each norm layer that it feeds, None for
            an ε that the layer does not name; empty in runs that did not record it.
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
    products: int = len(FIELDS)
    regrouped: tuple[tuple[int, ...], ...] = ()
    plan: Mapping[str, Any] | None = None
    dtypes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    norms: Mapping[str, tuple[NormLayer, ...]] = dataclasses.field(default_factory=dict)
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
            "regrouped": tuple(tuple(int(i) for i in later) for later in self.regrouped),
            "slices": tuple(self.slices) or union,
            "dtypes": MappingProxyType(dict(self.dtypes)),
            "norms": MappingProxyType(
                {name: tuple((n, eps) for n, eps in fed) for name, fed in self.norms.items()}
            ),
            "versions": MappingProxyType(dict(self.versions)),
        }.items():
            object.__setattr__(self, name, value)
        self._check(union)

    def _check(self, union: tuple[Slice, ...]) -> None:
        names = [group.name for group in self.groups]
        if not names or len(set(names)) != len(names):
            counts = collections.Counter(names)
            twice = sorted(n for n, count in counts.items() if count > 1)[:5] or "none"
            raise InvalidArgument(
                f"RunInfo(groups=...) must have at least one group and distinct names, got {twice}."
            )
        if self.slices != union:
            raise InvalidArgument(
                f"RunInfo(slices=...) must be the {len(union)} slices of the groups in order, got "
                f"{len(self.slices)} that differ. Leave it out: it follows from the groups."
            )
        for name, indices in (
            ("slice_param_group", self.slice_param_group),
            *(("regrouped", later) for later in self.regrouped),
        ):
            known = range(len(self.param_groups))
            if len(indices) != len(union) or not set(indices) <= {*known}:
                raise InvalidArgument(
                    f"RunInfo({name}=...) must have an index below {len(known)} for each of "
                    f"{len(union)} slices, got {len(indices)} values, "
                    f"largest {max(indices, default=None)}."
                )
        for group in self.param_groups:
            if "class" not in group or "lr" not in group:
                raise InvalidArgument(
                    "RunInfo(param_groups=...) must have 'class' and 'lr' in each, got the keys "
                    f"{', '.join(group)}."
                )
        checks.whole("RunInfo", "every", self.every, least=1)
        checks.whole("RunInfo", "burst", self.burst, least=1)
        checks.whole("RunInfo", "products", self.products, least=len(FIELDS), most=len(PRODUCTS))

    def hyperparameters(self, slice_index: int) -> HyperParameters:
        """Settings of the optimizer for this slice when recording began."""
        group = self.param_groups[self.slice_param_group[slice_index]]
        return HyperParameters.from_param_group(group["class"], group)

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the measured parameters in order: the meaning of an audit's `parameter`."""
        return tuple(dict.fromkeys(s.parameter for s in self.slices))

    @functools.cached_property
    def planned(self) -> Schedule | None:
        """The schedule that was planned for the run, if one was given.

        Raises:
            NotARun: `run.json` holds a plan that is no schedule.
        """
        try:
            return None if self.plan is None else packing.unpack_plan(self.plan)
        except (ValueError, TypeError, KeyError) as error:
            raise NotARun(
                f"run.json is damaged (its plan is no schedule: {error}). Restore it from a copy."
            ) from error

    def dtype_of(self, index: int) -> str | None:
        """dtype of the weights of group number `index`; None if several or not recorded."""
        found = {self.dtypes.get(name) for name in self.groups[index].parameters}
        return found.pop() if len(found) == 1 else None

    def own_param_groups(self, optimizer: int) -> tuple[int, ...]:
        """Indices in `param_groups` of an optimizer's param groups, in its order."""
        groups = enumerate(self.param_groups)
        return tuple(i for i, group in groups if group.get("optimizer", 0) == optimizer)

    def param_group_of(self, event: Event) -> int | None:
        """Index in `param_groups` of the param group of the optimizer that an event names."""
        own = self.own_param_groups(event.get("optimizer", 0))
        local = event.get("param_group")
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
            "products": self.products,
            **({"regrouped": [list(later) for later in self.regrouped]} if self.regrouped else {}),
            **({"plan": dict(self.plan)} if self.plan is not None else {}),
            **({"dtypes": dict(self.dtypes)} if self.dtypes else {}),
            **({"norms": dict(self.norms)} if self.norms else {}),
            "groups": [packing.pack_group(group) for group in self.groups],
        }
        return json.dumps(document, allow_nan=False, ensure_ascii=False, default=dict) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "run.json") -> RunInfo:
        """Read the text of a `run.json`; errors name `where`.

        Raises:
            NotARun: the text does not describe a run, or its version is newer.
        """
        document = _document(text, where)
        try:
            check_document(document)
            return cls(
                groups=tuple(packing.unpack_group(group) for group in document["groups"]),
                param_groups=tuple(
                    {key: packing.unpack_setting(value) for key, value in group.items()}
                    for group in document["param_groups"]
                ),
                slice_param_group=tuple(document["slice_param_group"]),
                slices=tuple(s for (s,) in packing.unpack_cells(document["slices"])),
                products=document.get("products", len(FIELDS)),
                regrouped=tuple(tuple(later) for later in document.get("regrouped", ())),
                plan=document.get("plan"),
                dtypes=document.get("dtypes", {}),
                norms=document.get("norms", {}),
                **{name: document[name] for name in PLAIN},
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise NotARun(
                f"{where} is damaged ({type(error).__name__}: {error}). Restore it from a copy."
            ) from error


def version_of(text: str, where: str = "run.json") -> int:
    """The schema version of the text of a `run.json`; errors name `where`.

    Raises:
        NotARun: the text does not describe a run, or its version is newer.
    """
    return _document(text, where)["schema_version"]


def _document(text: str, where: str) -> dict[str, Any]:
    try:
        document = parse_document(text)
    except ValueError as error:
        cut = isinstance(error, json.JSONDecodeError) and text[:1] in ("", "{")
        if cut:
            raise NotARun(f"{where} is damaged ({error}). Restore it from a copy.") from error
        raise NotARun(
            f"{where} is not the description of a run ({type(error).__name__}: {error}). "
            "Name a directory that spherical-motion wrote."
        ) from error
    version = document["schema_version"]
    if version > SCHEMA_VERSION:
        raise NotARun(
            f"{where} has schema version {version}; this library reads up to "
            f"{SCHEMA_VERSION}. Upgrade spherical-motion."
        )
    return document
