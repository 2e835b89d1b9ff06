"""Schedules against torch's own schedulers, as tables, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import HyperParameters, Schedule

SGD = HyperParameters("sgd", lr=0.4, weight_decay=5e-4, momentum=0.9)


def torch_curve(scheduler_class, steps: int, **options) -> list[float]:
    """What torch's scheduler hands to the optimizer at each of `steps` steps."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=SGD.lr)
    scheduler = getattr(torch.optim.lr_scheduler, scheduler_class)(optimizer, **options)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize(
    ("ours", "scheduler_class", "options"),
    [
        (
            Schedule.linear_warmup(SGD, 50, 0.25),
            "LinearLR",
            {"start_factor": 0.25, "total_iters": 50},
        ),
        (Schedule.cosine(SGD, 50, 0.01), "CosineAnnealingLR", {"T_max": 50, "eta_min": 0.01}),
        (Schedule.polynomial(SGD, 50, 2.0), "PolynomialLR", {"total_iters": 50, "power": 2.0}),
        (Schedule.exponential(SGD, 50, 0.004), "ExponentialLR", {"gamma": 0.01 ** (1 / 50)}),
        (
            Schedule.step_decay(SGD, 50, [20, 30], factor=5),
            "MultiStepLR",
            {"milestones": [20, 30], "gamma": 0.2},
        ),
    ],
)
def test_curves_are_those_of_torch(ours: Schedule, scheduler_class: str, options: dict) -> None:
    np.testing.assert_allclose(ours.lr, torch_curve(scheduler_class, 50, **options), rtol=1e-9)


def test_an_epoch_schedule_changes_only_between_epochs() -> None:
    by_epoch = Schedule.cosine(SGD, 10).in_epochs(100)
    assert by_epoch.steps == 1000
    # One stair an epoch: a staircase is one varying stage.
    assert [stage.hp for stage in by_epoch.stages()] == [None]
    assert set(np.flatnonzero(np.diff(by_epoch.lr)) % 100) == {99}
    np.testing.assert_array_equal(by_epoch.lr[::100], Schedule.cosine(SGD, 10).lr)


def test_then_joins_without_a_gap_and_keeps_every_setting() -> None:
    other = HyperParameters("sgd", lr=0.1, weight_decay=1e-3, momentum=0.8)
    both = Schedule.constant(SGD, 30).then(Schedule.constant(other, 40))
    assert [(s.start, s.stop, s.hp) for s in both.stages()] == [(0, 30, SGD), (30, 70, other)]
    adamw = HyperParameters("adamw", lr=0.1)
    with pytest.raises(InvalidArgument, match="one optimizer"):
        both.then(Schedule.constant(adamw, 10))


def test_warmup_stable_decay_has_three_parts_and_may_lack_two() -> None:
    plan = Schedule.warmup_stable_decay(SGD, steps=100, warmup=30, decay=40, final_lr=0.1)
    assert plan.steps == 100
    assert plan.lr[0] == 0.0
    np.testing.assert_array_equal(plan.lr[30:61], 0.4)
    assert plan.lr[-1] == pytest.approx(0.1 + 0.3 / 40)
    bare = Schedule.warmup_stable_decay(SGD, steps=100, warmup=0, decay=0)
    np.testing.assert_array_equal(bare.lr, Schedule.constant(SGD, 100).lr)


def test_a_table_of_epochs_is_the_schedule_it_was_written_from(tmp_path) -> None:
    table = tmp_path / "plan.csv"
    table.write_text("epoch, lr, weight_decay\n0,.1,1e-4\n30,.01,1e-4\n\n60,.001,1e-3\n")
    hp = HyperParameters("sgd", lr=1.0, weight_decay=1.0, momentum=0.9)
    plan = Schedule.from_csv(table, hp, steps_per_epoch=100, steps=9000)
    assert [(s.start, s.stop) for s in plan.stages()] == [(0, 3000), (3000, 6000), (6000, 9000)]
    assert plan.at(8999).lr == 0.001
    assert plan.at(8999).weight_decay == 1e-3
    assert plan.at(8999).momentum == 0.9
    assert Schedule.from_csv(table, hp, steps_per_epoch=100).steps == 6100


def test_a_table_with_a_row_a_step_needs_no_length(tmp_path) -> None:
    table = tmp_path / "plan.csv"
    values = Schedule.cosine(SGD, 40).lr
    table.write_text("step,lr\n" + "".join(f"{i},{lr!r}\n" for i, lr in enumerate(values.tolist())))
    np.testing.assert_array_equal(Schedule.from_csv(table, SGD).lr, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("step,lr\n", "no rows"),
        ("lr,momentum\n.1,.9\n", "one column step or epoch"),
        ("step,epoch,lr\n0,0,.1\n", "one column step or epoch"),
        ("step,momentum\n0,.9\n", "no column lr"),
        ("step,lr,rate\n0,.1,1\n", "unknown columns rate"),
        ("step,lr\n0,.1\n10\n", "line 3: 2 cells expected, got 1"),
        ("step,lr\n0,fast\n", "line 2: could not convert"),
        ("step,lr\n0,.1\n5,nan\n", "line 3: lr must be finite, >= 0, got nan"),
        ("step,lr\n0,.1\n5,-1\n", "line 3: lr must be"),
        ("step,lr,momentum\n0,.1,1\n", "line 2: momentum .* < 1, got 1"),
        ("step,lr\n5,.1\n", "line 2: the first step must be 0"),
        ("step,lr\n0,.1\n9,.1\n7,.1\n", "line 4: step must increase"),
        ("step,lr\n0,.1\n1.5,.1\n", "line 3: step must be whole"),
        ("step,lr\n0,.1\n200,.1\n", "last row starts at step 200, but steps=100"),
        ("epoch,lr\n0,.1\n", "steps_per_epoch"),
    ],
)
def test_a_bad_table_is_refused_by_line(tmp_path, text: str, message: str) -> None:
    table = tmp_path / "plan.csv"
    table.write_text(text)
    with pytest.raises(InvalidArgument, match=message):
        Schedule.from_csv(table, SGD, steps=100)


def test_a_missing_or_binary_table_is_bad_input(tmp_path) -> None:
    with pytest.raises(InvalidArgument, match=r"none\.csv cannot be read"):
        Schedule.from_csv(tmp_path / "none.csv", SGD)
    (tmp_path / "noise.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Schedule.from_csv(tmp_path / "noise.csv", SGD)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Schedule.cosine(SGD, 0), r"steps=\.\.\.\) must be an int >= 1, got 0"),
        (lambda: Schedule.cosine(SGD, 10, -1.0), r"final_lr=\.\.\.\).*got -1"),
        (lambda: Schedule.polynomial(SGD, 10, 0.0), r"power=\.\.\.\).*> 0, got 0"),
        (lambda: Schedule.exponential(SGD, 10, 0.0), r"final_lr=\.\.\.\).*> 0"),
        (lambda: Schedule.linear_warmup(SGD, 10, 1.5), r"start_factor.*<= 1, got 1\.5"),
        (lambda: Schedule.step_decay(SGD, 10, [5], math.nan), r"factor=\.\.\.\).*got nan"),
        (lambda: Schedule.warmup_stable_decay(SGD, 10, 6, 6), "fit into steps=10"),
        (lambda: Schedule.constant(SGD, 5).in_epochs(0), "steps_per_epoch"),
    ],
)
def test_bad_shapes_are_refused_by_name_and_value(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()
