"""What is recorded is what happened, and what happened is what would have happened anyway."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion.errors import (
    AlreadyAttached,
    InvalidArgument,
    NoInvariantGroup,
    RecordingStopped,
    RunDirectoryError,
    RunExists,
)
from spherical_motion.measure.reference import gram as reference_gram
from spherical_motion.monitor import Monitor, watch
from spherical_motion.records import read
from spherical_motion.vocabulary import InvariantGroup, Slice


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )


def groups_of(model: nn.Module) -> list[InvariantGroup]:
    """The convolutions of `network`, by hand."""
    rows = Slice("0.weight", 0, 0, 6)
    columns = Slice("3.weight", 1, 0, 4)
    return [
        InvariantGroup("0", "scale", (rows,), ((rows,),), 54, 1e-5),
        InvariantGroup("3", "scale", (columns,), ((columns,),), 216, 1e-5),
    ]


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return (
        torch.randn(8, 1, 6, 6, generator=generator),
        torch.randint(3, (8,), generator=generator),
    )


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    x, y = batch(step)
    return nn.functional.cross_entropy(model(x), y)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: torch.optim.SGD(
        m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, dampening=0.1
    ),
    "nesterov": lambda m: torch.optim.SGD(
        m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True
    ),
    "foreach": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, foreach=True),
    "fused": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, fused=True),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2, weight_decay=0.01),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.1),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3),
}


# Training is never changed


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("every", [1, 3])
def test_weights_are_bit_identical_with_and_without(name: str, every: int, tmp_path: Path) -> None:
    plain = network()
    train(plain, OPTIMIZERS[name](plain), 7)
    watched = network()
    optimizer = OPTIMIZERS[name](watched)
    with watch(watched, optimizer, batch(0)[0], tmp_path / "run", every=every, quiet=True):
        # Finding the groups has drawn no random numbers either: dropout repeats.
        train(watched, optimizer, 7)
    for a, b in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_hooks_are_gone_after_closing(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 2)
    monitor.close()
    monitor.close()
    train(model, optimizer, 2)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert read(tmp_path / "run").steps.tolist() == [0, 1]
    assert "closed" in repr(monitor)


def test_a_watched_optimizer_can_still_be_copied_and_saved(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 1)
        twin = copy.deepcopy(optimizer)
        torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    assert not twin._optimizer_step_pre_hooks


def test_no_monitor_failure_reaches_the_loop_and_one_warning_tells(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 2)
    model.double()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(3):
            x, y = batch(step)
            nn.functional.cross_entropy(model(x.double()), y).backward()
            optimizer.step()
    assert [w.category for w in caught] == [RecordingStopped]
    assert "Training goes on" in str(caught[0].message)
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 1]
    assert "stopped" in [event["kind"] for event in records.events]


def test_even_warnings_as_errors_do_not_stop_training(tmp_path: Path, capfd) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    model.double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, y = batch(0)
        nn.functional.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
    assert "stopped recording" in capfd.readouterr().err


def test_a_full_disk_stops_recording_and_not_training(tmp_path: Path, monkeypatch) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 3)
    monitor.flush()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    train(model, optimizer, 3)
    with pytest.warns(RecordingStopped, match="No space left"):
        monitor.flush()
    train(model, optimizer, 3)
    monitor.close()
    monkeypatch.undo()
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2]


def test_a_forked_process_records_nothing(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: the very point
        child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        monitor.log(loss=1.0)
        monitor.close()
        os._exit(0 if optimizer._optimizer_step_pre_hooks else 1)
    assert os.waitpid(child, 0)[1] == 0
    train(model, optimizer, 1)
    monitor.close()
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2]


# What is recorded is right


def rows_of(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(1, -1)


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


# Resuming


def test_resuming_appends_and_the_later_record_of_a_step_wins(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    directory, groups = tmp_path / "run", groups_of(model)
    with Monitor(model, optimizer, groups, directory, quiet=True):
        train(model, optimizer, 5)
    first = read(directory).gram.to_array()
    with Monitor(model, optimizer, groups, directory, resume=True, quiet=True) as monitor:
        assert monitor.step == 5
        train(model, optimizer, 2)
    with Monitor(
        model, optimizer, groups, directory, resume=True, first_step=3, quiet=True
    ) as monitor:
        train(model, optimizer, 1)
    records = read(directory)
    assert records.steps.tolist() == list(range(7))
    np.testing.assert_array_equal(records.gram.to_array()[:3], first[:3])
    assert not np.array_equal(records.gram.to_array()[3], first[3])
    assert [e["step"] for e in records.events if e["kind"] == "resumed"] == [5, 3]


# Bad input


def test_bad_arguments_name_the_remedy_and_leave_nothing_behind(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    groups, where = groups_of(model), tmp_path / "run"
    other = OPTIMIZERS["momentum"](network())
    bad: list[tuple[dict, str]] = [
        ({"every": 0}, r"every=\.\.\.\) must be an int >= 1, got 0. Use every=1"),
        ({"every": 2.5}, "got 2.5"),
        ({"every": 2, "burst": 3}, "at most every=2, got 3"),
        ({"cells_every": -1}, "cells_every"),
        ({"steps": 0}, "steps"),
        ({"first_step": -3}, "first_step"),
        ({"first_step": "3"}, "got '3'"),
        ({"groups": []}, "find_groups"),
        ({"optimizers": []}, "at least one optimizer"),
        ({"optimizers": "sgd"}, "expects a torch.optim.Optimizer"),
        ({"optimizers": other}, "stepped by none of the optimizers"),
        ({"optimizers": [optimizer, optimizer]}, "2 param groups"),
        ({"model": nn.Linear(2, 2)}, "'0.weight', which this model does not have"),
        (
            {"groups": [InvariantGroup("0", "scale", (Slice("0.weight", 0, 0, 9),), (), 9)]},
            "does not fit a parameter of shape",
        ),
        (
            {"groups": [InvariantGroup("0", "scale", (Slice("0.weigth", 0, 0, 6),), (), 9)]},
            "Closest: 0.weight",
        ),
    ]
    for change, message in bad:
        arguments = {"model": model, "optimizers": optimizer, "groups": groups} | change
        with pytest.raises(InvalidArgument, match=message):
            Monitor(directory=where, quiet=True, **arguments)
        assert not where.exists()
        assert not optimizer._optimizer_step_pre_hooks


def test_half_precision_weights_are_refused_at_attach(tmp_path: Path) -> None:
    model = network().half()
    optimizer = OPTIMIZERS["sgd"](model)
    with pytest.raises(InvalidArgument, match="float16"):
        Monitor(model, optimizer, groups_of(model), tmp_path / "run")


def test_attaching_twice_names_the_first(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    first = Monitor(model, optimizer, groups_of(model), tmp_path / "first", quiet=True)
    with pytest.raises(AlreadyAttached, match="first"):
        Monitor(model, optimizer, groups_of(model), tmp_path / "second")
    assert not (tmp_path / "second").exists()
    first.close()
    Monitor(model, optimizer, groups_of(model), tmp_path / "second", quiet=True).close()


def test_an_existing_run_is_refused_and_not_touched(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 2)
    with pytest.raises(RunExists, match="resume"):
        Monitor(model, optimizer, groups_of(model), tmp_path / "run")
    assert not optimizer._optimizer_step_pre_hooks
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError):
        Monitor(model, optimizer, groups_of(model), tmp_path / "full")
    assert len(read(tmp_path / "run").steps) == 2


def test_a_model_without_groups_says_so(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = OPTIMIZERS["sgd"](model)
    with pytest.raises(NoInvariantGroup):
        watch(model, optimizer, torch.randn(8, 4), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_attaching_says_what_it_will_cost(tmp_path: Path, capsys) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    Monitor(model, optimizer, groups_of(model), tmp_path / "run", every=10, steps=450_000).close()
    line = capsys.readouterr().err
    assert "2 groups" in line
    assert "2 of every 10 steps" in line
    assert "7.56 MB for 450,000 steps" in line


def test_a_directory_is_made_up_if_none_is_given(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), quiet=True) as monitor:
        train(model, optimizer, 1)
    assert monitor.directory.parent == Path("runs")
    assert len(read(monitor.directory).steps) == 1


# Cells


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


# Going on after an interruption


def test_a_run_goes_on_with_the_groups_it_began_with(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with watch(model, optimizer, batch(0)[0], tmp_path / "run", quiet=True) as monitor:
        train(model, optimizer, 3)
        groups = monitor.groups
    with torch.no_grad():  # a channel dies: probing now would certify fewer rows
        model[1].weight[2], model[1].bias[2] = 0.0, -50.0
    with watch(model, optimizer, batch(0)[0], tmp_path / "run", resume=True, quiet=True) as monitor:
        assert monitor.groups == groups
        train(model, optimizer, 2)
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2, 3, 4]


def test_a_closed_run_goes_on_where_each_optimizer_was(tmp_path: Path) -> None:
    model = network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD([*model[3].parameters(), *model[8].parameters()], lr=0.1)
    directory, groups = tmp_path / "run", groups_of(model)

    def go(steps: int) -> None:
        for step in range(steps):
            model.zero_grad()
            loss_of(model, step).backward()
            first.step()
            if step % 3 == 0:
                second.step()
            monitor.log(loss=step)

    with Monitor(model, [first, second], groups, directory, every=10, quiet=True) as monitor:
        go(19)
    with Monitor(
        model, [first, second], groups, directory, every=10, resume=True, quiet=True
    ) as monitor:
        assert [station.step for station in monitor._stations] == [19, 7]
        go(1)
    assert read(directory).scalars["loss"].steps.tolist() == list(range(20))


def test_a_change_of_rate_that_was_gone_back_on_is_forgotten(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    directory, groups = tmp_path / "run", groups_of(model)
    with Monitor(model, optimizer, groups, directory, every=100, quiet=True):
        train(model, optimizer, 30)
        optimizer.param_groups[0]["lr"] = 1.0
        train(model, optimizer, 20)
    optimizer.param_groups[0]["lr"] = 0.1
    with Monitor(
        model, optimizer, groups, directory, every=100, resume=True, first_step=25, quiet=True
    ):
        train(model, optimizer, 80)
    assert read(directory).schedule("0").stages()[0].hp.lr == 0.1
    assert len(read(directory).schedule("0").stages()) == 1


def test_each_param_group_has_its_own_changes(tmp_path: Path) -> None:
    model = network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[3].parameters(), lr=0.2)
    with Monitor(model, [first, second], groups_of(model), tmp_path / "run", every=100, quiet=True):
        first.add_param_group({"params": list(model[8].parameters()), "lr": 0.5})
        for step in range(110):
            if step == 15:
                second.param_groups[0]["lr"] = 0.02
            first.param_groups[0]["lr"] = 0.1 + step * 1e-6
            if step == 50:
                first.param_groups[1]["lr"] = 7.0
            first.step()
            second.step()
    stages = read(tmp_path / "run").schedule("3").stages()
    assert [(s.stop, s.hp and s.hp.lr) for s in stages] == [(15, None), (102, 0.02)]


def test_a_setting_that_no_schedule_touches_is_an_event_when_it_changes(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    optimizer.param_groups[0]["dampening"] = 0
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 2)
        optimizer.param_groups[0]["nesterov"] = True
        train(model, optimizer, 2)
    events = [e for e in read(tmp_path / "run").events if e["kind"] == "settings_changed"]
    assert [(e["step"], e["changed"]) for e in events] == [(2, {"nesterov": True})]


def test_events_of_the_loop_may_use_any_names(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True) as monitor:
        monitor.event("mine", kind="odd", time=5)
    event = read(tmp_path / "run").events[0]
    assert (event["kind"], event["kind_"], event["time_"]) == ("mine", "odd", 5)
