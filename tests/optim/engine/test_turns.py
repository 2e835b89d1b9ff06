"""Compiled turns against the torch formulas, and blocks on several threads."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from spherical_motion import InvariantGroup, Slice
from spherical_motion.optim import AdaGradG, AdamG, bind
from spherical_motion.optim.engine import CpuPasses

KINDS: dict[str, Any] = {
    "adamg": lambda model, groups, **o: AdamG(model, groups, lr=0.1, eps=1e-3, **o),
    "adagradg": lambda model, groups, **o: AdaGradG(model, groups, beta=0.9, **o),
    "all kept": lambda model, groups, **o: AdaGradG(model, groups, beta=1.0, **o),
    "moment": lambda model, groups, **o: AdaGradG(model, groups, moment=2.0, **o),
    "from_sgd": lambda model, groups, **o: AdaGradG.from_sgd(
        model, groups, lr=0.1, weight_decay=0.1, **o
    ),
}


class Odd(nn.Module):
    """Two tensors in one group, rows of norm 0, a single number, one without gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Parameter(torch.randn(5, 9, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(3, 4, 2, dtype=torch.float64))
        self.one = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        self.still = nn.Parameter(torch.randn(4, dtype=torch.float64))
        with torch.no_grad():
            self.a[1].zero_()


def odd_groups() -> list[InvariantGroup]:
    slices = [
        (Slice("a", 0, 0, 1), Slice("b", 1, 0, 2)),
        (Slice("a", 0, 1, 2),),
        (Slice("a", 0, 2, 4),),
        (Slice("b", 1, 3, 4),),
        (Slice("one", 0, 0, 1),),
        (Slice("still", 0, 0, 4),),
    ]
    return [InvariantGroup(str(i), "scale", own, (), 1, 0.0) for i, own in enumerate(slices)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("radius", [None, 0.5])
def test_compiled_turns_do_what_the_formulas_say(kind: str, maximize: bool, radius: Any) -> None:
    models = [Odd(), Odd()]
    optimizers = [
        KINDS[kind](models[0], odd_groups(), fused=True, radius=radius),
        KINDS[kind](models[1], odd_groups(), foreach=False, fused=False, radius=radius),
    ]
    generator = torch.Generator().manual_seed(3)
    for step in range(4):
        for name, parameter in models[0].named_parameters():
            grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            for model in models:
                absent = name == "still" and step != 2
                model.get_parameter(name).grad = None if absent else grad
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["maximize"] = maximize
            optimizer.step()
        for ours, reference in zip(*(model.parameters() for model in models), strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-11, atol=1e-13)
        for read in ("radii", "second_moments"):
            ours, reference = (getattr(optimizer, read)() for optimizer in optimizers)
            torch.testing.assert_close(ours, reference, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", ["adamg", "adagradg"])
def test_a_step_is_the_same_to_the_bit_on_any_number_of_threads(kind: str) -> None:
    model = nn.Linear(1500, 700, bias=False)
    groups = [
        InvariantGroup(str(i), "scale", (Slice("weight", 0, i, j),), (), 1, 0.0)
        for i, j in ((0, 100), (100, 101), (101, 102), (102, 700))
    ]
    grad = torch.randn(700, 1500)
    ends = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            mine = copy.deepcopy(model)
            optimizer = KINDS[kind](mine, groups)
            mine.weight.grad = grad
            for _ in range(3):
                optimizer.step()
            ends.append(mine.weight.detach())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*ends)


def test_an_error_between_the_halves_ends_all_threads() -> None:
    model = nn.Linear(1500, 700, bias=False)
    rows = [Slice("weight", 0, i, i + 100) for i in range(0, 700, 100)]
    members = bind(model, [InvariantGroup(str(s), "scale", (s,), (), 1, 0.0) for s in rows])

    def fail(*arguments: Any) -> None:
        raise RuntimeError("between")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        x = [model.weight.detach()]
        with pytest.raises(RuntimeError, match="between"):
            CpuPasses(members).step(x, [torch.ones(700, 1500)], None, fail)
    finally:
        torch.set_num_threads(before)
