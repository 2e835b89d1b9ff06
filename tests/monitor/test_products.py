"""The seventh and eighth product of a run: recorded for every optimizer, harmless, off at will."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preconditioned import CASES, SETTINGS, kind_of, made
from torch import nn
from watched import groups_of, loss_of, network, train

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure import reference
from spherical_motion.monitor import Monitor
from spherical_motion.records import Records, read
from spherical_motion.vocabulary import EventKind, InvariantGroup, Slice

STEPS = 8


# A differentiable optimizer steps no leaf that requires a gradient.
RUNS = [(name, implementation) for name, implementation in CASES if implementation[0] != "d"]


def run(path: Path, name: str, implementation: str = "loop", **options: Any) -> Records:
    model = network()
    optimizer = made(name, list(model.parameters()), implementation, lr=1e-2)
    with Monitor(model, optimizer, groups_of(model), path, quiet=True, **options):
        train(model, optimizer, STEPS)
    return read(path)


def expected(name: str, implementation: str = "loop") -> tuple[list[list[float]], list[Any]]:
    """wp and ws (steps, groups) by the slow reference, and the weights at the end."""
    model = network()
    parameters = list(model.parameters())
    optimizer = made(name, parameters, implementation, lr=1e-2)
    group, kind = optimizer.param_groups[0], kind_of(name)
    names = dict(model.named_parameters())
    products: list[list[float]] = []
    old: dict[str, Any] = {}

    def measure(*_: object) -> None:
        row = []
        for key in ("0.weight", "3.weight"):
            p, w = names[key], before[key]
            grad = -p.grad if group["maximize"] else p.grad
            assert grad is not None
            state = optimizer.state[p]
            row.append(float(reference.pull(kind, group, state, w, grad).sum()))
            if key not in old:
                row.append(0.0)
            elif kind in ("RMSprop", "Adagrad"):
                row.append(np.nan)
            else:
                row.append(float(reference.change(kind, group, state, old[key], w).sum()))
            old[key] = {k: v.clone() for k, v in state.items() if isinstance(v, torch.Tensor)}
        products.append(row)

    before: dict[str, torch.Tensor] = {}
    optimizer.register_step_pre_hook(
        lambda *_: before.update({k: p.detach().clone() for k, p in names.items()})
    )
    optimizer.register_step_post_hook(measure)
    train(model, optimizer, STEPS)
    return products, [p.detach() for p in parameters]


@pytest.mark.parametrize(("name", "implementation"), RUNS)
def test_weights_are_bit_identical_and_products_those_of_the_reference(
    name: str, implementation: str, tmp_path: Path
) -> None:
    products, weights = expected(name, implementation)
    model = network()
    optimizer = made(name, list(model.parameters()), implementation, lr=1e-2)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", products=8, quiet=True):
        train(model, optimizer, STEPS)
    for watched, plain in zip(model.parameters(), weights, strict=True):
        assert torch.equal(watched, plain)
    gram = read(tmp_path / "run").gram
    found = np.stack([gram.wp, gram.ws], axis=-1).reshape(STEPS, 4)
    wanted = np.array(products)
    if kind_of(name) in ("RMSprop", "Adagrad"):
        wanted[:, [1, 3]] = np.nan
    assert np.allclose(found, wanted, rtol=2e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", ["AdamW", "Adam with L2", "RAdam"])
def test_fewer_products_are_the_first_of_more(name: str, tmp_path: Path) -> None:
    eight, seven, six = (run(tmp_path / str(n), name, products=n) for n in (8, 7, 6))
    default = run(tmp_path / "default", name)
    assert [r.info.products for r in (eight, seven, six, default)] == [8, 7, 6, 7]
    for field in ("ww", "wd", "dd", "wg", "gg", "dg"):
        a, b = getattr(seven.gram, field), getattr(six.gram, field)
        assert np.allclose(a, b, rtol=1e-12, atol=1e-12)
        assert np.array_equal(a, getattr(eight.gram, field))
    assert np.array_equal(seven.gram.wp, eight.gram.wp)
    assert np.array_equal(seven.gram.wp, default.gram.wp)
    assert np.isfinite(seven.gram.wp).all()
    assert np.isnan(seven.gram.ws).all()
    assert np.isnan(six.gram.wp).all()


def notes(records: Records) -> list[tuple[list[str], str]]:
    kind = EventKind.NO_PRECONDITIONER
    return [(e["parameters"], e["why"]) for e in records.events if e["kind"] == kind]


def test_sampled_steps_alone_are_read(tmp_path: Path) -> None:
    every = run(tmp_path / "all", "AdamW", products=8)
    some = run(tmp_path / "some", "AdamW", products=8, every=4, burst=2)
    assert some.steps.tolist() == [0, 1, 4, 5]
    for field in ("wp", "ws"):
        assert np.array_equal(getattr(some.gram, field), getattr(every.gram, field)[some.steps])


def test_sgd_needs_no_state_and_no_note(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", products=8, quiet=True):
        train(model, optimizer, STEPS)
    records = read(tmp_path / "run")
    wp = records.gram.wg + 0.01 * records.gram.ww
    assert np.allclose(records.gram.wp, wp, rtol=1e-12)
    assert not notes(records)


def test_an_unknown_optimizer_is_noted_once(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Rprop(model.parameters(), lr=1e-3)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, STEPS)
    records = read(tmp_path / "run")
    assert np.isnan(records.gram.wp).all()
    assert np.isfinite(records.gram.dg).all()
    ((names, why),) = notes(records)
    assert names == ["0.weight", "3.weight"]
    assert "Rprop" in why


def test_six_products_need_no_note(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Rprop(model.parameters(), lr=1e-3)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", products=6, quiet=True):
        train(model, optimizer, STEPS)
    assert not notes(read(tmp_path / "run"))


def test_a_state_that_cannot_be_read_spoils_its_tensor_alone(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", products=8, quiet=True):
        train(model, optimizer, 2)
        state = optimizer.state[model[0].weight]
        state["exp_avg_sq"] = state["exp_avg_sq"].bfloat16()
        train(model, optimizer, 3)
    records = read(tmp_path / "run")
    assert np.isfinite(records.gram.wp[:2]).all()
    assert np.isnan(records.gram.wp[2:, 0]).all()
    assert np.isnan(records.gram.ws[2:, 0]).all()
    assert np.isfinite(records.gram.wp[:, 1]).all()
    assert np.isfinite(records.gram.ww).all()
    why = "its state is torch.bfloat16, and its weights are torch.float32"
    assert notes(records) == [(["0.weight"], why)]


def test_a_step_without_a_gradient(tmp_path: Path) -> None:
    """Its products are unknown; ws is zero again before the first step with a gradient."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", products=8, quiet=True):
        for step in range(4):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            if step in (0, 2):
                model[0].weight.grad = None
            optimizer.step()
        assert model[0].weight in optimizer.state
    records = read(tmp_path / "run")
    assert np.isnan(records.gram.wp[:, 0]).tolist() == [True, False, True, False]
    assert records.gram.ws[1, 0] == 0.0
    assert records.gram.ws[3, 0] != 0.0
    assert notes(records) == [(["0.weight"], "it had no gradient")]


def test_reading_makes_no_state(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", products=8, quiet=True):
        optimizer.step()  # no gradients at all: nothing is stepped
        assert not optimizer.state
    assert np.isnan(read(tmp_path / "run").gram.wp).all()


@pytest.mark.parametrize("products", [7, 8])
def test_skipped_steps_of_a_scaler_and_scaled_gradients(products: int, tmp_path: Path) -> None:
    """A fused optimizer unscales inside its step; the monitor sees what it used."""
    for scale, path in ((1.0, "plain"), (4.0, "scaled")):
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
        monitor = Monitor(
            model, optimizer, groups_of(model), tmp_path / path, products=products, quiet=True
        )
        with monitor:
            for step in range(5):
                optimizer.zero_grad()
                (scale * loss_of(model, step)).backward()
                if scale > 1:
                    optimizer.grad_scale = torch.tensor(scale)
                    optimizer.found_inf = torch.tensor(0.0)
                optimizer.step()
                if scale > 1 and step == 2:
                    optimizer.found_inf = torch.tensor(1.0)
                    optimizer.step()
    a, b = (read(tmp_path / path) for path in ("plain", "scaled"))
    assert a.steps.tolist() == b.steps.tolist()
    assert np.allclose(a.gram.wp, b.gram.wp, rtol=1e-4, atol=1e-6)
    assert np.isfinite(b.gram.wp).all()


def test_param_groups_that_are_added_later_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    model, extra = network(), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW(model[:4].parameters(), lr=1e-2)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 2)
        optimizer.add_param_group({"params": [extra], "betas": (0.1, 0.2)})
        train(model, optimizer, 2)
    assert np.isfinite(read(tmp_path / "run").gram.wp).all()


def test_changes_between_steps_are_in_the_next_row(tmp_path: Path) -> None:
    """Settings, a loaded checkpoint, a frozen weight, moved and lost state: wp follows each."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, amsgrad=True)
    first, second = model[0].weight, model[3].weight
    group, expected = optimizer.param_groups[0], []

    def step(frozen: nn.Parameter | None = None) -> None:
        optimizer.zero_grad()
        loss_of(model, len(expected)).backward()
        if frozen is not None:
            frozen.grad = None
        before = [first.detach().clone(), second.detach().clone()]
        optimizer.step()
        group = optimizer.param_groups[0]
        expected.append(
            [
                np.nan
                if p.grad is None
                else float(reference.pull("AdamW", group, optimizer.state[p], w, p.grad).sum())
                for p, w in zip((first, second), before, strict=True)
            ]
        )

    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        step()
        kept = copy.deepcopy(optimizer.state_dict())
        step(frozen=first)
        step()
        group["amsgrad"], group["betas"] = False, (torch.tensor(0.5), torch.tensor(0.9))
        step()
        optimizer.load_state_dict(kept)
        step()
        optimizer.state[first]["max_exp_avg_sq"].data = torch.full_like(first, 0.25)
        step()
        optimizer.param_groups[0]["weight_decay"] = torch.tensor(0.5)
        del optimizer.state[second]
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
        step()
    records = read(tmp_path / "run")
    assert np.allclose(records.gram.wp, expected, rtol=2e-5, atol=1e-5, equal_nan=True)
    assert notes(records) == [(["0.weight"], "it had no gradient")]


def test_memory_of_the_copies_is_counted(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    sizes = {}
    for products in (7, 8):
        with Monitor(
            model,
            optimizer,
            groups_of(model),
            tmp_path / str(products),
            products=products,
            quiet=True,
        ) as monitor:
            sizes[products] = sum(station.nbytes for station in monitor._stations)
    assert sizes[8] == 3 * sizes[7]


@pytest.mark.parametrize("wrong", [5, 9, 7.5, "all"])
def test_other_numbers_of_products_are_refused(wrong: object, tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with pytest.raises(InvalidArgument, match=r"Monitor\(products=...\) must be an int"):
        Monitor(model, optimizer, groups_of(model), tmp_path / "run", products=wrong)  # pyright: ignore


def test_slices_on_any_axis_of_float64_weights(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3)).double().to(memory_format=torch.channels_last)
    groups = [
        InvariantGroup(f"{axis}{i}", "plain", (Slice("0.weight", axis, i, i + 1),), (), 1)
        for axis in (0, 1)
        for i in range(2)
    ]
    optimizer = torch.optim.Adamax(model.parameters(), lr=1e-2, weight_decay=0.1)
    (w, _) = model.parameters()
    with Monitor(model, optimizer, groups, tmp_path / "run", quiet=True):
        for step in range(3):
            optimizer.zero_grad()
            x = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(step)).double()
            model(x).square().sum().backward()
            before = w.detach().clone()
            optimizer.step()
    group, state = optimizer.param_groups[0], optimizer.state[w]
    assert w.grad is not None
    px = reference.metric("Adamax", group, state) * (w.grad + 0.1 * before)
    entries = before * px
    wp = [float(entries.select(axis, i).sum()) for axis in (0, 1) for i in range(2)]
    assert np.allclose(read(tmp_path / "run").gram.wp[-1], wp, rtol=1e-11)


def test_the_table_has_every_class(tmp_path: Path) -> None:
    assert {kind_of(name) for name in SETTINGS} >= {"Adam", "AdamW", "NAdam", "RAdam", "Adamax"}
