"""The parts of parameters that groups own: slices, and the rows of a parameter that is cut.

A parameter is cut along one axis, and every index of that axis (a *row*) belongs to one group or
to none.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from spherical_motion.vocabulary.groups import Slice

__all__ = ["ParamGroup", "Piece", "Rows"]

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
        """The optimizer's own dict as it is now: what a scheduler writes is seen here.

        Looked up anew, because `load_state_dict` puts new dicts in the place of the old ones.
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
    """To which group each row of one parameter belongs.

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
