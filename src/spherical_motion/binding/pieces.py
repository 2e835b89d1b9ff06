"""The parts of parameters that groups own: slices, and the rows of a parameter that is cut.

A parameter is cut along one axis, and every index of that axis (a *row*) belongs to one group or
to none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup, Slice

ParamGroup: TypeAlias = dict[str, Any]
"""Settings and parameters that an optimizer steps alike, as torch types them."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One slice of a group, with the parameter it cuts and the settings it is stepped by.

    Attributes:
        parameter: the whole parameter, of which the group may own a part.
        slice: which part.
        stepped_by: the optimizer and the number of its param group; None if bound without one.
        name: full name of the parameter in the model.
    """

    parameter: nn.Parameter
    slice: Slice
    stepped_by: tuple[torch.optim.Optimizer, int] | None
    name: str

    @property
    def numel(self) -> int:
        """How many entries it holds."""
        shape = tuple(self.parameter.shape) or (1,)
        return self.parameter.numel() // shape[self.slice.axis] * self.slice.length

    @property
    def param_group(self) -> ParamGroup | None:
        """The optimizer's own dict, which schedulers write to.

        Looked up each time, because `load_state_dict` replaces the dicts.
        """
        if self.stepped_by is None:
            return None
        optimizer, number = self.stepped_by
        return optimizer.param_groups[number]

    def of(self, tensor: Tensor) -> Tensor:
        """The matching view of `tensor`, which is shaped like the parameter.

        >>> weight = nn.Parameter(torch.zeros(3, 2))
        >>> piece = Piece(weight, Slice("weight", 0, 1, 3), None, "weight")
        >>> piece.of(torch.arange(6).reshape(3, 2)).tolist()
        [[2, 3], [4, 5]]
        """
        return torch.atleast_1d(tensor).narrow(self.slice.axis, self.slice.start, self.slice.length)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The group of each row of one parameter.

    Attributes:
        parameter: the parameter.
        name: its full name in the model.
        axis: the axis along which it is cut.
        index: (rows,), int64, on the parameter's device: number of each row's group, and the
            number of groups where a row belongs to none.
        whole: the number of the group that owns all of it, None if it is shared.
        free: (start, stop) of each run of rows that belong to no group.
    """

    parameter: nn.Parameter
    name: str
    axis: int
    index: Tensor
    whole: int | None
    free: tuple[tuple[int, int], ...]

    def free_views(self, tensor: Tensor) -> list[Tensor]:
        """Views of the rows of `tensor` that belong to no group."""
        tensor = torch.atleast_1d(tensor)
        return [tensor.narrow(self.axis, start, stop - start) for start, stop in self.free]


class Cut:
    """A parameter whose rows are given to groups one by one; -1 marks a row without a group."""

    def __init__(self, parameter: nn.Parameter, name: str, first: Slice, where: str) -> None:
        if not parameter.is_floating_point():
            raise InvalidArgument(
                f"{where}: parameter {name!r} must be real floating point, got {parameter.dtype}. "
                "Leave its group out; the theory is about real weights."
            )
        self.parameter, self.name, self.axis = parameter, name, first.axis
        shape = tuple(parameter.shape) or (1,)
        self.owner = np.full(shape[first.axis], -1, dtype=np.int64)

    def assign(self, s: Slice, number: int, groups: Sequence[InvariantGroup], where: str) -> None:
        """Give the rows of `s` to `groups[number]`; raise if another group has one of them."""
        # Slices along two axes of one tensor always cross.
        taken = self.owner[s.start : s.stop] if s.axis == self.axis else self.owner
        taken = taken[taken >= 0]
        if taken.size:
            other = groups[int(taken[0])].name
            raise InvalidArgument(
                f"{where}: groups {other!r} and {groups[number].name!r} share entries of "
                f"{self.name!r} ({s}) under different names; each entry can be steered once. "
                "Give a tied parameter under one name."
            )
        self.owner[s.start : s.stop] = number

    def rows(self, groups: int) -> Rows:
        """The finished `Rows`, with `groups` as the number of groups."""
        outside = self.owner < 0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], outside.astype(np.int8), [0]])))
        alone = self.owner[0] >= 0 and bool((self.owner == self.owner[0]).all())
        return Rows(
            self.parameter,
            self.name,
            self.axis,
            torch.from_numpy(np.where(outside, groups, self.owner)).to(self.parameter.device),
            int(self.owner[0]) if alone else None,
            tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2)),
        )
