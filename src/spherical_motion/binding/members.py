"""The tensors behind invariant groups: from names and slices to what a step can multiply.

A parameter is cut along one axis, and every index of that axis (a *row*) belongs to one group or
to none. Sums over groups are therefore sums over rows, gathered by the number of the row's group:
a few operations a tensor, whether a tensor holds one group or a thousand.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spherical_motion.binding.arguments import as_groups, check_max_defect
from spherical_motion.binding.disjoint import overlaps
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup, Slice, bare_names

__all__ = ["MAX_DEFECT", "Members", "Piece", "Rows", "bind", "fitting_parameter"]

MAX_DEFECT = 0.1
"""Largest defect of a group that is still taken for invariant."""

PIECE = 65_536
"""Entries that are widened to float64 at a time: half a megabyte, which a core's cache holds."""

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
_Stepped = dict[int, list[tuple[torch.optim.Optimizer, int]]]


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
    def param_group(self) -> dict[str, Any] | None:
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


class Members:
    """The members of invariant groups as tensors. Made by `bind`.

    Sums are float64 whatever the weights are: a running float32 sum of squares over a layer of two
    million entries is off by parts in a thousand. Nothing here waits for the device.

    Attributes:
        groups: the groups, in the order in which every (groups,) tensor holds them.
        pieces: for each group its slices as `Piece`s.
        rows: for each parameter that a group touches, once, which rows belong to whom.

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
        """Where (groups,) tensors live: the device of the first parameter."""
        return self.rows[0].parameter.device

    def __len__(self) -> int:
        return len(self.groups)

    def owner(self, i: int) -> dict[str, Any]:
        """The optimizer's own param group that steps group `i` (its first member).

        Raises:
            InvalidArgument: the members were bound without an optimizer.
        """
        param_group = self.pieces[i][0].param_group
        if param_group is None:
            raise InvalidArgument(
                f"Members.owner({i}): group {self.names[i]!r} was bound without an optimizer. "
                "Pass the optimizer to bind(...)."
            )
        return param_group

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


def bind(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    optimizers: Optimizers | None = None,
    where: str = "bind",
    *,
    max_defect: float | None = MAX_DEFECT,
    mixed: bool = False,
) -> Members:
    """Find the tensors of `groups` in `model`, and who steps them.

    Args:
        model: the model whose parameters the groups name; a compiled or wrapped one will do.
        groups: groups of kind "scale", or an `Inspection` that holds them. Of those that
            share entries only the largest is taken (see `disjoint_groups`), which is printed.
        optimizers: who steps them, one or several. Left out, nothing is said about settings.
        where: the caller's name, for messages.
        max_defect: largest defect allowed; None takes groups as they are, unproven ones too.
        mixed: whether a group may be stepped with more than one lr or weight decay.

    Raises:
        InvalidArgument: no groups, one that is not invariant or not proven, a name or slice the
            model does not have, one tensor under two names, a parameter no optimizer steps (or
            several do), members of one group stepped with different settings.
    """
    groups = as_groups(groups, where)
    check_max_defect(where, max_defect)
    for group in groups:
        _check_invariant(group, where, max_defect)
    stepped = _stepped(optimizers, where)
    groups = _told_disjoint(groups, where)
    named = dict(model.named_parameters(remove_duplicate=False))
    full = bare_names(named)
    parameters = {**named, **{bare: named[name] for bare, name in full.items()}}
    cuts: dict[int, _Cut] = {}
    pieces: list[list[Piece]] = []
    for number, group in enumerate(groups):
        own: list[Piece] = []
        for s in group.slices:
            parameter = fitting_parameter(group, s, parameters, where)
            name = full.get(s.parameter, s.parameter)
            if id(parameter) not in cuts:
                cuts[id(parameter)] = _Cut(parameter, name, s, where)
            cuts[id(parameter)].take(number, groups, s, where)
            owner = None if stepped is None else _owner(stepped, parameter, name, group, where)
            own.append(Piece(parameter, s, owner, name))
        if not mixed:
            _check_one_setting(group, own, where)
        pieces.append(own)
    return Members(groups, pieces, [cut.rows(len(groups)) for cut in cuts.values()])


def fitting_parameter(
    group: InvariantGroup, piece: Slice, parameters: Mapping[str, nn.Parameter], where: str
) -> nn.Parameter:
    """The parameter that `piece` is a part of.

    Raises:
        InvalidArgument: there is none of that name, or the slice lies outside it.
    """
    if piece.parameter not in parameters:
        near = difflib.get_close_matches(piece.parameter, parameters, n=3)
        raise InvalidArgument(
            f"{where}: group {group.name!r} names the parameter {piece.parameter!r}, which "
            f"this model does not have. Closest: {', '.join(near) or 'none'}. Were the "
            "groups found on another model?"
        )
    parameter = parameters[piece.parameter]
    shape = tuple(parameter.shape) or (1,)
    if piece.axis >= len(shape) or piece.stop > shape[piece.axis]:
        raise InvalidArgument(
            f"{where}: group {group.name!r} holds {piece}, which does not fit a parameter of shape "
            f"{shape}. Were the groups found on another model?"
        )
    return parameter


def _row_products(a: Tensor, b: Tensor, axis: int | None) -> Tensor:
    """<a, b> for each index of `axis`, float64; axis None: of equal shares of all, in any order.

    On the CPU in pieces that stay in the cache while they are widened to float64.
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


class _Cut:
    """A parameter while it is being handed out, row by row."""

    def __init__(self, parameter: nn.Parameter, name: str, first: Slice, where: str) -> None:
        if not parameter.is_floating_point():
            raise InvalidArgument(
                f"{where}: parameter {name!r} must be real floating point, got {parameter.dtype}. "
                "Leave its group out; the theory is about real weights."
            )
        self.parameter, self.name, self.axis = parameter, name, first.axis
        self.shape = tuple(parameter.shape) or (1,)
        self.owner = np.full(self.shape[first.axis], -1, dtype=np.int64)

    def take(self, number: int, groups: Sequence[InvariantGroup], s: Slice, where: str) -> None:
        group = groups[number]
        # Slices along two axes of one tensor always cross.
        taken = self.owner[s.start : s.stop] if s.axis == self.axis else self.owner
        taken = taken[taken >= 0]
        if taken.size:
            other = groups[int(taken[0])].name
            raise InvalidArgument(
                f"{where}: groups {other!r} and {group.name!r} share entries of {self.name!r} "
                f"({s}) under different names; each entry can be steered once. Give a tied "
                "parameter under one name."
            )
        self.owner[s.start : s.stop] = number

    def rows(self, groups: int) -> Rows:
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


def _told_disjoint(groups: Sequence[InvariantGroup], where: str) -> Sequence[InvariantGroup]:
    left_out = overlaps(groups)
    if left_out:
        number, why = next(iter(left_out.items()))
        more = f" (and {len(left_out) - 1} more such)" if len(left_out) > 1 else ""
        print(
            f"spherical-motion: {where} leaves group {groups[number].name!r} to the ordinary "
            f"settings: it {why}, which is larger{more}",
            file=sys.stderr,
        )
    return [group for number, group in enumerate(groups) if number not in left_out]


def _check_invariant(group: InvariantGroup, where: str, max_defect: float | None) -> None:
    if group.kind != "scale":
        raise InvalidArgument(
            f"{where}: group {group.name!r} is of kind {group.kind!r}: its members are multiplied "
            "by different powers of one factor, so it has no radius to steer. Leave it out: "
            "[g for g in groups if g.kind == 'scale']."
        )
    if max_defect is None:
        return
    if not group.proven:
        raise InvalidArgument(
            f"{where}: nobody has proven that group {group.name!r} is scale-invariant (its defect "
            "is NaN). Take it from smd.find_groups(model, example_inputs), or pass defect=0.0 if "
            "you are sure."
        )
    if not group.defect <= max_defect:
        raise InvalidArgument(
            f"{where}: group {group.name!r} is not invariant enough: its defect |<w, g>|/(|w||g|) "
            f"must be <= {max_defect:g}, got {group.defect:.3g}. Leave it out, or lower the norm "
            "layer's eps or raise the weights' scale and find the groups again."
        )


def _stepped(optimizers: Optimizers | None, where: str) -> _Stepped | None:
    """Which param groups step a parameter, by its id."""
    if optimizers is None:
        return None
    found: _Stepped = {}
    several: Any = [optimizers] if isinstance(optimizers, torch.optim.Optimizer) else optimizers
    if isinstance(several, str) or not isinstance(several, Sequence):
        several = [several]
    for optimizer in several:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InvalidArgument(
                f"{where}: expected a torch.optim.Optimizer or a sequence of them, got "
                f"{optimizer!r}. A scheduler or wrapper holds it as `.optimizer`."
            )
    for optimizer in several:
        for number, param_group in enumerate(optimizer.param_groups):
            for parameter in param_group["params"]:
                found.setdefault(id(parameter), []).append((optimizer, number))
    return found


def _owner(
    stepped: _Stepped,
    parameter: nn.Parameter,
    name: str,
    group: InvariantGroup,
    where: str,
) -> tuple[torch.optim.Optimizer, int]:
    owners = stepped.get(id(parameter), [])
    if len(owners) != 1:
        by = "no optimizer given here" if not owners else f"{len(owners)} param groups"
        raise InvalidArgument(
            f"{where}: parameter {name!r} of group {group.name!r} is stepped by {by}; expected "
            "exactly one. Pass the optimizer that was made from this very model's parameters "
            "(after moving or wrapping it), or leave the group out."
        )
    return owners[0]


def _check_one_setting(group: InvariantGroup, own: Sequence[Piece], where: str) -> None:
    first = own[0].param_group
    for piece in own[1:]:
        other = piece.param_group
        if first is None or other is None or other is first:
            continue
        for key in ("lr", "weight_decay"):
            if first.get(key) != other.get(key):
                raise InvalidArgument(
                    f"{where}: the members of group {group.name!r} are stepped with different "
                    f"{key}: {own[0].name!r} with {first.get(key)}, {piece.name!r} with "
                    f"{other.get(key)}. A group moves as one: put them into one param group."
                )
