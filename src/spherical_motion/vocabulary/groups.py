"""Slices of parameters, and groups of slices that share one symmetry."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable
from typing import Literal, TypeAlias

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Slice:
    """The entries `start:stop` of a named parameter along one axis.

    A filter of a convolution lies on axis 0, one of a transposed convolution on axis 1.

    >>> Slice("layer1.conv.weight", axis=0, start=0, stop=64).length
    64
    """

    parameter: str
    axis: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        for name, value in (("axis", self.axis), ("start", self.start), ("stop", self.stop)):
            if type(value) is not int:  # of a million slices nearly all are
                checks.whole("Slice", name, value)
        if self.axis < 0 or not 0 <= self.start < self.stop:
            raise InvalidArgument(
                f"Slice of {self.parameter!r} expects axis >= 0 and 0 <= start < stop, "
                f"got axis={self.axis}, start={self.start}, stop={self.stop}."
            )

    @property
    def length(self) -> int:
        """Number of indices along `axis`."""
        return self.stop - self.start

    def overlaps(self, other: Slice) -> bool:
        """Whether the two share entries: same parameter and axis, ranges that meet."""
        same = self.parameter == other.parameter and self.axis == other.axis
        return same and self.start < other.stop and other.start < self.stop

    def __str__(self) -> str:
        lead = ":, " * self.axis
        return f"{self.parameter}[{lead}{self.start}:{self.stop}]"


Cell: TypeAlias = tuple[Slice, ...]
"""The slices of the smallest certified invariant: a filter, or a head's rows with its bias."""


@dataclasses.dataclass(frozen=True, slots=True)
class InvariantGroup:
    """Slices whose motion is measured together, most often because of a symmetry they share.

    Data only; `invariance.find_groups` makes the certified ones, `all_groups` the others.
    `kind="scale"`: the network's output stays the same when all members are multiplied by one
    number; the theory covers this symmetry. `kind="rescale"`: when they are multiplied by
    different powers of one number (a norm's gain against the next linear layer); no prediction
    follows. `kind="plain"`: no symmetry is claimed; the balance law holds for such weights too.

    Attributes:
        name: unique within a model; the module's or parameter's name.
        kind: "scale", "rescale" or "plain".
        slices: the disjoint slices that make up the group.
        cells: the smallest certified invariants inside it, each a tuple of slices; empty in a
            "plain" group.
        numel: number of entries in all slices.
        defect: |<w, g>| / (|w||g|) at the real weights and the real norm-layer epsilon, a pure
            number; 0 is exact. NaN: the group was written by hand and is not proven.
        defect_error: standard error of `defect`, estimated from a few random gradients; NaN
            where it is not known.
        powers: for each slice the power of the common factor that it is multiplied by; empty in
            a "scale" group, where all are 1. A cell's slices have the powers of the slices that
            contain them.

    >>> gain, weight = Slice("norm.weight", 0, 0, 8), Slice("fc.weight", 1, 0, 8)
    >>> InvariantGroup("norm / fc", "rescale", (gain, weight), (), 40, powers=(1, -1)).powers
    (1, -1)
    """

    name: str
    kind: Literal["scale", "rescale", "plain"]
    slices: tuple[Slice, ...]
    cells: tuple[Cell, ...]
    numel: int
    defect: float = math.nan
    defect_error: float = math.nan
    powers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("scale", "rescale", "plain"):
            raise InvalidArgument(
                f"InvariantGroup {self.name!r}: kind must be 'scale', 'rescale' or 'plain', "
                f"got {self.kind!r}."
            )
        checks.whole("InvariantGroup", "numel", self.numel)
        for name, value in (("defect", self.defect), ("defect_error", self.defect_error)):
            if not isinstance(value, float) or math.isinf(value):
                checks.number("InvariantGroup", name, value)
        if not isinstance(self.powers, tuple):
            raise InvalidArgument(
                f"InvariantGroup {self.name!r}: powers must be a tuple, got {self.powers!r}."
            )
        if not self.slices:
            raise InvalidArgument(f"InvariantGroup {self.name!r} expects at least one slice.")
        if self.powers and (self.kind != "rescale" or len(self.powers) != len(self.slices)):
            raise InvalidArgument(
                f"InvariantGroup {self.name!r}: powers must be one for each slice if "
                f"kind='rescale', else empty, got kind={self.kind!r}, {len(self.powers)} powers "
                f"and {len(self.slices)} slices."
            )
        for a, b in itertools.pairwise(sorted(self.slices)):
            if a.overlaps(b):
                raise InvalidArgument(
                    f"InvariantGroup {self.name!r}: slices {a} and {b} overlap, so their inner "
                    "products would be counted twice. Make them disjoint."
                )

    @property
    def proven(self) -> bool:
        """Whether the group was certified, that is, its defect was measured."""
        return not math.isnan(self.defect)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of its parameters, in order, without repetition."""
        return tuple(dict.fromkeys(s.parameter for s in self.slices))


def bare_names(names: Iterable[str]) -> dict[str, str]:
    """Full names by bare name, without the prefixes of `torch.compile`, DDP and DataParallel.

    If two names would become one, a child is called `module`, and no name changes.

    >>> bare_names(["module.0.weight", "module.0.bias"])
    {'0.weight': 'module.0.weight', '0.bias': 'module.0.bias'}
    >>> bare_names(["module.0.weight", "0.weight"])
    {'module.0.weight': 'module.0.weight', '0.weight': '0.weight'}
    """
    full = list(names)
    bare = [strip_wrappers(name) for name in full]
    if len(set(bare)) < len(set(full)):
        bare = full
    return dict(zip(bare, full, strict=True))


def strip_wrappers(name: str) -> str:
    """A parameter's name without the prefixes that `torch.compile` and DDP add.

    >>> strip_wrappers("module._orig_mod.layer1.conv.weight")
    'layer1.conv.weight'
    """
    parts = [part for part in name.split(".") if part != "_orig_mod"]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def module_of(parameter: str) -> str:
    """The module that a parameter belongs to.

    >>> module_of("layer1.conv.weight")
    'layer1.conv'
    """
    return parameter.rpartition(".")[0]
