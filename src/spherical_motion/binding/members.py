"""The members of invariant groups as tensors that a step can sum over and multiply.

Sums over groups are sums over rows, gathered by the number of the row's group: a few operations a
tensor, whether a tensor holds one group or a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spherical_motion.binding.pieces import ParamGroup, Piece, Rows
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup

PIECE = 65_536
"""Entries widened to float64 at a time: half a megabyte, which fits in the cache of a core."""


class Members:
    """The members of invariant groups, made by `bind`.

    Sums are float64 whatever the weights are: a running float32 sum of squares over a layer of two
    million entries is off by parts in a thousand. No method waits for the device.

    Attributes:
        groups: the groups, in the order in which every (groups,) tensor holds them.
        pieces: for each group its slices as `Piece`s.
        rows: for each parameter that a group touches, once, the group of each row.

    >>> from spherical_motion.binding import bind
    >>> from spherical_motion.vocabulary import Slice
    >>> norm = nn.Sequential(nn.Linear(2, 2, bias=False), nn.LayerNorm(2))
    >>> part = Slice("0.weight", 0, 0, 2)
    >>> members = bind(norm, [InvariantGroup("0", "scale", (part,), (), 4, defect=0.0)])
    >>> _ = nn.init.constant_(norm[0].weight, 2.0)
    >>> members.norms()
    tensor([4.], dtype=torch.float64)
    >>> members.scale_(torch.tensor([0.25]))
    >>> norm[0].weight.tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    def __init__(
        self,
        groups: Sequence[InvariantGroup],
        pieces: Sequence[Sequence[Piece]],
        rows: Sequence[Rows],
    ) -> None:
        self.groups = tuple(groups)
        self.pieces = tuple(tuple(own) for own in pieces)
        self.rows = tuple(rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups."""
        return tuple(group.name for group in self.groups)

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Every parameter that a group touches, once."""
        return tuple(rows.parameter for rows in self.rows)

    @property
    def device(self) -> torch.device:
        """The device of the first parameter, which holds every (groups,) tensor."""
        return self.rows[0].parameter.device

    def __len__(self) -> int:
        return len(self.groups)

    def owner(self, i: int) -> ParamGroup:
        """The optimizer's own param group that steps group `i` (its first member).

        Raises:
            InvalidArgument: the members were bound without an optimizer.
        """
        optimizer, number = _stepper(self.pieces[i][0])
        return optimizer.param_groups[number]

    def param_group_numbers(self) -> list[int]:
        """For each of `parameters` the number of the param group that steps it.

        Raises:
            InvalidArgument: the members were bound without an optimizer.
        """
        numbers = {id(p.parameter): _stepper(p)[1] for own in self.pieces for p in own}
        return [numbers[id(parameter)] for parameter in self.parameters]

    def norms(self) -> Tensor:
        """Norm of each group, shape (groups,), float64."""
        weights = [p.detach() for p in self.parameters]
        return self.sums(weights, weights).sqrt_()

    def sums(self, a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> Tensor:
        """Inner product <a, b> over each group, shape (groups,), float64.

        Args:
            a, b: one tensor for each of `parameters`, shaped like it. None counts as zeros.
        """
        total = torch.zeros(len(self.groups) + 1, dtype=torch.float64, device=self.device)
        for rows, left, right in zip(self.rows, a, b, strict=True):
            if left is None or right is None:
                continue
            axis = None if rows.whole is not None else rows.axis
            by_row = _row_products(left.detach(), right.detach(), axis).to(total.device)
            if rows.whole is not None:
                total[rows.whole] += by_row.sum()
            else:
                total.index_add_(0, rows.index.to(total.device), by_row)
        return total[:-1]

    def spread(self, values: Tensor, i: int, fill: float) -> Tensor:
        """`values` (groups,) as a factor that broadcasts against parameter `i`.

        Rows that belong to no group get `fill`. A parameter that one group owns gets a 0-d tensor.
        """
        rows = self.rows[i]
        values = values.to(rows.parameter.device)
        if rows.whole is not None:
            return values[rows.whole]
        padded = torch.cat([values, values.new_full((1,), fill)])
        shape = [1] * max(1, rows.parameter.ndim)
        shape[rows.axis] = -1
        spread = padded[rows.index].reshape(shape)
        return spread.reshape(()) if rows.parameter.ndim == 0 else spread

    @torch.no_grad()
    def scale_(self, factors: Tensor) -> None:
        """Multiply group i by `factors[i]`, shape (groups,), in place."""
        for i, parameter in enumerate(self.parameters):
            parameter.mul_(self.spread(factors, i, fill=1.0).to(parameter.dtype))


def _stepper(piece: Piece) -> tuple[torch.optim.Optimizer, int]:
    if piece.stepped_by is None:
        raise InvalidArgument(
            f"Members: parameter {piece.name!r} was bound without an optimizer. Pass the optimizer "
            "to bind(...)."
        )
    return piece.stepped_by


def _row_products(a: Tensor, b: Tensor, axis: int | None) -> Tensor:
    """<a, b> for each index of `axis`, float64; without an axis, for each of equal pieces of all.

    The CPU widens pieces that stay in its cache.
    """
    if axis is None:
        a, b = a.reshape(1, -1), b.reshape(1, -1)
        if a.shape[1] > PIECE and a.is_cpu:
            pairs = zip(a[0].split(PIECE), b[0].split(PIECE), strict=True)
            return torch.stack([torch.dot(x.double(), y.double()) for x, y in pairs])
    else:
        a, b = (torch.atleast_1d(t).movedim(axis, 0) for t in (a, b))
        a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    rows = max(1, PIECE // max(1, a.shape[1])) if a.is_cpu else max(1, len(a))
    pairs = zip(a.split(rows), b.split(rows), strict=True)
    return torch.cat([(x.double() * y.double()).sum(dim=1) for x, y in pairs])
