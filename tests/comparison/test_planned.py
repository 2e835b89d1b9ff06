"""A plan beside the rates used: schedules that went wrong in known ways are named."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spherical_motion.comparison.laws.planned import PlannedRun, compared
from spherical_motion.comparison.whole.own_laws import OwnLaws
from spherical_motion.vocabulary import HyperParameters, Schedule, Stage

HP = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
STEPS = 600

PLANS = {
    "steps": Schedule.step_decay(HP, STEPS, [200, 400]),
    "cosine": Schedule.cosine(HP, STEPS),
    "warm-up and cosine": Schedule.linear_warmup(HP, 50).then(Schedule.cosine(HP, STEPS - 50)),
    "wsd": Schedule.warmup_stable_decay(HP, STEPS, 60, 120),
    "epochs": Schedule.cosine(HP, 12).in_epochs(50),
    "exponential": Schedule.exponential(HP, STEPS, 1e-4),
}


def used(lr: np.ndarray, start: int = 0, weight_decay: float = 5e-4) -> Schedule:
    return Schedule(HP, lr, np.full(len(lr), weight_decay), start=start, recorded=True)


def read_at(plan: Schedule, at: np.ndarray) -> np.ndarray:
    return plan.lr[np.clip(at, 0, plan.steps - 1)]


T = np.arange(STEPS)


@pytest.mark.parametrize("name", PLANS)
def test_rates_as_planned(name: str) -> None:
    plan = PLANS[name]
    for shift in (-1, 0, 1):  # one step is a matter of definition
        found = compared(plan, used(read_at(plan, T + shift)))
        assert found.as_planned
        assert found.steps == STEPS
    assert compared(plan, used(read_at(plan, T) * (1 + 1e-6))).as_planned


@pytest.mark.parametrize("name", ["steps", "cosine", "warm-up and cosine", "wsd", "exponential"])
@pytest.mark.parametrize("times", [2, 3, 10])
def test_a_scheduler_stepped_too_often(name: str, times: int) -> None:
    plan = PLANS[name]
    found = compared(plan, used(read_at(plan, times * T)))
    assert found.how.times == times
    assert found.how.factor == 1.0
    assert found.how.since == 0
    assert 0 < found.first < STEPS / times


def test_a_scheduler_stepped_twice_an_epoch() -> None:
    plan = PLANS["epochs"]
    found = compared(plan, used(read_at(plan, 100 * (T // 50) + T % 50)))
    assert (found.how.times, found.first) == (2.0, 50)


@pytest.mark.parametrize("name", ["cosine", "warm-up and cosine", "wsd", "exponential"])
@pytest.mark.parametrize("every", [5, 20])
def test_a_scheduler_stepped_too_rarely(name: str, every: int) -> None:
    plan = PLANS[name]
    found = compared(plan, used(read_at(plan, T // every)))
    assert found.how.times == pytest.approx(1 / every)


@pytest.mark.parametrize("name", ["steps", "cosine", "wsd"])
def test_a_scheduler_that_is_never_stepped(name: str) -> None:
    plan = PLANS[name]
    found = compared(plan, used(np.full(STEPS, plan.lr[0])))
    assert found.how.times == 0.0


@pytest.mark.parametrize("name", ["steps", "cosine", "warm-up and cosine", "exponential"])
@pytest.mark.parametrize("late", [30, -30])
def test_a_schedule_that_runs_late_or_early(name: str, late: int) -> None:
    plan = PLANS[name]
    found = compared(plan, used(read_at(plan, T - late)))
    assert found.how.late == late
    assert math.isnan(found.how.times)


@pytest.mark.parametrize("name", sorted(PLANS.keys() - {"exponential"}))  # its shifts are factors
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_rates_of_another_size(name: str, factor: float) -> None:
    plan = PLANS[name]
    found = compared(plan, used(factor * plan.lr))
    assert found.how.factor == pytest.approx(factor)
    assert (found.how.late, math.isnan(found.how.times)) == (0, True)


def test_twice_as_often_and_of_another_size() -> None:
    plan = PLANS["warm-up and cosine"]
    found = compared(plan, used(3 * read_at(plan, 2 * T)))
    assert found.how.times == 2.0
    assert found.how.factor == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("name", ["cosine", "steps"])
def test_a_scheduler_stepped_twice_from_some_step_on(name: str) -> None:
    plan, onset = PLANS[name], 150
    at = np.where(onset > T, T, onset + 2 * (T - onset))
    found = compared(plan, used(read_at(plan, at)))
    assert found.how.times == 2.0
    assert abs(found.how.since - onset) <= 1
    assert found.first >= onset


def test_what_nothing_explains() -> None:
    plan = PLANS["cosine"]
    noise = np.random.default_rng(0).uniform(0.5, 1.5, STEPS)
    found = compared(plan, used(noise * plan.lr))
    assert math.isnan(found.how.factor)
    assert found.first is not None
    assert found.used == pytest.approx(noise[found.farthest] * found.planned)


def test_only_steps_that_both_have_are_compared() -> None:
    plan = PLANS["cosine"]
    resumed = used(plan.lr[300:], start=300)
    assert compared(plan, resumed).steps == 300
    assert compared(plan, resumed).as_planned
    longer = used(np.concatenate([plan.lr, np.full(99, 7.0)]))
    assert compared(plan, longer).as_planned
    assert compared(plan, used(plan.lr, start=STEPS)).steps == 0


def test_other_settings() -> None:
    found = compared(PLANS["cosine"], used(PLANS["cosine"].lr, weight_decay=0.0))
    assert found.as_planned
    assert found.weight_decay == (0, 5e-4, 0.0)
    assert found.momentum is None


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("kind", ["cosine", "one-cycle", "warm-up", "multi-step"])
def test_schedulers_of_torch(kind: str, times: int) -> None:
    lrs = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler, plan = {
        "cosine": lambda: (lrs.CosineAnnealingLR(optimizer, STEPS), Schedule.cosine(HP, STEPS)),
        "one-cycle": lambda: (lrs.OneCycleLR(optimizer, 0.1, total_steps=2 * STEPS + 1), None),
        "warm-up": lambda: (
            lrs.LinearLR(optimizer, 0.1, total_iters=STEPS),
            Schedule.linear_warmup(HP, STEPS, start_factor=0.1),
        ),
        "multi-step": lambda: (
            lrs.MultiStepLR(optimizer, [200, 400]),
            Schedule.step_decay(HP, STEPS, [200, 400]),
        ),
    }[kind]()
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        for _ in range(times):
            optimizer.step()
            scheduler.step()
    if plan is None:
        if times == 1:
            return
        twin = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        once = lrs.OneCycleLR(twin, 0.1, total_steps=2 * STEPS + 1)
        values = []
        for _ in range(2 * STEPS):
            values.append(twin.param_groups[0]["lr"])
            twin.step()
            once.step()
        plan = Schedule(HP, values)
    found = compared(plan, used(np.array(rates)))
    if times == 1:
        assert found.as_planned
    elif kind == "cosine":  # past its end torch's cosine rises again
        assert found.how.times == 2.0 or math.isnan(found.how.factor)
        assert found.first < 10
    else:
        assert found.how.times == 2.0


class Recorded:
    """The settings of groups `a`, `b`, ... beside a plan, each in a param group of its own."""

    def __init__(self, plan: Schedule, *rates: np.ndarray) -> None:
        self.groups = tuple("abc"[: len(rates)])
        self.lr, self._rates = np.stack(rates, axis=1), rates
        self.main_slices = range(len(rates))
        slices = range(len(rates))
        self.info = SimpleNamespace(planned=plan, slice_param_group=slices, parameters=())

    def index(self, group: str) -> int:
        return self.groups.index(group)

    def schedule(self, group: str) -> Schedule:
        return used(self._rates[self.index(group)])


@pytest.mark.parametrize(
    ("rates", "meant"),
    [
        (0.3 * PLANS["cosine"].lr, True),
        (0.02 * (1.0 + np.sin(0.1 * T) ** 2), True),
        (read_at(PLANS["cosine"], 2 * T), False),
        (np.where(T < 300, PLANS["cosine"].lr, 0.02 * (2.0 + np.sin(T))), False),
    ],
)
def test_a_plan_speaks_of_the_param_groups_that_follow_it(rates, meant: bool) -> None:
    plan = PLANS["cosine"]
    beside = PlannedRun(Recorded(plan, plan.lr, rates))
    found = beside.of("b")
    assert not found.as_planned
    assert beside.meant(found) == meant
    alone = PlannedRun(Recorded(plan, rates))
    assert not alone.meant(alone.of("a"))


@pytest.mark.parametrize("gamma", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("stop", [250, STEPS])
def test_a_constant_part_of_a_plan_that_falls_by_as_much_is_meant(gamma: float, stop: int) -> None:
    """Its first steps look like the plan's later ones, as if the schedule ran early."""
    plan = Schedule.step_decay(HP, STEPS, [300], 1.0 / gamma)
    beside = PlannedRun(Recorded(plan, plan.lr[:stop], gamma * plan.lr[:stop]))
    found = beside.of("b")
    assert (found.how.factor, found.how.late) == (pytest.approx(gamma), 0)
    assert beside.meant(found)
    alone = PlannedRun(Recorded(plan, gamma * plan.lr[:stop]))
    assert not alone.meant(alone.of("a"))


def test_the_largest_gap_and_the_last_step_are_given() -> None:
    plan = PLANS["cosine"]
    rates = plan.lr.copy()
    rates[100:200] *= np.linspace(1.001, 1.4, 100)
    found = compared(plan, used(rates))
    gaps = np.abs(rates - plan.lr)
    assert found.farthest == np.argmax(gaps)
    assert (found.used - found.planned) == pytest.approx(gaps.max())
    assert found.last == 199
    assert 100 <= found.first < 110


def test_a_plan_that_is_kept_again_is_no_matter_of_later_stages() -> None:
    plan = PLANS["steps"]
    rates = plan.lr.copy()
    rates[50:90] *= 0.5
    own = OwnLaws(Recorded(plan, rates))
    stages = [Stage(0, 200, None), Stage(200, 400, None), Stage(400, 600, None)]
    assert [own.plan("a", stage) is not None for stage in stages] == [True, False, False]
