"""Handing out the rows of a parameter to groups, each row once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from spherical_motion.binding.pieces import Rows
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup, Slice

__all__ = ["Cut"]


class Cut:
    """A parameter whose rows are being given to groups; -1 marks a row without one."""

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
        """Which of so many groups has which row."""
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
