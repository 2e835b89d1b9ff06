"""A plan that goes on from a run, held against the walk that really goes on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pulled import pulled_adam, pulled_sgd
from simulated import constant

from spherical_motion import Schedule, read, theory
from spherical_motion.comparison import compare
from spherical_motion.errors import InvalidArgument
from spherical_motion.forecasting import Outcome, StageForecast, forecast
from spherical_motion.sphere import angle
from spherical_motion.vocabulary import Gram, HyperParameters

HP = HyperParameters("sgd", lr=0.1, weight_decay=0.0002, momentum=0.9)
KAPPA = 0.0006
BEFORE, AFTER = 400, 4000


def walk(kappa: float = KAPPA, norm0: float = 10.0) -> np.ndarray:
    """Gradients of size 1/|w| and a loss that pulls by `kappa`: at rest near norm 5."""
    return pulled_sgd(constant(0.1, 0.0002, 0.9, BEFORE + AFTER), kappa, norm0=norm0)


def going_on(write_run, products: np.ndarray, kind: str = "scale") -> StageForecast:
    settings = constant(0.1, 0.0002, 0.9, BEFORE)
    records = read(write_run({"head": products[:BEFORE]}, settings, kind=kind))
    return forecast(Schedule.constant(HP, AFTER), pull=records, group="head")[0]


@pytest.mark.parametrize("norm0", [10.0, 2.0])  # far above and below its norm at rest
def test_it_ends_where_the_walk_ends(norm0: float, write_run) -> None:
    products = walk(norm0=norm0)
    found = going_on(write_run, products)
    norms, squares = np.sqrt(products[:, 0]), angle(Gram.from_array(products)) ** 2
    rest, turned = norms[-2000:].mean(), math.sqrt(squares[-2000:].mean())
    assert found.norm_start == pytest.approx(norms[BEFORE], rel=1e-12)
    assert found.norm_at_rest == pytest.approx(rest, rel=0.05)
    assert found.norm_end == pytest.approx(rest, rel=0.05)
    assert found.equilibrium_angle == pytest.approx(turned, rel=0.03)
    # The angle goes as |w|^-2, so that it is within 5% where the norm is within 2.5%.
    away = np.flatnonzero(np.abs(norms[:-2000] / rest - 1.0) > 0.025)
    assert found.settles
    assert found.steps_needed == pytest.approx(away[-1] + 1 - BEFORE, rel=0.25)
    assert "throughout" not in str(found)


def test_it_says_what_the_doors_of_theory_say(write_run) -> None:
    products = walk()
    found = going_on(write_run, products)
    late = products[300:BEFORE]
    doors = {
        "step_ratio": math.sqrt(late[:, 2].sum() / late[:, 0].sum()),
        "pull": 0.0002 + KAPPA,
    }
    norm = math.sqrt(late[:, 0].mean())
    assert found.norm_at_rest == pytest.approx(theory.pulled_norm(HP, norm=norm, **doors), rel=0.02)
    # The doors start where the steps were measured, the plan where the run ended.
    needed = theory.steps_to_rest_with_pull(HP, **doors)
    assert needed - 100 < found.steps_needed < needed
    assert found.equilibrium_angle == pytest.approx(theory.pulled_angle(HP, 0.0008), rel=0.02)


def test_a_run_at_rest_stays_there(write_run) -> None:
    products = pulled_sgd(constant(0.1, 0.02, 0.9, 1500), norm0=1.1)[-600:]
    settings = constant(0.1, 0.02, 0.9, 600)
    records = read(write_run({"head": products}, settings))
    hp = HyperParameters("sgd", lr=0.1, weight_decay=0.02, momentum=0.9)
    found = forecast(Schedule.constant(hp, 500), pull=records, group="head")
    assert not found.assumed
    assert "where the run ended after step 599" in found.start
    assert found[0].settles
    assert found[0].angle_start == pytest.approx(found[0].equilibrium_angle, rel=0.1)


def test_only_plain_weights_are_a_guess(write_run) -> None:
    products = walk()
    plain, proven = (going_on(write_run, products, kind) for kind in ("plain", "scale"))
    assert str(plain).endswith("A guess: the pull itself changes with the norm.")
    assert "guess" not in str(proven)
    for text in (str(plain), str(proven)):
        assert "pull 0.0008 (0.0008 to 0.0008); equilibrium" in text
        assert f"at norm {plain.norm_at_rest:.3g}; within 5% of it after" in text


def test_an_outward_loss_lets_the_norm_grow_at_least_so_far(write_run) -> None:
    products = walk(kappa=-0.0004)
    found = going_on(write_run, products)
    assert found.outcome is Outcome.NO_EQUILIBRIUM
    assert math.sqrt(products[BEFORE, 0]) < found.norm_end < math.sqrt(products[-1, 0])
    assert "nothing holds the norm" in str(found)
    assert "at least" in str(found)
    # The pull of plain weights changes on the way, so neither is certain.
    plain = str(going_on(write_run, products, "plain"))
    assert "nothing holds the norm while that lasts" in plain
    assert "at least" not in plain


def test_a_pull_that_may_be_zero_is_said_to_be_so(write_run) -> None:
    products = walk(kappa=-0.0001)
    noise = np.random.default_rng(0).standard_normal(BEFORE)
    products[:BEFORE, 3] += (0.002 * noise - 0.002 * noise[300:].mean()) * products[:BEFORE, 0]
    found = going_on(write_run, products)
    assert found.pull == pytest.approx(0.0001, rel=1e-9)
    assert found.pull_low < 0 < found.pull_high
    assert found.equilibrium_low == 0.0
    assert found.equilibrium_low < found.equilibrium_angle < found.equilibrium_high
    assert "the pull may be 0 or below, and then nothing comes to rest" in str(found)


def test_the_pull_is_that_of_the_last_steps(write_run) -> None:
    # The loss turns from outward to inward, as it does where a norm has grown enough.
    parts = [
        pulled_sgd(constant(0.1, 0.0002, 0.9, 600), -0.01, norm0=0.5),
        pulled_sgd(constant(0.1, 0.0002, 0.9, 400), 0.006, norm0=1.5),
    ]
    records = read(
        write_run({"head": np.concatenate(parts)}, constant(0.1, 0.0002, 0.9, 1000), kind="plain")
    )
    found = forecast(Schedule.constant(HP, 100), pull=records, group="head")[0]
    assert found.pull == pytest.approx(0.0062, rel=1e-9)
    heavier = HyperParameters("sgd", lr=0.1, weight_decay=0.0052, momentum=0.9)
    found = forecast(Schedule.constant(heavier, 100), pull=records, group="head")[0]
    assert found.pull == pytest.approx(0.0112, rel=1e-9)


def test_what_the_user_gives_counts_before_the_run(write_run) -> None:
    settings = constant(0.1, 0.0002, 0.9, BEFORE)
    records = read(write_run({"head": walk()[:BEFORE]}, settings))
    plan = Schedule.constant(HP, 100)
    given = {"pull": records, "group": "head", "unit_grad_sq": 7.0}
    found = forecast(plan, 2.5, **given)
    assert found.start == "the given norm"
    assert found[0].norm_end == forecast(plan, 2.5, pull=0.0008, unit_grad_sq=7.0)[0].norm_end


def test_adam_with_l2_keeps_its_decay(write_run) -> None:
    settings = constant(1e-2, 0.05, 0.9, 1500)
    products = pulled_adam(settings, 0.05, decoupled=False, beta2=0.999, norm0=4.5)
    told = {"class": "Adam", "betas": [0.9, 0.999]}
    records = read(write_run({"head": products[:500]}, settings[:500], optimizer=told))
    hp = HyperParameters("adam", lr=1e-2, weight_decay=0.05, betas=(0.9, 0.999))
    found = forecast(Schedule.constant(hp, 1000), pull=records, group="head")[0]
    late = products[388:500]  # a quarter of the 450 judged steps
    assert found.pull == pytest.approx((late[:, 6] / late[:, 0]).mean(), rel=1e-9)
    assert found.norm_end == pytest.approx(math.sqrt(products[-1, 0]), rel=0.15)
    assert found.guess  # the preconditioner changes with the norm
    other = HyperParameters("adam", lr=1e-2, weight_decay=0.1, betas=(0.9, 0.999))
    with pytest.raises(InvalidArgument, match=r"keep the weight decay of the run, 0\.05"):
        forecast(Schedule.constant(other, 100), pull=records, group="head")


def test_a_run_of_another_optimizer_or_without_motion_is_refused(write_run) -> None:
    settings = constant(0.1, 0.0002, 0.9, BEFORE)
    products = walk()[:BEFORE]
    adamw = HyperParameters("adamw", lr=1e-2, weight_decay=0.1, momentum=0.9)
    records = read(write_run({"head": products}, settings))
    with pytest.raises(InvalidArgument, match="sgd trained the run, the plan is for adamw"):
        forecast(Schedule.constant(adamw, 100), pull=records, group="head")
    still = products * [1, 0, 0, 0, 0, 0]
    records = read(write_run({"head": still}, settings))
    with pytest.raises(InvalidArgument, match="never moved"):
        forecast(Schedule.constant(HP, 100), pull=records, group="head")


def drifting(step: int) -> float:
    """A pull of the loss that turns from outward to inward, with noise."""
    return 0.002 * math.sin(13.0 * step) + 0.01 * (step / 1000 - 0.4)


STAGES = constant(0.1, 0.002, 0.9, 700) + constant(0.02, 0.002, 0.9, 500)
RUNS = {
    "every step": (pulled_sgd(STAGES, drifting), STAGES, {}),
    "bursts of two": (
        pulled_sgd(STAGES, drifting),
        STAGES,
        {"steps": [i for i in range(1200) if i % 5 < 2]},
    ),
    "skipped by the optimizer": (
        pulled_sgd(STAGES, drifting, skips=lambda step: step % 3 == 1),
        STAGES,
        {},
    ),
    "short": (pulled_sgd(STAGES[:90], drifting), STAGES[:90], {}),
    "AdamW": (
        pulled_adam(constant(1e-2, 0.1, 0.9, 800), 0.05),
        constant(1e-2, 0.1, 0.9, 800),
        {"optimizer": {"class": "AdamW", "betas": [0.9, 0.99]}},
    ),
}


@pytest.mark.parametrize("kind", ["scale", "plain"])
@pytest.mark.parametrize("name", RUNS)
def test_the_pull_is_the_one_that_compare_prints(name: str, kind: str, write_run) -> None:
    products, settings, how = RUNS[name]
    records = read(write_run({"head": products}, settings, kind=kind, **how))
    plan = records.schedule("head")
    found = forecast(plan, pull=records, group="head")
    rows = [compare(records)["head", i + 1] for i in range(len(found))]
    assert len(found) == len(set(settings))
    for stage, row in zip(found, rows, strict=True):
        assert stage.pull == pytest.approx(row.pull, rel=1e-9)
        ends = stage.pull_low, stage.pull_high
        assert ends == pytest.approx(row.pull_interval, rel=1e-9)


def test_a_plan_of_one_stage_takes_the_pull_of_the_last_one(write_run) -> None:
    products, settings, _ = RUNS["every step"]
    records = read(write_run({"head": products}, settings, kind="plain"))
    plan = Schedule.constant(HyperParameters("sgd", lr=0.02, weight_decay=0.002, momentum=0.9), 50)
    found = forecast(plan, pull=records, group="head")[0]
    first, last = (compare(records)["head", number].pull for number in (1, 2))
    assert found.pull == pytest.approx(last, rel=1e-9) != pytest.approx(first, rel=0.1)
