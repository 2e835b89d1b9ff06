"""The table of preconditioners: which rule an optimizer has, and why a state cannot be read."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from preconditioned import SETTINGS, kind_of, made, read, steps_of

from spherical_motion.binding import (
    preconditioner_rule,
    read_preconditioner,
    register_preconditioner,
)
from spherical_motion.binding.preconditioners import PRECONDITIONERS
from spherical_motion.errors import InvalidArgument
from spherical_motion.measure import Preconditioner


def random() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def rule_of(optimizer: torch.optim.Optimizer) -> Any:
    rule = preconditioner_rule(optimizer)
    assert callable(rule)
    return rule


def test_the_tests_cover_the_table() -> None:
    assert {kind_of(name) for name in SETTINGS} == {
        n for n, rule in PRECONDITIONERS.items() if rule
    }


def test_a_subclass_steps_by_the_rule_of_its_class() -> None:
    class Logged(torch.optim.AdamW):
        pass

    w = torch.zeros(2)
    assert rule_of(Logged([w])) is rule_of(torch.optim.AdamW([w]))
    assert rule_of(torch.optim.AdamW([w])) is not rule_of(torch.optim.NAdam([w]))


def test_sgd_has_no_rule_and_needs_none() -> None:
    assert preconditioner_rule(torch.optim.SGD([torch.zeros(2)], lr=0.1, momentum=0.9)) is None


def test_classes_of_other_packages_count_only_by_names_that_the_library_knows() -> None:
    """Another RAdam may place eps or decay elsewhere; Adam and AdamW are trusted everywhere."""

    class RAdam(torch.optim.Optimizer):
        def __init__(self) -> None:
            super().__init__([torch.zeros(2)], {"lr": 0.1})

    class Adam(RAdam):
        pass

    assert preconditioner_rule(RAdam()) == (
        "no preconditioner is known for RAdam; register_preconditioner adds one"
    )
    assert rule_of(Adam()) is PRECONDITIONERS["Adam"]


@pytest.mark.parametrize(
    "kind", [torch.optim.Rprop, torch.optim.Muon, torch.optim.Adafactor, torch.optim.Adadelta]
)
def test_an_optimizer_without_a_row_says_so(kind: Any) -> None:
    why = preconditioner_rule(kind([torch.zeros(2, 2)]))
    assert isinstance(why, str)
    assert kind.__name__ in why


class Wrapped(torch.Tensor):
    """Stands for a sharded or quantized tensor."""


def adam_state(**changed: Any) -> dict[str, Any]:
    state = {"step": 3, "exp_avg": torch.ones(2, 3), "exp_avg_sq": torch.ones(2, 3)}
    state |= changed
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({}, "the optimizer holds no state for it"),
        (adam_state(exp_avg_sq=None), "the optimizer holds no 'exp_avg_sq' for it"),
        (adam_state(step=None), "the optimizer holds no 'step' for it"),
        (adam_state(step=0), "no step was taken yet"),
        (adam_state(step="first"), "could not be read: ValueError"),
        (adam_state(exp_avg_sq=torch.ones(2, 3).bfloat16()), "its state is torch.bfloat16"),
        (adam_state(exp_avg=torch.ones(2, 3).double()), "its weights are torch.float32"),
        (adam_state(exp_avg_sq=torch.ones(2)), r"the shape \(2,\), its weights \(2, 3\)"),
        (adam_state(exp_avg_sq=torch.ones(2, 3, device="meta")), "its state is on meta, which"),
        (adam_state(exp_avg_sq=torch.ones(2, 3).as_subclass(Wrapped)), "is held as Wrapped"),
        (adam_state(exp_avg_sq=torch.ones(2, 3).to_sparse()), "is held in the layout sparse_coo"),
        (adam_state(exp_avg_sq=1.0), "is held as float"),
    ],
)
def test_a_state_that_cannot_be_read_gives_a_reason(state: dict, why: str) -> None:
    optimizer = torch.optim.Adam([torch.zeros(2, 3)])
    group = optimizer.param_groups[0]
    found = read_preconditioner(rule_of(optimizer), group, state, torch.zeros(2, 3))
    assert isinstance(found, str)
    assert re.search(why, found), found


def test_steps_and_betas_may_be_tensors() -> None:
    """As with capturable=True, which CPUs do not support."""
    optimizer = torch.optim.Adam([torch.zeros(2, 3)])
    group = optimizer.param_groups[0]
    captured = {**group, "capturable": True, "betas": (torch.tensor(0.5), torch.tensor(0.75))}
    state = adam_state(step=torch.tensor(2.0))
    p = read_preconditioner(rule_of(optimizer), captured, state, torch.zeros(2, 3))
    assert isinstance(p, Preconditioner)
    assert p.scale == pytest.approx(1 / 0.75)
    assert p.root == pytest.approx((1 - 0.75**2) ** -0.5)


def test_reading_makes_no_entry_and_changes_nothing() -> None:
    optimizer = made("NAdam", [torch.ones(3)])
    (step,) = steps_of(optimizer, 1, random())
    before = {key: value.clone() for key, value in step.states[0].items()}
    read(optimizer, step)
    assert all(torch.equal(before[key], step.states[0][key]) for key in before)


def test_radam_is_flat_until_it_rectifies() -> None:
    optimizer = made("RAdam", [torch.ones(3)])
    steps = steps_of(optimizer, 9, random())
    flat = [read(optimizer, step)[0].state is None for step in steps]
    assert flat == sorted(flat, reverse=True)
    assert set(flat) == {True, False}


def test_a_rule_is_registered_once_and_found_through_subclasses() -> None:
    class Mine(torch.optim.Optimizer):
        def __init__(self) -> None:
            super().__init__([torch.zeros(2)], {"lr": 0.1})

    class Mine2(Mine):
        pass

    def rule(group: Any, state: Any) -> Preconditioner:
        return Preconditioner.flat(state["scale"])

    forget = register_preconditioner("Mine", rule)
    try:
        assert rule_of(Mine2()) is rule
        with pytest.raises(InvalidArgument, match="the class 'Mine' has an entry already"):
            register_preconditioner("Mine", rule)
    finally:
        forget()
        forget()
    assert isinstance(preconditioner_rule(Mine2()), str)
