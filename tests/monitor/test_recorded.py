"""What is recorded is what happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from watched import OPTIMIZERS, groups_of, loss_of, network, rows_of, train

from spherical_motion.measure.reference import gram as reference_gram
from spherical_motion.monitor import Monitor
from spherical_motion.records import read
from spherical_motion.vocabulary import InvariantGroup, Slice


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_recorded_products_are_those_of_the_obvious_computation(
    name: str, layout: torch.memory_format, tmp_path: Path
) -> None:
    model = network().to(memory_format=layout)
    optimizer = OPTIMIZERS[name](model)
    names, expected = ["0.weight", "3.weight"], []
    parameters = dict(model.named_parameters())
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        for step in range(4):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            before = {n: parameters[n].detach().clone() for n in names}
            grads = {n: parameters[n].grad.clone() for n in names}
            optimizer.step()
            expected.append(
                np.concatenate(
                    [
                        reference_gram(
                            rows_of(n, before[n]), rows_of(n, parameters[n]), rows_of(n, grads[n])
                        ).to_array()
                        for n in names
                    ]
                )
            )
    records = read(tmp_path / "run")
    np.testing.assert_allclose(records.gram.to_array(), np.stack(expected), rtol=1e-9, atol=1e-12)
    group = optimizer.param_groups[0]
    assert (records.lr == group["lr"]).all()
    assert (records.weight_decay == group.get("weight_decay", 0.0)).all()


def test_maximizing_counts_the_descended_gradient(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, maximize=True)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 3)
    gram = read(tmp_path / "run").gram
    # Without momentum d = -lr·g, g being the gradient of what is minimized.
    np.testing.assert_allclose(gram.dg, -0.01 * gram.gg, rtol=1e-4)


@pytest.mark.parametrize(
    ("every", "burst", "steps"),
    [(1, None, [0, 1, 2, 3, 4, 5, 6]), (3, None, [0, 1, 3, 4, 6]), (3, 1, [0, 3, 6])],
)
def test_chosen_steps_are_measured(every, burst, steps, tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(
        model, optimizer, groups_of(model), tmp_path / "run", every=every, burst=burst, quiet=True
    ):
        train(model, optimizer, 7)
    assert read(tmp_path / "run").steps.tolist() == steps


def test_several_optimizers_step_on_their_own(tmp_path: Path) -> None:
    model = network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1, weight_decay=0.01)
    second = torch.optim.AdamW([*model[3].parameters(), *model[8].parameters()], lr=0.01)
    with Monitor(model, [first, second], groups_of(model), tmp_path / "run", quiet=True):
        for step in range(4):
            model.zero_grad()
            loss_of(model, step).backward()
            first.step()
            if step % 2:
                second.step()
    records = read(tmp_path / "run")
    assert np.isfinite(records.gram.ww).sum(axis=0).tolist() == [4, 2]
    assert records.info.hyperparameters(1).optimizer == "adamw"
    assert (records.lr[:2, 1] == 0.01).all()


def test_missing_gradients_leave_the_step_known_and_the_gradient_not(tmp_path: Path) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 3)
    gram = read(tmp_path / "run").gram
    assert (gram.dd[:, 0] == 0).all()
    assert (gram.ww[:, 0] > 0).all()
    assert np.isnan(gram.gg[:, 0]).all()
    assert (gram.gg[:, 1] > 0).all()


def test_gradients_of_a_closure_are_those_of_this_step(tmp_path: Path) -> None:
    grams = []
    for use_closure in (False, True):
        model = network()
        optimizer = OPTIMIZERS["momentum"](model)
        directory = tmp_path / str(use_closure)
        with Monitor(model, optimizer, groups_of(model), directory, quiet=True):
            for step in range(3):

                def closure(step: int = step, model: nn.Module = model, o=optimizer):
                    o.zero_grad()
                    loss = loss_of(model, step)
                    loss.backward()
                    return loss

                if use_closure:
                    optimizer.step(closure)
                else:
                    closure()
                    optimizer.step()
        grams.append(read(directory).gram.to_array())
    np.testing.assert_array_equal(grams[0], grams[1])


def test_accumulated_gradients_make_one_step(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True) as monitor:
        for step in range(6):
            loss_of(model, step).backward()
            if step % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
        assert monitor.step == 2
    gram = read(tmp_path / "run").gram
    np.testing.assert_allclose(gram.dg, -0.01 * gram.gg, rtol=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_a_grad_scaler_skips_are_none(fused: bool, tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            if step == 1:
                model[0].weight.grad.fill_(float("inf"))
            scaler.step(optimizer)
            scaler.update()
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 1, 2]
    kinds = [e["kind"] for e in records.events if e["kind"] != "closed"]
    assert kinds == (["skipped"] if fused else [])
    # Gradients are recorded as the optimizer used them, with the scale taken out.
    np.testing.assert_allclose(records.gram.dg, -0.01 * records.gram.gg, rtol=1e-4)


def test_non_finite_weights_are_an_event_and_a_gap(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        for step in range(6):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            if step == 3:
                model[0].weight.grad.fill_(float("nan"))
            optimizer.step()
    records = read(tmp_path / "run")
    assert np.isfinite(records.angle()[:3]).all()
    assert np.isnan(records.angle()[3:, 0]).all()
    events = [e for e in records.events if e["kind"] == "non_finite"]
    # The first layer's weights at once, the second's from the NaN that reaches them a step later.
    assert [(e["step"], e["slices"]) for e in events] == [(3, [0]), (4, [1])]


def test_settings_are_followed_and_a_lasting_change_is_an_event(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [25, 26, 60], 0.5)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", every=10, quiet=True):
        for _ in range(70):
            train(model, optimizer, 1)
            scheduler.step()
    records = read(tmp_path / "run")
    changed = [(e["step"], e["lr"]) for e in records.events if e["kind"] == "rate_changed"]
    assert changed == [(25, 0.05), (60, 0.0125)]
    stages = records.schedule("0").stages()
    assert stages[0].stop == 25
    assert records.lr[:, 0].tolist() == [0.1] * 6 + [0.025] * 6 + [0.0125] * 2


def test_scalars_and_events_of_the_loop_are_kept(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True) as monitor:
        for step in range(3):
            train(model, optimizer, 1)
            total = torch.tensor(float(step), requires_grad=True)
            monitor.log(loss=total, accuracy=0.5, **{"odd": "no number"})
        monitor.event("rescaled", factor=0.5)
    records = read(tmp_path / "run")
    assert records.scalars["loss"].steps.tolist() == [0, 1, 2]
    assert records.scalars["loss"].values.tolist() == [0.0, 1.0, 2.0]
    assert "odd" not in records.scalars
    kinds = [e["kind"] for e in records.events]
    assert "rescaled" in kinds
    assert "skipped" in kinds


def test_a_logged_tensor_that_is_reused_keeps_the_value_it_had(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    running = torch.zeros(())
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True) as monitor:
        for _ in range(3):
            train(model, optimizer, 1)
            running += 1
            monitor.log(running=running)
    assert read(tmp_path / "run").scalars["running"].values.tolist() == [1.0, 2.0, 3.0]


def test_cells_are_recorded_at_their_own_pace_and_add_up_to_their_group(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    groups = []
    for name, axis, count in (("0.weight", 0, 6), ("3.weight", 1, 4)):
        cells = tuple((Slice(name, axis, i, i + 1),) for i in range(count))
        numel = dict(model.named_parameters())[name].numel()
        whole = (Slice(name, axis, 0, count),)
        groups.append(InvariantGroup(name, "scale", whole, cells, numel, 1e-5))
    with Monitor(
        model, optimizer, groups, tmp_path / "run", every=3, burst=1, cells_every=4, quiet=True
    ):
        train(model, optimizer, 9)
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 3, 4, 6, 8]
    for index, group in enumerate(groups):
        steps, cells = records.cells(group.name)
        assert steps.tolist() == [0, 4, 8]
        assert cells.shape == (3, len(group.cells))
        at = np.searchsorted(records.steps, steps)
        np.testing.assert_allclose(
            cells.sum(axis=1).to_array(), records.gram[at, index].to_array(), rtol=1e-9, atol=1e-14
        )


def test_a_run_without_cells_has_none(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 2)
    assert read(tmp_path / "run").cells("0").gram.shape == (0, 0)
    assert not (tmp_path / "run" / "cells").exists()


def test_settings_are_recorded_at_each_change_sampled_or_not(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    rates = []
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", every=9, quiet=True):
        for step in range(40):
            if step in (17, 18):
                optimizer.param_groups[0]["weight_decay"] = 0.0 if step == 17 else 0.125
            rates.append(optimizer.param_groups[0]["lr"])
            train(model, optimizer, 1)
            if step >= 10:  # ten steps at one rate take one row
                scheduler.step()
    records = read(tmp_path / "run")
    schedule = records.schedule("0")
    assert schedule.lr.tolist() == rates[: len(schedule.lr)]
    assert len(schedule.lr) == records.steps[-1] + 1 == 38
    assert schedule.weight_decay[16:20].tolist() == [schedule.weight_decay[0], 0.0, 0.125, 0.125]
    assert records.changes is not None
    assert records.changes["step"].tolist() == [0, *range(11, 40)]
    np.testing.assert_array_equal(records.lr[:, 0], np.array(rates)[records.steps])


def test_a_step_that_was_skipped_leaves_the_settings_of_the_next(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        for attempt in range(4):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = 0.01 * (attempt + 1)
            scaler.scale(loss_of(model, attempt)).backward()
            if attempt == 1:
                model[0].weight.grad.fill_(float("inf"))
            scaler.step(optimizer)
            scaler.update()
    assert read(tmp_path / "run").lr[:, 0].tolist() == [0.01, 0.03, 0.04]
