"""Scaling an optimizer's state: the motion goes on as if the weights had always been longer."""

from __future__ import annotations

import pytest
import torch
from optim.steered import Lion
from torch import nn

from spherical_motion.binding import Piece, bind
from spherical_motion.errors import NoTheory
from spherical_motion.optim.scaling.state import (
    STATE_POWERS,
    merged_pieces,
    scale_state_,
    state_powers,
)
from spherical_motion.vocabulary import InvariantGroup, Slice

C = 4.0  # a power of two, so that nothing rounds

# What makes steps C times as long on weights C times as long, whose gradients are 1/C times.
SQUARE, SAME = {"lr": 0.1 * C**2}, {"lr": 0.1 * C}
EPS = {"eps": 1e-3 / C}
CASES = {
    "SGD": (torch.optim.SGD, {"momentum": 0.9}, SQUARE),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, SQUARE),
    "Adam": (torch.optim.Adam, {"eps": 1e-3}, SAME | EPS),
    "amsgrad": (torch.optim.Adam, {"eps": 1e-3, "amsgrad": True}, SAME | EPS),
    "AdamW": (torch.optim.AdamW, {"eps": 1e-3}, SAME | EPS | {"weight_decay": 0.01 / C}),
    "NAdam": (torch.optim.NAdam, {"eps": 1e-3}, SAME | EPS),
    # Its first five steps are plain momentum, of another degree; the rest are not.
    "RAdam": (torch.optim.RAdam, {"eps": 1e-3, "betas": (0.9, 0.9)}, SAME | EPS),
    "Adamax": (torch.optim.Adamax, {"eps": 1e-3}, SAME | EPS),
    "Adagrad": (torch.optim.Adagrad, {"eps": 1e-3}, SAME | EPS),
    "RMSprop": (torch.optim.RMSprop, {"eps": 1e-3, "momentum": 0.9, "centered": True}, SAME | EPS),
    "Adadelta": (torch.optim.Adadelta, {"eps": 1e-300}, SAME),
    "Lion": (Lion, {}, SAME),
}


def loss_of(w: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """Depends on the direction of w alone."""
    u = w.flatten() / w.norm()
    return u @ a @ u + (a[0] @ u) ** 3


@pytest.mark.parametrize("case", CASES)
def test_motion_goes_on_as_if_weights_had_always_been_longer(case):
    cls, options, scaled = CASES[case]
    torch.manual_seed(1)
    a = torch.randn(12, 12, dtype=torch.float64)
    w = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    optimizer = cls([w], **{"lr": 0.1, **options})

    def steps(count):
        path = []
        for _ in range(count):
            optimizer.zero_grad()
            loss_of(w, a).backward()
            optimizer.step()
            path.append((w / w.norm()).detach().clone())
        return torch.stack(path)

    steps(6)
    kept = w.detach().clone(), {k: v.clone() for k, v in optimizer.state[w].items()}
    expected = steps(5)

    with torch.no_grad():
        w.copy_(kept[0])
    for name, value in optimizer.state[w].items():
        value.copy_(kept[1][name]) if isinstance(value, torch.Tensor) else None
    scale_state_(optimizer, [Piece(w, Slice("w", 0, 0, 3), None, "w")], C)
    with torch.no_grad():
        w.mul_(C)
    optimizer.param_groups[0].update(scaled)
    torch.testing.assert_close(steps(5), expected, rtol=1e-12, atol=1e-13)


def test_every_listed_torch_optimizer_keeps_just_what_the_table_names():
    for name, powers in STATE_POWERS.items():
        cls = getattr(torch.optim, name, None)
        if cls is None:
            continue
        w = nn.Parameter(torch.ones(3, 2))
        options = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
        options |= {"amsgrad": True} if name in ("Adam", "AdamW") else {}
        options |= {"centered": True} if name == "RMSprop" else {}
        optimizer = cls([w], lr=0.1, **options)
        w.grad = torch.ones(3, 2)
        optimizer.step()
        shaped = {n for n, v in optimizer.state[w].items() if getattr(v, "shape", None) == w.shape}
        assert shaped <= set(powers), name
        assert shaped or name == "ASGD", name


def test_only_the_groups_own_rows_are_scaled():
    w = nn.Parameter(torch.ones(4, 2))
    optimizer = torch.optim.Adam([w], lr=0.1)
    w.grad = torch.ones(4, 2)
    optimizer.step()
    before = {k: v.clone() for k, v in optimizer.state[w].items()}
    scale_state_(optimizer, [Piece(w, Slice("w", 1, 1, 2), None, "w")], 2.0)
    after = optimizer.state[w]
    assert torch.equal(after["exp_avg"][:, 0], before["exp_avg"][:, 0])
    assert torch.equal(after["exp_avg"][:, 1], before["exp_avg"][:, 1] / 2)
    assert torch.equal(after["exp_avg_sq"][:, 1], before["exp_avg_sq"][:, 1] / 4)
    assert torch.equal(after["step"], before["step"])


class Odd(torch.optim.SGD):
    """Keeps something nobody has heard of."""


class Unheard(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})


def test_unknown_state_is_refused_before_anything_is_changed():
    w = nn.Parameter(torch.ones(2))
    optimizer = Odd([w], lr=0.1, momentum=0.9)
    w.grad = torch.ones(2)
    optimizer.step()
    optimizer.state[w]["trace"] = torch.ones(2)
    piece = Piece(w, Slice("w", 0, 0, 2), None, "w")
    with pytest.raises(NoTheory, match=r"Odd keeps 'trace' for 'w'.*powers=\{'trace': power\}"):
        scale_state_(optimizer, [piece], 2.0)
    assert optimizer.state[w]["momentum_buffer"].tolist() == [1.0, 1.0]
    scale_state_(optimizer, [piece], 2.0, {"trace": -2})
    assert optimizer.state[w]["trace"].tolist() == [0.25, 0.25]
    assert optimizer.state[w]["momentum_buffer"].tolist() == [0.5, 0.5]


def test_unknown_class_is_refused_with_a_remedy():
    with pytest.raises(NoTheory, match=r"Unheard.*Pass powers="):
        state_powers(Unheard([nn.Parameter(torch.ones(2))]))
    assert state_powers(Unheard([nn.Parameter(torch.ones(2))]), {"m": -1}) == {"m": -1}


def test_neighbouring_filters_become_one_piece():
    net = nn.Sequential(nn.Linear(3, 6, bias=False), nn.BatchNorm1d(6))
    rows = [Slice("0.weight", 0, r, r + 1) for r in (0, 1, 2, 4, 5)]
    groups = [InvariantGroup(str(s), "scale", (s,), (), 3, defect=0.0) for s in rows]
    members = bind(net, groups, torch.optim.SGD(net.parameters(), lr=0.1))
    merged = merged_pieces(members, range(len(groups)))
    assert [(p.slice.start, p.slice.stop) for p in merged] == [(0, 3), (4, 6)]


@pytest.mark.parametrize("name", ["Lion", "Lion8bit", "Lion32bit"])
def test_bitsandbytes_names_lions_momentum_state1(name):
    w = nn.Parameter(torch.ones(2, 3))
    optimizer = type(name, (torch.optim.Optimizer,), {})([w], {"lr": 0.1})
    piece = Piece(w, Slice("w", 0, 0, 2), None, "w")
    optimizer.state[w]["state1"] = torch.ones(2, 3)
    scale_state_(optimizer, [piece], 4.0)
    assert torch.equal(optimizer.state[w]["state1"], torch.full((2, 3), 0.25))
    optimizer.state[w]["state1"] = torch.ones(2, 3, dtype=torch.uint8)
    with pytest.raises(NoTheory, match=r"torch.uint8, quantized"):
        scale_state_(optimizer, [piece], 4.0)
