"""The step of every optimizer is what its rule makes, in every way of computing it."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)

from spherical_motion.errors import InvalidArgument
from spherical_motion.monitor.audit import AuditContext, register_rule
from spherical_motion.monitor.audit.replay import COLUMN, Replay
from spherical_motion.monitor.audit.table import RULES


class Lion(torch.optim.Optimizer):
    """Chen et al. (2023), written out."""

    def __init__(self, params, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.99), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (beta1 * m + (1.0 - beta1) * p.grad).sign())
                m.mul_(beta2).add_(p.grad, alpha=1.0 - beta2)


DECAY = {"weight_decay": 0.1}
OPTIONS: dict[Any, list[dict[str, object]]] = {
    SGD: [
        {},
        DECAY,
        {"momentum": 0.9},
        {"momentum": 0.9, **DECAY},
        {"momentum": 0.9, "dampening": 0.3, **DECAY},
        {"momentum": 0.9, "nesterov": True, **DECAY},
        {"momentum": 0.9, "maximize": True, **DECAY},
    ],
    Adam: [{}, DECAY, {"amsgrad": True}, {"maximize": True, **DECAY}, {"betas": (0.5, 0.9)}],
    AdamW: [{}, DECAY, {"amsgrad": True, **DECAY}, {"maximize": True}],
    NAdam: [{}, DECAY, {"decoupled_weight_decay": True, **DECAY}, {"maximize": True}],
    RAdam: [{}, DECAY, {"decoupled_weight_decay": True, **DECAY}, {"maximize": True}],
    Adamax: [{}, DECAY, {"maximize": True}],
    RMSprop: [{}, DECAY, {"momentum": 0.9}, {"centered": True}, {"maximize": True}],
    Adagrad: [{}, {"lr_decay": 0.1, **DECAY}, {"initial_accumulator_value": 0.1}],
    Adadelta: [{}, DECAY, {"maximize": True}],
    ASGD: [{}, DECAY, {"t0": 2.0, "maximize": True}],
    Rprop: [{}, {"etas": (0.4, 1.3)}, {"maximize": True}],
    Lion: [{}, DECAY],
}
CASES = [(cls, options) for cls, several in OPTIONS.items() for options in several]
WAYS = [{"foreach": False}, {"foreach": True}, {"fused": True}]
FUSED = (SGD, Adam, AdamW, Adagrad)


def name_of(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


def weights(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def give_gradients(parameters: list[torch.Tensor], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)


def context_of(optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor]) -> AuditContext:
    names = [str(i) for i in range(len(parameters))]
    groups = [
        next(n for n, g in enumerate(optimizer.param_groups) if any(p is q for q in g["params"]))
        for p in parameters
    ]
    return AuditContext(
        torch.nn.Module(), [optimizer], 0, names, range(len(names)), parameters, groups
    )


def replayed(
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.Tensor],
    steps: int = 5,
    act: Callable[[int], None] = lambda step: None,
) -> tuple[np.ndarray, list[list[str]]]:
    """(steps, parameters, sums) of replays, and the reasons; `act` runs in the step."""
    replay = Replay(context_of(optimizer, parameters))
    found, reasons = [], []
    for step in range(steps):
        give_gradients(parameters, step)
        with torch.no_grad():
            replay.before()
        before = [p.detach().clone() for p in parameters]
        optimizer.step()
        act(step)
        with torch.no_grad():
            sums, why = replay.after(before)
        found.append(sums)
        reasons.append(why)
    return np.array(found), reasons


def column(sums: np.ndarray, name: str) -> np.ndarray:
    return sums[..., COLUMN[name]]


def check_kept(sums: np.ndarray, dtype: torch.dtype) -> None:
    """Steps are the rule's up to rounding, and rounding explains little."""
    miss, allowed, size = (column(sums, n) for n in ("miss_sq", "allowed_sq", "ee"))
    assert (miss <= allowed).all()
    relative = 0.05 if dtype is torch.bfloat16 else 1e-7
    assert (allowed < relative * size + 1e-13 * column(sums, "ww")).all()
    assert (column(sums, "lost") < 1e-6).all()
    np.testing.assert_allclose(column(sums, "de"), size, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("cls", "options"), CASES, ids=name_of)
def test_every_optimizer_keeps_its_rule(cls, options, dtype) -> None:
    ways = WAYS if cls in FUSED else [{}] if cls is Lion else WAYS[:2]
    for way in ways:
        parameters = weights(dtype, (4, 6), (3,), (2, 3, 2, 2))
        sums, reasons = replayed(cls(parameters, lr=0.01, **options, **way), parameters)
        assert not any(itertools.chain(*reasons)), reasons
        check_kept(sums, dtype)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw"}])
def test_muon_keeps_its_rule_within_the_precision_of_its_iteration(options) -> None:
    parameters = weights(torch.float32, (20, 30), (30, 10))
    sums, reasons = replayed(torch.optim.Muon(parameters, lr=0.02, **options), parameters)
    assert not any(itertools.chain(*reasons))
    check_kept(sums, torch.bfloat16)


@pytest.mark.skipif(not hasattr(torch.optim, "Adafactor"), reason="this torch has no Adafactor")
def test_adafactor_keeps_its_rule() -> None:
    parameters = weights(torch.float32, (20, 30), (30,))
    sums, reasons = replayed(torch.optim.Adafactor(parameters, weight_decay=0.1), parameters)
    assert not any(itertools.chain(*reasons))
    check_kept(sums, torch.float32)


def test_settings_may_be_tensors_and_differ_between_param_groups() -> None:
    first, second = weights(torch.float32, (5, 4)), weights(torch.float32, (4, 5))
    groups = [{"params": first, "lr": torch.tensor(0.01)}, {"params": second, "lr": 0.3}]
    optimizer = Adam(groups, foreach=False)
    sums, _ = replayed(optimizer, first + second)
    check_kept(sums, torch.float32)


def test_a_tensor_in_parts_is_replayed_like_a_whole_one(monkeypatch) -> None:
    results = []
    for part in (7, 1 << 16):
        monkeypatch.setattr("spherical_motion.monitor.audit.parts.PART", part)
        monkeypatch.setattr("spherical_motion.monitor.audit.replay.PART", part)
        (w,) = parameters = weights(torch.float32, (3, 4, 5, 2))
        w.data = w.data.to(memory_format=torch.channels_last)
        sums, _ = replayed(AdamW(parameters, lr=0.1), parameters, steps=3)
        results.append(sums)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-9)


def test_the_sums_are_those_of_a_plain_calculation() -> None:
    (w,) = parameters = weights(torch.float32, (6, 5))
    optimizer = SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.2)
    replay = Replay(context_of(optimizer, parameters))
    buffer = torch.zeros(6, 5, dtype=torch.float64)
    for step in range(3):
        give_gradients(parameters, step)
        before, gradient = w.detach().double().clone(), w.grad.double()
        replay.before()
        optimizer.step()
        with torch.no_grad():
            w[0, 0] += 1.0
        row, _ = replay.after([before.float()])
        kept = buffer.float().double()  # the state that the optimizer holds
        buffer = 0.9 * kept + gradient + 0.2 * before
        expected, real = -0.1 * buffer, w.detach().double() - before
        for name, a, b in (
            *(("ww", before, before), ("wd", before, real), ("we", before, expected)),
            *(("dd", real, real), ("ee", expected, expected), ("de", real, expected)),
            *(("miss_sq", real - expected, real - expected),),
            *(("gg", gradient, gradient), ("wg", before, gradient)),
        ):
            np.testing.assert_allclose(column(row[0], name), float((a * b).sum()), rtol=1e-5)
        assert column(row[0], "miss_sq") == pytest.approx(1.0, abs=1e-4)
        buffer = optimizer.state[w]["momentum_buffer"].double()


# Wrong steps.


@pytest.mark.parametrize("momentum", [0.85, 0.899])
def test_another_momentum_is_seen_with_its_size(momentum: float) -> None:
    """The step differs by (0.9 - momentum) times the buffer."""

    class Slack(SGD):
        @torch.no_grad()
        def step(self, closure=None) -> None:
            for group in self.param_groups:
                group["momentum"], declared = momentum, group["momentum"]
            super().step(closure)
            for group in self.param_groups:
                group["momentum"] = declared

    (w,) = parameters = weights(torch.float32, (40, 30))
    sums, _ = replayed(Slack(parameters, lr=0.1, momentum=0.9), parameters, steps=1)
    check_kept(sums, torch.float32)  # there is no average yet
    optimizer = Slack(parameters, lr=0.1, momentum=0.9)
    replayed(optimizer, parameters, steps=4)
    before = optimizer.state[w]["momentum_buffer"].double().clone()
    sums, _ = replayed(optimizer, parameters, steps=1)
    expected = (0.1 * (0.9 - momentum)) ** 2 * float(before.square().sum())
    assert column(sums[0, 0], "miss_sq") == pytest.approx(expected, rel=1e-3)
    assert column(sums[0, 0], "miss_sq") > 100 * column(sums[0, 0], "allowed_sq")


def test_a_second_decay_is_seen_as_a_multiple_of_the_weights() -> None:
    (w,) = parameters = weights(torch.float32, (40, 30))

    def decay(step: int) -> None:
        with torch.no_grad():
            w.mul_(1.0 - 0.1 * 0.05)

    sums, _ = replayed(AdamW(parameters, lr=0.1, weight_decay=0.05), parameters, act=decay)
    row = sums[-1, 0]
    ww, we, ee = (column(row, name) for name in ("ww", "we", "ee"))
    after_sq = ww + 2 * we + ee  # of the step without the second decay
    np.testing.assert_allclose(column(row, "miss_sq"), (0.1 * 0.05) ** 2 * after_sq, rtol=1e-4)
    # d = e + b w, by least squares
    b = (column(row, "wd") * ee - column(row, "de") * we) / (ww * ee - we**2)
    assert b == pytest.approx(-0.005, rel=0.02)


def test_noise_in_the_step_is_seen_with_its_size() -> None:
    (w,) = parameters = weights(torch.float32, (40, 30))
    generator = torch.Generator().manual_seed(0)
    noise = 1e-4 * torch.randn(40, 30, generator=generator)

    def add(step: int) -> None:
        with torch.no_grad():
            w.add_(noise)

    sums, _ = replayed(SGD(parameters, lr=0.1, momentum=0.9), parameters, act=add)
    np.testing.assert_allclose(column(sums, "miss_sq"), float(noise.square().sum()), rtol=0.01)
    assert (column(sums, "miss_sq") > column(sums, "allowed_sq")).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "make", [SGD, functools.partial(Adam, eps=1e-3), functools.partial(AdamW, eps=1e-3)]
)
def test_steps_below_the_spacing_of_the_weights_are_lost(make, dtype) -> None:
    parameters = weights(dtype, (40, 30))
    sums, _ = replayed(make(parameters, lr=1e-6), parameters)
    assert (column(sums, "lost") > 0.9).all()
    assert (column(sums, "miss_sq") <= column(sums, "allowed_sq")).all()
    parameters = weights(dtype, (40, 30))
    sums, _ = replayed(make(parameters, lr=0.3), parameters)
    assert (column(sums, "lost") < 0.05).all()
    assert (column(sums, "miss_sq") <= column(sums, "allowed_sq")).all()


def test_weights_that_stay_although_the_step_is_large_are_not_lost_to_rounding() -> None:
    (w,) = parameters = weights(torch.float32, (40, 30))
    kept = w.detach().clone()
    sums, _ = replayed(SGD(parameters, lr=0.1), parameters, act=lambda _: w.data.copy_(kept))
    assert (column(sums, "dd") == 0.0).all()
    assert (column(sums, "lost") == 0.0).all()
    np.testing.assert_allclose(column(sums, "miss_sq"), column(sums, "ee"))


# Entries whose sign is a matter of rounding.


def test_lions_sign_may_turn_where_it_depends_on_rounding() -> None:
    """m and g are chosen so that 0.9m + 0.1g is 0 up to rounding in half of the entries."""
    (w,) = parameters = weights(torch.float32, (64,))
    optimizer = Lion(parameters, lr=0.01)
    w.grad = torch.ones(64)
    optimizer.step()
    average = optimizer.state[w]["exp_avg"]
    average.copy_(torch.linspace(0.1, 0.9, 64))
    w.grad = torch.where(torch.arange(64) % 2 == 0, -9.0 * average, torch.ones(64))
    replay = Replay(context_of(optimizer, parameters))
    replay.before()
    before = w.detach().clone()
    optimizer.step()
    row = replay.after([before])[0][0]
    assert column(row, "miss_sq") <= column(row, "allowed_sq")
    assert column(row, "allowed_sq") >= 30 * 0.02**2


# What cannot be replayed says why.


class Renamed(torch.optim.Optimizer):
    """Named SGD below: momentum under a name of its own."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, {"lr": lr, "mu": 0.9})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"])


class Elsewhere(torch.optim.SGD):
    """Keeps its momentum outside of its state."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        self.kept = getattr(self, "kept", {})
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.kept.setdefault(p, torch.zeros_like(p))
                p.sub_(buffer.mul_(0.9).add_(p.grad), alpha=group["lr"])


class OtherState(Elsewhere):
    """Keeps its momentum in its state under another name."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        super().step()
        for p, buffer in self.kept.items():
            self.state[p]["velocity"] = buffer


class Plain(torch.optim.Optimizer):
    """Named SGD below: settings under torch's names, and no others."""

    def __init__(self, params, lr: float, momentum: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.01})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                gradient = p.grad + group["weight_decay"] * p
                state = self.state[p]
                buffer = state.setdefault("momentum_buffer", torch.zeros_like(p))
                p.sub_(buffer.mul_(group["momentum"]).add_(gradient), alpha=group["lr"])


class Unheard(Plain):
    """No class of its family has a rule."""


def named(cls: type, name: str) -> Any:
    return type(name, (cls,), {})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: named(Renamed, "SGD")(p, lr=0.1), "a setting 'mu'"),
        (lambda p: named(Renamed, "Adam")(p, lr=0.1), "no setting 'betas'"),
        (lambda p: Elsewhere(p, lr=0.1, momentum=0.9), "no 'momentum_buffer' after the step"),
        (lambda p: OtherState(p, lr=0.1, momentum=0.9), "no 'momentum_buffer'"),
        (lambda p: Unheard(p, lr=0.1), "no rule for Unheard"),
        (lambda p: torch.optim.LBFGS(p), "no rule for LBFGS"),
    ],
)
def test_what_has_other_names_is_not_replayed(make, why: str) -> None:
    parameters = weights(torch.float32, (5, 4))
    if "LBFGS" in why:
        replay = Replay(context_of(make(parameters), parameters))
        give_gradients(parameters, 0)
        replay.before()
        _, found = replay.after([p.detach() for p in parameters])
        assert found == [why]
        return
    sums, reasons = replayed(make(parameters), parameters, steps=3)
    assert all(why in reason for (reason,) in reasons), reasons
    assert np.isnan(column(sums, "miss_sq")).all()
    assert (column(sums, "dd") > 0.0).all()
    assert (column(sums, "gg") > 0.0).all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_hand_written_class_of_a_known_name_is_held_to_its_rule(momentum: float) -> None:
    parameters = weights(torch.float32, (5, 4))
    optimizer = named(Plain, "SGD")(parameters, lr=0.1, momentum=momentum)
    sums, reasons = replayed(optimizer, parameters)
    assert not any(itertools.chain(*reasons))
    check_kept(sums, torch.float32)


def test_a_rule_from_outside_counts_for_derived_classes_until_it_is_forgotten() -> None:
    def rule(weights, gradient, state, settings):
        state.setdefault("momentum_buffer", torch.zeros_like(weights))
        moved = gradient + settings["weight_decay"] * weights
        state["momentum_buffer"].mul_(settings["momentum"]).add_(moved)
        return weights - settings["lr"] * state["momentum_buffer"]

    forget = register_rule("Plain", rule)
    parameters = weights(torch.float32, (5, 4))
    sums, reasons = replayed(Unheard(parameters, lr=0.1, momentum=0.5), parameters)
    assert not any(itertools.chain(*reasons))
    check_kept(sums, torch.float32)
    with pytest.raises(InvalidArgument, match="'Plain' has a rule already"):
        register_rule("Plain", rule)
    forget()
    assert "Plain" not in RULES


def test_a_rule_that_fails_says_so() -> None:
    def broken(weights, gradient, state, settings):
        raise ValueError("the rule is broken")

    forget = register_rule("Plain", broken)
    parameters = weights(torch.float32, (5, 4))
    _, reasons = replayed(Unheard(parameters, lr=0.1), parameters, steps=1)
    forget()
    assert reasons == [["Plain could not be replayed: ValueError: the rule is broken"]]


def test_gradients_that_are_missing_or_sparse() -> None:
    first, second, third = parameters = weights(torch.float32, (5, 4), (5, 4), (5, 4))
    optimizer = SGD(parameters, lr=0.1)
    replay = Replay(context_of(optimizer, parameters))
    first.grad = torch.ones(5, 4)
    third.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 4), (5, 4), check_invariants=True)
    replay.before()
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    sums, reasons = replay.after(before)
    assert reasons == ["", "", "sparse gradient"]
    assert column(sums[1], "dd") == column(sums[1], "ee") == column(sums[1], "miss_sq") == 0.0
    assert np.isnan(column(sums[1], "gg"))
    assert np.isnan(column(sums[2], "ee"))
    assert column(sums[2], "dd") == pytest.approx(0.04)
    with torch.no_grad():  # something moves the weights without a gradient
        second.add_(1.0)
        replay.before()
        before[1] = second.detach().clone()
        second.add_(0.5)
    row = replay.after(before)[0][1]
    assert column(row, "miss_sq") == pytest.approx(5.0)
    assert column(row, "allowed_sq") == 0.0


def test_parameters_that_share_memory_are_not_replayed() -> None:
    whole = torch.randn(10)
    first, second = whole[:6].requires_grad_(), whole[4:].requires_grad_()
    (alone,) = weights(torch.float32, (3,))
    parameters = [first, second, alone]
    _, reasons = replayed(SGD(parameters, lr=0.1), parameters, steps=1)
    assert reasons[0][:2] == ["its memory is shared with another parameter"] * 2
    assert reasons[0][2] == ""


def test_nothing_real_is_touched() -> None:
    parameters = weights(torch.float64, (5, 4))
    optimizer = Adam(parameters, lr=0.1, amsgrad=True)
    fired = []
    optimizer.register_step_pre_hook(lambda *_: fired.append("pre"))
    optimizer.register_step_post_hook(lambda *_: fired.append("post"))
    replay = Replay(context_of(optimizer, parameters))
    for step in range(2):
        give_gradients(parameters, step)
        state, groups = optimizer.state_dict()["state"], copy.deepcopy(optimizer.param_groups)
        kept = copy.deepcopy((state, [p.grad for p in parameters], parameters))
        random = torch.get_rng_state()
        replay.before()
        replay.forget()
        replay.before()
        assert torch.equal(random, torch.get_rng_state())
        assert len(optimizer.state) == (step > 0)
        assert str(kept) == str((optimizer.state_dict()["state"], [parameters[0].grad], parameters))
        assert str(groups) == str(optimizer.param_groups)
        assert fired == ["pre", "post"] * step
        optimizer.step()
        replay.after([p.detach() for p in parameters])
    assert all(p.requires_grad and p.is_leaf for p in parameters)
