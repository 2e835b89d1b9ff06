"""Reading all states at once gives what reading one by one gives, whatever a loop does to them."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from preconditioned import SETTINGS, made

from spherical_motion.binding import StateReader, preconditioner_rule, read_preconditioner
from spherical_motion.binding import optimizer_state as module
from spherical_motion.measure import Preconditioner

SHAPES = ((3, 4), (5,), (2, 3, 2), (), (3, 4))
GROUPS = (0, 0, 1, 1, 1)
"""Param group of each parameter."""


class Watched:
    """An optimizer of two param groups, stepped a few times, and a reader of its state."""

    def __init__(self, name: str = "AdamW, amsgrad", with_average: bool = True) -> None:
        self.random = torch.Generator().manual_seed(0)
        self.parameters = [torch.randn(shape, generator=self.random) for shape in SHAPES]
        self.optimizer = made(name, self.parameters[:2])
        rest = {k: v for k, v in self.optimizer.param_groups[0].items() if k != "params"}
        self.optimizer.add_param_group({**rest, "params": self.parameters[2:], "eps": 0.3})
        rule = preconditioner_rule(self.optimizer)
        assert callable(rule)
        self.rule, self.with_average = rule, with_average
        self.reader = StateReader(
            self.optimizer, rule, self.parameters, GROUPS, with_average=with_average
        )
        self.step(3)

    def step(self, times: int = 1, frozen: tuple[int, ...] = ()) -> None:
        for _ in range(times):
            for i, p in enumerate(self.parameters):
                p.grad = None if i in frozen else torch.randn(p.shape, generator=self.random)
            self.optimizer.step()

    def state(self, i: int = 0) -> dict[str, Any]:
        return self.optimizer.state[self.parameters[i]]

    def found(self) -> list[object]:
        """What the reader finds: all of a preconditioner, down to where it lies, or why none."""
        reasons = self.reader.read()
        assert list(reasons) == sorted(reasons)
        table = self.reader.table
        assert [i for i, p in enumerate(table) if p is None] == list(reasons)
        return [reasons[i] if p is None else self.facts(p) for i, p in enumerate(table)]

    def one_by_one(self) -> list[object]:
        """The same by the slow path."""
        found = []
        for i, number in enumerate(GROUPS):
            p = read_preconditioner(
                self.rule,
                self.optimizer.param_groups[number],
                self.optimizer.state.get(self.parameters[i], {}),
                self.parameters[i],
                with_average=self.with_average,
            )
            found.append(p if isinstance(p, str) else self.facts(p))
        return found

    def facts(self, p: Preconditioner) -> tuple[object, ...]:
        average = None if p.average is None else p.average.data_ptr()
        if p.state is None:
            return p.coefficients, None, average
        values = tuple(p.state.flatten().tolist())
        return p.coefficients, values, average


@pytest.mark.parametrize("with_average", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_all_at_once_is_one_by_one(name: str, with_average: bool) -> None:
    """Also for parameters that were frozen for some steps, and so count fewer of them."""
    watched = Watched(name, with_average)
    for frozen in ((), (1,), (3, 4), (), (0, 1, 2, 3, 4), ()):
        watched.step(frozen=frozen)
        assert watched.found() == watched.one_by_one()


@pytest.mark.parametrize("name", [n for n in SETTINGS if "centered" not in SETTINGS[n]])
def test_states_as_they_should_be_are_read_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first reading, which sorts out that a 0-dim state is read as shape (1,)."""
    watched, slow = Watched(name), []
    watched.reader.read()
    monkeypatch.setattr(
        module, "read_preconditioner", lambda *a, **k: slow.append(a[3].ndim) or "no reason"
    )
    for frozen in ((), (1, 2), ()):
        watched.step(frozen=frozen)
        assert list(watched.reader.read()) == [3]
    assert slow == [0] * 3


def replace(key: str, change: Callable[[torch.Tensor], object]) -> Callable[[Watched], None]:
    def act(watched: Watched) -> None:
        watched.state()[key] = change(watched.state()[key])

    return act


def in_place(key: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Watched], None]:
    """The tensor stays the same object and gets other memory, type or form."""

    def act(watched: Watched) -> None:
        watched.state()[key].data = change(watched.state()[key].data)

    return act


def settings(**values: object) -> Callable[[Watched], None]:
    return lambda watched: watched.optimizer.param_groups[0].update(values)


def load_older(watched: Watched) -> None:
    older = copy.deepcopy(watched.optimizer.state_dict())
    watched.step(2)
    watched.found()
    watched.optimizer.load_state_dict(older)


def exchange(watched: Watched) -> None:
    """Two parameters of equal shape take each other's state."""
    state, (a, *_, b) = watched.optimizer.state, watched.parameters
    state[a], state[b] = state[b], state[a]


def delete(watched: Watched) -> None:
    del watched.optimizer.state[watched.parameters[0]]


def begin_anew(watched: Watched) -> None:
    watched.optimizer.state = defaultdict(dict)
    watched.step()


def count_further(watched: Watched) -> None:
    watched.state(1)["step"] += 2


V = "max_exp_avg_sq"
CHANGES: dict[str, Callable[[Watched], None]] = {
    "a step": Watched.step,
    "a step without some": lambda watched: watched.step(frozen=(0, 3)),
    "an older state loaded": load_older,
    "states exchanged": exchange,
    "a state deleted": delete,
    "all states deleted": lambda watched: watched.optimizer.state.clear(),
    "states begun anew": begin_anew,
    "a state emptied": lambda watched: watched.state().clear(),
    "amsgrad off": settings(amsgrad=False),
    "betas": settings(betas=(0.5, 0.6)),
    "betas as tensors": settings(betas=(torch.tensor(0.5), torch.tensor(0.6))),
    "eps": settings(eps=0.7),
    "decay as a tensor": settings(weight_decay=torch.tensor(0.4), decoupled_weight_decay=False),
    "decay coupled": settings(decoupled_weight_decay=False),
    "betas missing": lambda watched: watched.optimizer.param_groups[0].pop("betas"),
    "one counter": count_further,
    "a counter as a number": lambda watched: watched.state().update(step=9),
    "a counter that is none": lambda watched: watched.state().update(step="ninth"),
    "a counter at 0": lambda watched: watched.state().update(step=torch.tensor(0.0)),
    "a counter missing": lambda watched: watched.state().pop("step"),
    "v in bfloat16": replace(V, torch.Tensor.bfloat16),
    "v in float64": replace(V, torch.Tensor.double),
    "v of another shape": replace(V, lambda v: v[:2]),
    "v sparse": replace(V, torch.Tensor.to_sparse),
    "v on another device": replace(V, lambda v: v.to("meta")),
    "v as a number": replace(V, lambda v: 1.0),
    "v missing": lambda watched: watched.state().pop(V),
    "v elsewhere": replace(V, lambda v: 2 * v),
    "v moved, as .data": in_place(V, lambda v: 2 * v),
    "v in bfloat16, as .data": in_place(V, torch.Tensor.bfloat16),
    "v transposed, as .data": in_place(V, lambda v: v.reshape(4, 3).T * 2),
    "v seen as integers": in_place(V, lambda v: v.view(torch.int32)),
    "v flattened, as .data": in_place(V, torch.Tensor.flatten),
    "average in bfloat16, as .data": in_place("exp_avg", torch.Tensor.bfloat16),
    "average elsewhere": replace("exp_avg", torch.clone),
    "average missing": lambda watched: watched.state().pop("exp_avg"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_changes_is_noticed(name: str) -> None:
    """At the next reading, after repeated ones before it; a reader that remembers fails."""
    watched = Watched()
    before = [watched.found() for _ in range(3)][-1]
    CHANGES[name](watched)
    found = watched.found()
    assert found == watched.one_by_one()
    assert found != before
    for _ in range(2):
        assert watched.found() == found


@pytest.mark.parametrize("name", [n for n in CHANGES if n.startswith(("v", "average"))])
def test_a_state_that_is_mended_is_read_again(name: str) -> None:
    watched = Watched()
    sound = copy.deepcopy(watched.state())
    before = watched.found()
    CHANGES[name](watched)
    watched.found()
    watched.state().clear()
    watched.state().update(sound)
    for _ in range(3):
        found = watched.found()
        assert found == watched.one_by_one()
        assert [facts[:2] for facts in found] == [facts[:2] for facts in before]  # pyright: ignore


def test_a_parameter_without_state_is_read_once_it_has_one() -> None:
    watched = Watched()
    watched.optimizer.state.clear()
    watched.step(frozen=(0,))
    assert watched.found()[0] == "the optimizer holds no state for it"
    assert watched.parameters[0] not in watched.optimizer.state
    watched.step()
    assert watched.found() == watched.one_by_one()
    assert all(isinstance(p, Preconditioner) for p in watched.reader.table)


def test_added_param_groups_change_nothing_and_are_not_read() -> None:
    watched = Watched()
    before = watched.found()
    extra = torch.ones(3)
    watched.optimizer.add_param_group({"params": [extra], "betas": (0.1, 0.2)})
    assert watched.found() == before
    extra.grad = torch.ones(3)
    watched.step()
    assert watched.found() == watched.one_by_one()


def test_a_rule_that_is_a_function_is_called_for_each() -> None:
    watched = Watched()
    formula = watched.rule
    watched.reader = StateReader(
        watched.optimizer, lambda *given: formula(*given), watched.parameters, GROUPS
    )
    assert watched.found() == watched.one_by_one()
    delete(watched)
    assert watched.found() == watched.one_by_one()
