"""How the state of an optimizer scales when its weights are rescaled.

If the weights of an invariant group are multiplied by c, its gradients are multiplied by 1/c
(homogeneous of degree -1; wan2021, lemma 1), running sums of gradients by 1/c, and running sums of
their squares by 1/c². With the old state, the first steps after a rescaling would be wrong: Adam,
which divides by the root of its second moment, would step 1/c times too far or too short.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch

from spherical_motion.binding import Members, Piece
from spherical_motion.errors import NoTheory

_ADAM = {"exp_avg": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2}

STATE_POWERS: Mapping[str, Mapping[str, int]] = {
    "SGD": {"momentum_buffer": -1},
    "Muon": {"momentum_buffer": -1},
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "NAdam": _ADAM,
    "RAdam": _ADAM,
    "Adamax": {"exp_avg": -1, "exp_inf": -1},
    "Adagrad": {"sum": -2},
    # RMSprop's buffer sums g/√v, and acc_delta the squares of such steps: neither has a scale.
    "RMSprop": {"square_avg": -2, "grad_avg": -1, "momentum_buffer": 0},
    "Adadelta": {"square_avg": -2, "acc_delta": 0},
    "ASGD": {"ax": 1},
    "Rprop": {"prev": -1, "step_size": 0},
    # One package names it exp_avg, another state1. The 8-bit variant of the latter keeps integers
    # for all but small tensors.
    "Lion": {"exp_avg": -1, "state1": -1},
    "Lion32bit": {"state1": -1},
    "Lion8bit": {"state1": -1},
    "SingleDeviceMuon": {"momentum_buffer": -1},
}
"""Class name → name of a state tensor → the power of c by which it is multiplied."""

_POWERS = (
    "-1 for a running sum of gradients, -2 for one of their squares, 0 for what is free of scale"
)


def state_powers(
    optimizer: torch.optim.Optimizer, powers: Mapping[str, int] | None = None
) -> Mapping[str, int]:
    """The powers that apply to an optimizer's state, by the name of the state tensor.

    Args:
        optimizer: looked up in `STATE_POWERS` by the names of its class and its base classes.
        powers: added to the row of its class; needed for an optimizer that is not listed.

    Raises:
        NoTheory: the class is not known and `powers` is not given.

    >>> state_powers(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    {'momentum_buffer': -1}
    """
    classes = [c.__name__ for c in type(optimizer).__mro__]
    known = next((STATE_POWERS[name] for name in classes if name in STATE_POWERS), None)
    if known is None and powers is None:
        raise NoTheory(
            f"state_powers: how the state of {type(optimizer).__name__} scales with its weights is "
            f"not known here (known: {', '.join(STATE_POWERS)}). Pass powers={{name: power}}: "
            f"{_POWERS}; {{}} if no state has the parameters' shape."
        )
    return {**(known or {}), **(powers or {})}


@torch.no_grad()
def scale_state_(
    optimizer: torch.optim.Optimizer,
    pieces: Iterable[Piece],
    factor: float | torch.Tensor,
    powers: Mapping[str, int] | None = None,
) -> None:
    """Rescale an optimizer's state as if the weights had always been `factor` times as long.

    Only the entries that belong to `pieces` change. State that does not exist yet (before the
    first step) needs nothing.

    Args:
        optimizer: the one that steps the pieces.
        pieces: the parts of parameters that were rescaled.
        factor: the factor of the weights, > 0; a number or a 0-dim tensor.
        powers: see `state_powers`.

    Raises:
        NoTheory: state of a parameter's shape whose power is not known; nothing was changed.

    >>> w = torch.nn.Parameter(torch.ones(2, 3))
    >>> optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> w.grad = torch.ones(2, 3)
    >>> optimizer.step()
    >>> from spherical_motion.vocabulary import Slice
    >>> piece = Piece(w, Slice("w", 0, 0, 1), (optimizer, 0), "w")
    >>> scale_state_(optimizer, [piece], 2.0)
    >>> optimizer.state[w]["momentum_buffer"][:, 0]
    tensor([0.5000, 1.0000])
    """
    state_powers(optimizer, powers)
    found = [
        (piece.of(value), power)
        for piece in pieces
        for value, power in state_entries(optimizer, piece.parameter, piece.name, powers)
    ]
    for view, power in found:
        if power:
            view.mul_(factor**power)


def state_entries(
    optimizer: torch.optim.Optimizer,
    parameter: torch.Tensor,
    name: str,
    powers: Mapping[str, int] | None = None,
) -> list[tuple[torch.Tensor, int]]:
    """The state tensors of a parameter's shape, each with the power of c by which it scales.

    Raises NoTheory for a tensor whose power is not known or that is kept in integers, but not for
    an unknown optimizer without state. `name` is the parameter's, for messages.
    """
    found: list[tuple[torch.Tensor, int]] = []
    for key, value in optimizer.state.get(parameter, {}).items():
        if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
            continue
        # Counters and flags have no scale, even those of a 0-d parameter's shape.
        if key == "step" or value.dtype == torch.bool:
            continue
        known = state_powers(optimizer, powers)
        if key not in known:
            raise NoTheory(
                f"scale_state_: {type(optimizer).__name__} keeps {key!r} for {name!r}, "
                f"and how it scales with the weights is not known (known: {dict(known)}). Pass "
                f"powers={{{key!r}: power}}: {_POWERS}."
            )
        if known[key] and not value.is_floating_point():
            raise NoTheory(
                f"scale_state_: {type(optimizer).__name__} keeps {key!r} for {name!r} as "
                f"{value.dtype}, quantized, and it cannot be multiplied by a factor. Use the "
                "variant that keeps its state in 32 bits."
            )
        found.append((value, known[key]))
    return found


def merged_pieces(members: Members, groups: Iterable[int]) -> list[Piece]:
    """The pieces of the groups with these numbers; neighbours, such as filters, are joined."""
    place = {id(parameter): i for i, parameter in enumerate(members.parameters)}
    pieces = [piece for i in groups for piece in members.pieces[i]]
    merged: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (place[id(p.parameter)], p.slice.start)):
        last = merged.pop() if merged else piece
        if last.parameter is piece.parameter and last.slice.stop == piece.slice.start:
            joined = dataclasses.replace(last.slice, stop=piece.slice.stop)
            merged.append(dataclasses.replace(last, slice=joined))
        else:
            merged += [last, piece] if last is not piece else [piece]
    return merged
