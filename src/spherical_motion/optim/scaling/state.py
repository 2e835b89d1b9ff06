"""What an optimizer remembers, and how that scales when its weights are rescaled.

Multiply the weights of an invariant group by c and its gradients become 1/c times what they were
(homogeneous of degree -1; wan2021, lemma 1). An optimizer that had always seen the new weights
would therefore hold every running sum of gradients times 1/c and every running sum of their
squares times 1/c². With the state left as it was, the first steps after a rescaling are wrong:
Adam, which divides by the root of its second moment, would step 1/c times too far or too short.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch

from spherical_motion.binding import Members, Piece
from spherical_motion.errors import NoTheory
from spherical_motion.vocabulary import Slice

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
    # RMSprop's buffer sums g/√v and Adadelta's second one the squares of such steps: both are
    # free of scale already.
    "RMSprop": {"square_avg": -2, "grad_avg": -1, "momentum_buffer": 0},
    "Adadelta": {"square_avg": -2, "acc_delta": 0},
    "ASGD": {"ax": 1},
    "Rprop": {"prev": -1, "step_size": 0},
    # One package names it exp_avg, another state1, which its 8-bit variant keeps in integers for
    # all but small tensors.
    "Lion": {"exp_avg": -1, "state1": -1},
    "Lion32bit": {"state1": -1},
    "Lion8bit": {"state1": -1},
    "SingleDeviceMuon": {"momentum_buffer": -1},
}
"""Class name → name of a state tensor → the power of c by which it is multiplied."""


def state_powers(
    optimizer: torch.optim.Optimizer, powers: Mapping[str, int] | None = None
) -> Mapping[str, int]:
    """The powers that apply to an optimizer's state, by the name of the state tensor.

    Args:
        optimizer: looked up in `STATE_POWERS` by the names of its class and its base classes.
        powers: what to use instead, for an optimizer that is not listed; or to add to its row.

    Raises:
        NoTheory: the class is not known and `powers` is not given.

    >>> state_powers(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    {'momentum_buffer': -1}
    """
    known = [
        STATE_POWERS[c.__name__] for c in type(optimizer).__mro__ if c.__name__ in STATE_POWERS
    ]
    if not known and powers is None:
        raise NoTheory(
            f"state_powers: how the state of {type(optimizer).__name__} scales with its weights is "
            f"not known here (known: {', '.join(STATE_POWERS)}). Pass powers={{name: power}}: "
            "-1 for a running sum of gradients, -2 for one of their squares, 0 for what is free "
            "of scale; {} if it keeps nothing of the parameters' shape."
        )
    return {**(known[0] if known else {}), **(powers or {})}


@torch.no_grad()
def scale_state_(
    optimizer: torch.optim.Optimizer,
    pieces: Iterable[Piece],
    factor: float | torch.Tensor,
    powers: Mapping[str, int] | None = None,
) -> None:
    """Bring an optimizer's state to where it would be had its weights always been `factor` times.

    Only the entries that belong to `pieces` are touched, so the other rows of a tensor keep what
    they have. State that does not exist yet (before the first step) needs nothing.

    Args:
        optimizer: the one that steps the pieces.
        pieces: the parts of parameters that were rescaled.
        factor: what the weights were multiplied by, > 0; a number or a 0-dim tensor.
        powers: see `state_powers`.

    Raises:
        NoTheory: a state tensor of a parameter's shape whose power is not known; nothing was
            changed.

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
    pieces = list(pieces)
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
    """What an optimizer keeps for each entry of a parameter, and the power of c it scales by.

    An optimizer of which nothing is known is no obstacle before it keeps anything.

    Args:
        optimizer: whose state.
        parameter: its parameter.
        name: of the parameter, for messages.
        powers: see `state_powers`.

    Raises:
        NoTheory: a state tensor whose power is not known, or that is kept in integers.
    """
    found: list[tuple[torch.Tensor, int]] = []
    for key, value in optimizer.state.get(parameter, {}).items():
        if not _is_per_entry(key, value, parameter):
            continue
        known = state_powers(optimizer, powers)
        if key not in known:
            raise NoTheory(
                f"scale_state_: {type(optimizer).__name__} keeps {key!r} for {name!r}, "
                f"and how it scales with the weights is not known (known: {dict(known)}). Pass "
                f"powers={{{key!r}: power}}: -1 for a running sum of gradients, -2 for "
                "one of their squares, 0 for what is free of scale."
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
    """The pieces of some groups, neighbours joined: a thousand filters are one piece again.

    Args:
        members: bound groups.
        groups: their numbers.
    """
    by_parameter: dict[int, list[Piece]] = {}
    for i in groups:
        for piece in members.pieces[i]:
            by_parameter.setdefault(id(piece.parameter), []).append(piece)
    merged: list[Piece] = []
    for own in by_parameter.values():
        run: list[Piece] = []
        for piece in sorted(own, key=lambda piece: piece.slice.start):
            if run and run[-1].slice.stop == piece.slice.start:
                s = run[-1].slice
                joined = Slice(s.parameter, s.axis, s.start, piece.slice.stop)
                run[-1] = dataclasses.replace(run[-1], slice=joined)
            else:
                run.append(piece)
        merged += run
    return merged


def _is_per_entry(name: str, value: object, parameter: torch.Tensor) -> bool:
    """Whether a state value has an entry for each entry of the parameter; counters do not."""
    return (
        isinstance(value, torch.Tensor)
        and name != "step"
        and value.dtype != torch.bool
        and value.shape == parameter.shape
    )
