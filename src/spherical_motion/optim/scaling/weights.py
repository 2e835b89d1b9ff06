"""Multiply weights, their pending gradients and their optimizer state, all or none.

A gradient at c·w is 1/c times as long as at w, and the state of an optimizer scales by powers of c
(`STATE_POWERS`). One of the three alone would make the next step too long or too short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from spherical_motion.binding import Members, Piece
from spherical_motion.errors import InvalidArgument
from spherical_motion.optim.scaling.state import state_entries


@torch.no_grad()
def scale_pieces_(
    optimizer: torch.optim.Optimizer,
    pieces: Iterable[Piece],
    factor: float | torch.Tensor,
    powers: Mapping[str, int] | None = None,
) -> None:
    """Multiply weights by `factor`, their pending gradients by its inverse, their state to fit.

    The factor is > 0, a number or a 0-dim tensor. For many small pieces see `merged_pieces`, for
    `powers` see `state_powers`.

    Raises:
        NoTheory: state whose power is not known; nothing was changed.
        InvalidArgument: a sparse gradient; nothing was changed.
    """
    pieces = list(pieces)
    found = _checked(optimizer, {id(p.parameter): (p.parameter, p.name) for p in pieces}, powers)
    for piece in pieces:
        for tensor, power in found[id(piece.parameter)]:
            if power:
                piece.of(tensor).mul_(factor**power)


@torch.no_grad()
def scale_members_(
    optimizer: torch.optim.Optimizer,
    members: Members,
    factors: torch.Tensor,
    powers: Mapping[str, int] | None = None,
) -> None:
    """As `scale_pieces_`, with a factor > 0 for each group, shape (groups,), kept in its dtype."""
    named = {id(rows.parameter): (rows.parameter, rows.name) for rows in members.rows}
    found = _checked(optimizer, named, powers)
    for i, parameter in enumerate(members.parameters):
        for tensor, power in found[id(parameter)]:
            if power:
                spread = members.spread(factors**power, i, fill=1.0)
                tensor.mul_(spread.to(device=tensor.device, dtype=tensor.dtype))


def _checked(
    optimizer: torch.optim.Optimizer,
    named: Mapping[int, tuple[torch.nn.Parameter, str]],
    powers: Mapping[str, int] | None,
) -> dict[int, list[tuple[torch.Tensor, int]]]:
    """By id of a parameter: the tensors of its shape, each with its power of the factor."""
    found: dict[int, list[tuple[torch.Tensor, int]]] = {}
    for key, (parameter, name) in named.items():
        found[key] = [(parameter, 1), *state_entries(optimizer, parameter, name, powers)]
        if (grad := parameter.grad) is None:
            continue
        if grad.layout != torch.strided:
            raise InvalidArgument(
                f"scale_pieces_: the gradient of {name!r} must be dense, got {grad.layout}. Build "
                "the embedding with sparse=False, or rescale after optimizer.zero_grad()."
            )
        found[key].append((grad, -1))
    return found
