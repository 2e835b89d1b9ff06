"""What stands around an audited step, against what is known to be true."""

from __future__ import annotations

import gc
import math
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion.invariance import norms_fed
from spherical_motion.monitor.audit import AuditContext, observers_of
from spherical_motion.monitor.audit.around.all_gradients import global_norm
from spherical_motion.monitor.audit.around.left_behind import replaced
from spherical_motion.monitor.audit.around.looks import CounterObserver, EpsilonObserver
from spherical_motion.monitor.audit.around.step_counter import StepCounter
from spherical_motion.monitor.audit.around.unstepped import FEW, Unstepped

ROWS = torch.randn(8, 5, generator=torch.Generator().manual_seed(2))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6, eps=0.1), nn.Linear(6, 2))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(ROWS).square().sum().backward()
    optimizer.step()


# The global norm


@pytest.mark.parametrize("limit", [1e-2, 1.0])
def test_a_clipped_gradient_has_the_limit_as_its_norm(limit: float) -> None:
    model = network()
    (100 * model(ROWS).square().sum()).backward()
    optimizer = torch.optim.SGD(model.parameters())
    grads = torch.cat([p.grad.flatten().double() for p in model.parameters()])
    assert global_norm([optimizer]) == pytest.approx(float(grads.norm()), rel=1e-6)
    nn.utils.clip_grad_norm_(model.parameters(), limit)
    assert global_norm([optimizer]) == pytest.approx(limit, rel=2e-6)


def test_norms_over_several_optimizers_dtypes_and_sparse_gradients() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    table = nn.Embedding(4, 1, sparse=True)
    a.grad, b.grad = torch.tensor([1.0, 2.0]), torch.tensor([4.0], dtype=torch.bfloat16)
    (2 * table(torch.tensor([1, 1]))).sum().backward()  # one entry of 4
    optimizers = [torch.optim.SGD([a, b]), torch.optim.SparseAdam([table.weight])]
    also = torch.optim.SGD([a])  # holds one of them again
    assert global_norm([*optimizers, also]) == pytest.approx(math.sqrt(1 + 4 + 16 + 16))
    assert math.isnan(global_norm([torch.optim.SGD([nn.Parameter(torch.ones(1))])]))


# The step counter


def counted(optimizer: torch.optim.Optimizer, model: nn.Module) -> StepCounter:
    return StepCounter(optimizer, list(model.parameters()))


def test_a_phantom_step_shows_in_the_count() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    counter = counted(optimizer, model)
    counter.begins()
    for _ in range(4):
        step(model, optimizer)
        counter.stepped()
    counts, taken = counter.read()
    assert (counts == 4.0).all()
    assert (taken == 4.0).all()
    for state in optimizer.state.values():
        state["step"] += 1
    counts, taken = counter.read()
    assert (counts == 5.0).all()
    assert (taken == 4.0).all()


def test_sgd_has_no_count_and_state_from_before_leaves_the_steps_unknown() -> None:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), momentum=0.9)
    counter = counted(sgd, model)
    counter.begins()
    step(model, sgd)
    counter.stepped()
    counts, taken = counter.read()
    assert np.isnan(counts).all()
    assert (taken == 1.0).all()
    adam = torch.optim.Adam(model.parameters())
    step(model, adam)
    late = counted(adam, model)
    late.begins()
    step(model, adam)
    late.stepped()
    counts, taken = late.read()
    assert (counts == 2.0).all()
    assert np.isnan(taken).all()


def test_parameters_that_rest_now_and_then_do_not_count_against_the_optimizer() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    counter = counted(optimizer, model)
    optimizer.zero_grad()
    counter.begins()
    optimizer.step()  # without any gradient: torch passes over all
    counter.stepped()
    for number in range(3):
        model[0].weight.requires_grad_(number == 0)
        model[0].bias.requires_grad_(number == 0)
        model[1].requires_grad_(number == 0)
        step(model, optimizer)
        counter.stepped()
    counts, taken = counter.read()
    assert counts.tolist() == taken.tolist() == [1.0] * 4 + [3.0] * 2


def test_a_count_of_the_param_group_counts_each_step_with_any_gradient() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.param_groups[0]["step"] = 0
    counter = counted(optimizer, model)
    counter.begins()
    for number in range(4):
        model[1].requires_grad_(number % 2 == 0)
        step(model, optimizer)
        optimizer.param_groups[0]["step"] += 1
        counter.stepped()
    counts, taken = counter.read()
    assert counts.tolist() == taken.tolist() == [4.0] * 6


def test_a_loop_that_clears_gradients_in_its_step_leaves_the_steps_unknown() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    counter = counted(optimizer, model)
    for audited in (True, False):
        optimizer.zero_grad()
        model(ROWS).sum().backward()
        if audited:
            counter.begins()
        optimizer.step()
        optimizer.zero_grad()
        counter.stepped()
    assert np.isnan(counter.read()[1]).all()


# Replaced tensors


def test_replaced_tensors_are_found_and_tied_or_wrapped_ones_are_not() -> None:
    model = network()
    model[2].weight = nn.Parameter(torch.randn(2, 6))
    wrapped = nn.DataParallel(model)
    optimizer = torch.optim.SGD(model.parameters())
    watched = list(model.parameters())
    assert not any(replaced(wrapped, optimizer, watched))
    model[0].weight = nn.Parameter(torch.randn(6, 5))
    assert replaced(wrapped, optimizer, watched) == [True, *[False] * 5]
    del optimizer.param_groups[0]["params"][1]
    assert replaced(wrapped, optimizer, watched) == [True, True, *[False] * 4]


# Weights that move without their optimizer


class Said:
    """An `Unstepped` for a model, and what it has said."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.step = 0
        self.moved: list[tuple[list[str], str]] = []
        self.shared: list[tuple[list[str], str]] = []
        self.unstepped = Unstepped(
            optimizer,
            dict(model.named_parameters()),
            lambda: self.step,
            lambda *said: self.moved.append(said),
            lambda *said: self.shared.append(said),
        )
        optimizer.register_step_post_hook(self._stepped)
        self.unstepped.attach()

    def _stepped(self, *_: object) -> None:
        self.step += 1


def test_a_new_optimizer_is_noticed_at_its_third_step() -> None:
    model = network()
    old, new = (torch.optim.SGD(model.parameters(), lr=1e-3) for _ in range(2))
    said = Said(model, old)
    for _ in range(3):
        step(model, old)
    assert said.moved == []
    for number in range(1, 6):
        step(model, new)
        assert bool(said.moved) == (number >= FEW)
    names = [name for name, _ in model.named_parameters()]
    assert said.moved == [(names, "another optimizer (SGD)")]
    said.unstepped.detach()
    assert said.shared == []


def test_a_second_optimizer_beside_the_first_is_another_finding() -> None:
    model = network()
    first = torch.optim.SGD(model.parameters(), lr=1e-3)
    second = torch.optim.Adam(model[2].parameters(), lr=1e-3)
    said = Said(model, first)
    for _ in range(6):
        step(model, first)
        step(model, second)
    said.unstepped.detach()
    assert said.moved == []
    assert said.shared == [(["2.weight", "2.bias"], "Adam")]


def test_an_optimizer_of_other_weights_is_nobodys_business() -> None:
    model, other = network(), network()
    said = Said(model, torch.optim.SGD(model.parameters(), lr=1e-3))
    theirs = torch.optim.SGD(other.parameters(), lr=1e-3)
    for _ in range(9):
        step(other, theirs)
        said.unstepped.logged()
    said.unstepped.detach()
    assert said.moved == said.shared == []


class Around(torch.optim.Optimizer):
    """Steps through an optimizer inside, as SAM and Lookahead do."""

    def __init__(self, inside: torch.optim.Optimizer) -> None:
        self.inside = inside
        super().__init__([p for group in inside.param_groups for p in group["params"]], {"lr": 1.0})

    def step(self, closure: None = None) -> None:
        self.inside.step()


@pytest.mark.parametrize("watched", ["inside", "outside"])
def test_optimizers_within_each_other_are_one(watched: str) -> None:
    model = network()
    inside = torch.optim.SGD(model.parameters(), lr=1e-3)
    outside = Around(inside)
    said = Said(model, inside if watched == "inside" else outside)
    for _ in range(6):
        step(model, outside)
        said.unstepped.logged()
    said.unstepped.detach()
    assert said.step == 6
    assert said.moved == said.shared == []


@pytest.mark.parametrize("through_data", [False, True])
def test_weights_moved_by_other_code_are_noticed_when_the_loop_logs(through_data: bool) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    said = Said(model, optimizer)
    step(model, optimizer)
    seen = []
    for _ in range(8):
        with torch.no_grad():
            for p in model.parameters():
                (p.data if through_data else p).add_(0.01)
        said.unstepped.logged()
        seen.append(len(said.moved))
    assert seen == [0, 0, 0, 0, 1, 1, 1, 1]
    assert said.moved[0][1] == "other code"
    said.unstepped.detach()


def test_logging_often_between_steps_is_no_finding() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    said = Said(model, optimizer)
    for _ in range(3):
        for _ in range(32):  # each batch of an accumulated step
            said.unstepped.logged()
        kept = [p.detach().clone() for p in model.parameters()]
        for average in (True, False):  # averaged weights for an evaluation, and back
            with torch.no_grad():
                for p, k in zip(model.parameters(), kept, strict=True):
                    p.copy_(0.5 * k if average else k)
            said.unstepped.logged()
        step(model, optimizer)
    said.unstepped.detach()
    assert said.moved == []


def test_torchs_hooks_do_not_keep_anything_alive() -> None:
    model = network()
    said = Said(model, torch.optim.SGD(model.parameters(), lr=1e-3))
    gone = weakref.ref(said.unstepped)
    handles = said.unstepped._handles
    del said, model
    gc.collect()
    assert gone() is None
    for handle in handles:
        handle.remove()


# Together, as the audit calls them


def context(model: nn.Module, optimizer: torch.optim.Optimizer) -> AuditContext:
    names = ["0.weight", "2.weight"]
    found = dict(model.named_parameters())
    return AuditContext(
        model=model,
        optimizers=[optimizer],
        number=0,
        names=names,
        numbers=[0, 1],
        parameters=[found[name] for name in names],
        param_groups=[0, 0],
        fed=norms_fed(model, ROWS),
    )


def test_observers_fill_the_columns_they_own() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    observers = observers_of(context(model, optimizer))
    for number in range(3):
        for observer in observers:
            observer.prepare(number)
        model(ROWS).square().sum().backward()
        for observer in observers:
            observer.before(number)
        assert not any(m._forward_hooks for m in model.modules())
        optimizer.step()
        columns, facts = {}, {}
        for observer in observers:
            columns |= observer.columns(number)
            facts |= observer.facts(number)
            observer.stepped()
    assert set(columns) == {"epsilon", "eval_mode", "replaced", "counter", "taken"}
    assert (columns["counter"] == 3.0).all()
    assert (columns["taken"] == 3.0).all()
    assert set(facts) == {"counter", "taken", "grad_norm"}
    assert facts["counter"] == facts["taken"] == 3.0
    assert columns["eval_mode"][0] == 0.0
    assert 0.0 < columns["epsilon"][0] < 1.0
    assert np.isnan(columns["epsilon"][1])
    assert columns["replaced"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("facts_first", [True, False])
def test_a_step_is_counted_once_in_either_order(facts_first: bool) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    observer = CounterObserver(context(model, optimizer))
    for number in range(6):
        model(ROWS).square().sum().backward()
        audited = number in (0, 1, 4)
        if audited:
            observer.before(number)
        optimizer.step()
        if audited and facts_first:
            assert observer.facts(number) == {"counter": number + 1.0, "taken": number + 1.0}
        observer.stepped()
        if audited and not facts_first:
            assert observer.facts(number) == {"counter": number + 1.0, "taken": number + 1.0}


def test_epsilon_of_a_step_that_was_not_prepared_is_unknown() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    observer = EpsilonObserver(context(model, optimizer))
    observer.prepare(0)
    model(ROWS)
    observer.before(0)
    assert np.isfinite(observer.columns(0)["epsilon"][0])
    observer.stepped()
    observer.before(1)
    assert np.isnan(observer.columns(1)["epsilon"][0])
    observer.prepare(2)
    observer.stepped()  # not audited after all
    assert not any(m._forward_hooks for m in model.modules())
