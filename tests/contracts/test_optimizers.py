"""What every optimizer must do: one table, the same checks for each."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contracts.optimizer_table import OPTIMIZERS, Case, SmallNet, filters, small_net
from torch import Tensor


@pytest.fixture(params=list(OPTIMIZERS))
def case(request: pytest.FixtureRequest) -> Case:
    return OPTIMIZERS[request.param]


def loss_at(model: SmallNet, step: int) -> Tensor:
    """A loss on a batch of its own for each step."""
    rng = torch.Generator().manual_seed(step)
    images = torch.randn(6, 2, 5, 5, generator=rng, dtype=torch.float64)
    return torch.nn.functional.cross_entropy(model(images), torch.arange(6) % 3)


def train(model: SmallNet, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        optimizer.zero_grad()
        loss = loss_at(model, step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def made(case: Case, model: SmallNet | None = None, **options: Any) -> tuple[SmallNet, Any, Any]:
    model = small_net() if model is None else model
    return model, *case.make(model, filters(model), **options)


def weights(model: SmallNet) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def assert_same(a: SmallNet, b: SmallNet, tolerance: float = 0.0) -> None:
    for (name, x), y in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance, msg=name)


def test_it_trains(case: Case) -> None:
    model, optimizer, _ = made(case)
    train(model, optimizer, range(5))
    start = weights(model)
    train(model, optimizer, range(5, 8))
    assert all((a - b).abs().max() > 0 for a, b in zip(weights(model), start, strict=True))


def test_a_run_goes_on_bit_by_bit_from_its_state(case: Case) -> None:
    model, optimizer, extras = made(case)
    train(model, optimizer, range(4))
    file = io.BytesIO()
    saved = [model.state_dict(), optimizer.state_dict(), [e.state_dict() for e in extras]]
    torch.save(saved, file)
    file.seek(0)
    on_model, on_optimizer, on_extras = torch.load(file, weights_only=True)

    other, again, new_extras = made(case)
    other.load_state_dict(on_model)
    again.load_state_dict(on_optimizer)
    for extra, state in zip(new_extras, on_extras, strict=True):
        extra.load_state_dict(state)
    assert train(model, optimizer, range(4, 9)) == train(other, again, range(4, 9))
    assert_same(model, other)


def test_closure_is_called_once_with_grad_enabled(case: Case) -> None:
    model, optimizer, _ = made(case)
    other, by_hand, _ = made(case)
    calls = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = loss_at(model, 0)
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert calls == [True]
    assert train(other, by_hand, range(1)) == [loss.item()]
    assert_same(model, other)


@pytest.mark.parametrize("missing", [["conv.weight"], ["norm.weight", "out.bias"], None])
def test_parameters_without_gradient_stay(case: Case, missing: list[str] | None) -> None:
    model, optimizer, _ = made(case)
    named = dict(model.named_parameters())
    for step in range(4):
        optimizer.zero_grad()
        if step != 2 or missing is not None:
            loss_at(model, step).backward()
        for name in (missing or []) if step == 2 else []:
            named[name].grad = None
        start = {name: p.detach().clone() for name, p in named.items()}
        optimizer.step()
        for name in (missing or named) if step == 2 else []:
            assert torch.equal(start[name], named[name].detach()), name
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("foreach", [True, False])
def test_foreach_and_loop_agree(case: Case, foreach: bool) -> None:
    if "foreach" not in case.options:
        pytest.skip("has no foreach of its own")
    model, optimizer, _ = made(case)
    other, explicit, _ = made(case, foreach=foreach)
    train(model, optimizer, range(6))
    train(other, explicit, range(6))
    assert_same(model, other, tolerance=1e-11)


def test_maximize_is_a_negated_gradient(case: Case) -> None:
    if "maximize" not in case.options:
        pytest.skip("has no maximize of its own")
    model, optimizer, _ = made(case)
    other, upward, _ = made(case, maximize=True)
    for step in range(4):
        for net, stepper, sign in ((model, optimizer, 1.0), (other, upward, -1.0)):
            stepper.zero_grad()
            (sign * loss_at(net, step)).backward()
            stepper.step()
    assert_same(model, other, tolerance=1e-12)


def test_schedulers_drive_it(case: Case) -> None:
    model, optimizer, _ = made(case)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: [1.0, 0.5, 0.0][min(t, 2)])
    for step in range(2):
        train(model, optimizer, range(step, step + 1))
        scheduler.step()
    assert all(group["lr"] == 0.0 for group in optimizer.param_groups)
    start = weights(model)
    train(model, optimizer, range(2, 3))
    for a, b in zip(weights(model), start, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_nothing_breaks_at_zero_gradient(case: Case) -> None:
    model, optimizer, _ = made(case)
    for zero_first in (True, False):
        for step in range(2):
            optimizer.zero_grad(set_to_none=False)
            loss = loss_at(model, step)
            (loss * 0.0 if zero_first else loss).backward()
            optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


def test_nothing_breaks_at_zero_weights(case: Case) -> None:
    model, optimizer, _ = made(case)
    with torch.no_grad():
        model.conv.weight[1].zero_()
    for step in range(3):
        rng = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=rng, dtype=p.dtype)
        optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
    # A zero start is no prison.
    assert model.conv.weight[1].abs().max() > 0 or not case.survives_zero


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_go_on_as_the_original(case: Case, how: str) -> None:
    if not case.copies:
        pytest.skip("is tied to its optimizer by hooks, which no copy takes along")
    model, optimizer, _ = made(case)
    train(model, optimizer, range(3))
    ways: dict[str, Callable[[Any], Any]] = {
        "deepcopy": copy.deepcopy,
        "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
    }
    other, copied = ways[how]((model, optimizer))
    train(other, copied, range(3, 6))
    untouched, again, _ = made(case)
    train(untouched, again, range(3))
    assert_same(model, untouched)
    train(model, optimizer, range(3, 6))
    assert_same(model, other)


def test_parameters_can_be_added(case: Case) -> None:
    model, optimizer, _ = made(case)
    train(model, optimizer, range(2))
    extra = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer.add_param_group({"params": [extra]})
    extra.grad = torch.ones_like(extra)
    optimizer.step()
    assert (extra < 1.0).all()


def test_hooks_fire_in_order(case: Case) -> None:
    model, optimizer, _ = made(case)
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    train(model, optimizer, range(2))
    assert seen == ["before", "after"] * 2


def test_no_graph_is_kept_alive(case: Case) -> None:
    model, optimizer, _ = made(case)
    loss = loss_at(model, 0)
    loss.backward()
    optimizer.step()
    graph = weakref.ref(loss)
    del loss
    gc.collect()
    assert graph() is None
    held = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    assert not any(v.requires_grad or v.grad_fn is not None for v in held)
    assert all(p.is_leaf and p.requires_grad for p in model.parameters())


def test_gradient_scaling_skips_what_overflowed(case: Case) -> None:
    model, optimizer, _ = made(case)
    other, by_hand, _ = made(case)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_at(model, step)).backward()
        if step == 1:
            model.conv.weight.grad.fill_(torch.inf)  # pyright: ignore
        scaler.step(optimizer)
        scaler.update()
        if step != 1:
            train(other, by_hand, range(step, step + 1))
    assert_same(model, other, tolerance=1e-12)


@pytest.mark.parametrize("factor", [4.0, 0.125])
def test_where_promised_the_radius_stays_and_does_not_matter(case: Case, factor: float) -> None:
    if not case.keeps_radius:
        pytest.skip("steps with the norm as it comes")
    if case.starts_from_norm:
        pytest.skip("its first moment stands for the norm that SGD would have")
    model, optimizer, _ = made(case)
    start = model.conv.weight.detach().flatten(1).norm(dim=1)
    scaled = small_net()
    with torch.no_grad():
        scaled.conv.weight[:-1] *= factor
    _, other, _ = made(case, scaled)
    a, b = train(model, optimizer, range(8)), train(scaled, other, range(8))
    torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-9, atol=0.0)
    with torch.no_grad():
        scaled.conv.weight[:-1] /= factor
    assert_same(model, scaled, tolerance=1e-9)
    end = model.conv.weight.detach().flatten(1).norm(dim=1)
    if not case.joined:
        torch.testing.assert_close(end[:-1], start[:-1], rtol=1e-13, atol=0.0)
    torch.testing.assert_close(end[:-1].norm(), start[:-1].norm(), rtol=1e-13, atol=0.0)
