"""What a plan says of a run whose pull is not to be used, may be 0, or changes with the norm."""

from __future__ import annotations

import numpy as np
import pytest
from driven_weights import leaning, products
from pulled import pulled_adam, pulled_sgd
from simulated import constant

from spherical_motion import Schedule, read
from spherical_motion.forecasting import forecast
from spherical_motion.records import RunWriter
from spherical_motion.vocabulary import EventKind, HyperParameters

HP = HyperParameters("sgd", lr=0.05, weight_decay=0.01, momentum=0.9)
SETTINGS = constant(0.05, 0.01, 0.9, 800)


def run_of(write_run, products, settings=SETTINGS, kind="plain", **how):
    return read(write_run({"head": products}, settings, kind=kind, **how))


def plan_of(records, steps=1000, hp=HP):
    return forecast(Schedule.constant(hp, steps), pull=records, group="head")


@pytest.mark.parametrize("kind", ["plain", "scale"])
def test_weights_written_between_steps_are_named(write_run, kind) -> None:
    walked = pulled_sgd(SETTINGS, write=lambda step: 0.999)
    found = plan_of(run_of(write_run, walked, kind=kind))
    assert found.doubt == (
        "something else wrote these weights between steps, at 187 of 187 steps and by -0.1% of the "
        "norm each, which is not in their pull"
    )
    assert f"Do not rely on it: {found.doubt}." in str(found)


def test_a_largest_norm_that_is_kept_is_named(write_run) -> None:
    walk = leaning(radial=-0.02)

    def gradient(step: int, w: np.ndarray) -> np.ndarray:
        w *= min(1.0, 1.5 / float(np.linalg.norm(w)))  # by hand, after each step
        return walk(step, w)

    gram = products(HP, SETTINGS, gradient)
    assert gram.ww == pytest.approx(1.5**2)
    found = plan_of(run_of(write_run, gram.to_array()))
    assert found.doubt.startswith("something else wrote these weights between steps, at 187 of 187")


def test_a_rescaling_that_is_told_and_a_write_long_ago_are_no_doubt(write_run) -> None:
    walked = pulled_sgd(SETTINGS, write=lambda step: 1.5 if step == 200 else 1.0)
    assert plan_of(run_of(write_run, walked)).doubt == ""
    walked = pulled_sgd(SETTINGS, write=lambda step: 0.5 if step == 700 else 1.0)
    records = run_of(write_run, walked)
    assert plan_of(records).doubt
    with RunWriter(records.directory, records.info, resume=True) as writer:
        writer.event(EventKind.RESCALED, 701, groups=["head"], factor=0.5)
    assert plan_of(read(records.directory)).doubt == ""


def test_a_broken_law_is_named(write_run) -> None:
    # The optimizer steps with another momentum than the one that was recorded.
    walked = pulled_sgd(constant(0.05, 0.01, 0.5, 800))
    doubt = plan_of(run_of(write_run, walked)).doubt
    assert doubt.startswith("its steps are not what its settings say (measured over predicted ")


def test_a_gradient_that_stopped_is_named(write_run) -> None:
    walked = pulled_sgd(SETTINGS, skips=lambda step: step >= 600)
    found = plan_of(run_of(write_run, walked))
    assert found.doubt == (
        "its gradient stopped 200 steps before the end of that run, and the pull is from before"
    )
    assert found.start.endswith("where the run ended after step 799")
    walked[700:, 0] *= 4.0  # something doubles the weights after the gradient has stopped
    assert plan_of(run_of(write_run, walked))[0].norm_start == 2.0 * found[0].norm_start
    walked = pulled_sgd(SETTINGS, skips=lambda step: step % 3 == 0)
    assert plan_of(run_of(write_run, walked)).doubt == ""


def test_an_honest_run_has_no_doubt(write_run) -> None:
    assert plan_of(run_of(write_run, pulled_sgd(SETTINGS, -0.004))).doubt == ""
    settings = constant(1e-2, 0.1, 0.9, 800)
    hp = HyperParameters("adamw", lr=1e-2, weight_decay=0.1, betas=(0.9, 0.99))
    told = {"optimizer": {"class": "AdamW", "betas": [0.9, 0.99]}, "numel": 200}
    found = plan_of(run_of(write_run, pulled_adam(settings, 0.05), settings, **told), hp=hp)
    assert found.doubt == ""


def uncertain(write_run):
    """A run whose pull is 1e-3 on average, with an interval that holds 0."""
    walked = pulled_sgd(SETTINGS, -0.009)
    late = slice(612, 800)
    noise = np.random.default_rng(0).standard_normal(800)
    walked[:, 3] += 0.1 * (noise - noise[late].mean()) * walked[:, 0]
    return run_of(write_run, walked)


@pytest.mark.parametrize("steps", [20, 100_000])
def test_where_the_pull_may_be_zero_nothing_is_promised(write_run, steps) -> None:
    found = plan_of(uncertain(write_run), steps)
    (stage,) = found
    assert stage.pull_low < 0 < stage.pull
    assert stage.may_not_rest
    assert stage.remedy is None
    assert stage.end == "may not settle (a guess)"
    text = str(stage)
    assert "the pull may be 0 or below, and then nothing comes to rest; if it stays at" in text
    for claim in ("raise its weight decay", "Rescale", "throughout"):
        assert claim not in text


def test_a_schedule_over_a_pull_that_may_be_zero_promises_nothing_either(write_run) -> None:
    plan = Schedule.cosine(HP, 2000)
    (stage,) = forecast(plan, pull=uncertain(write_run), group="head")
    assert "the pull may be 0 or below, and then nothing comes to rest" in str(stage)


@pytest.mark.parametrize(("kind", "end"), [("plain", "settles (a guess)"), ("scale", "settles")])
def test_a_guess_is_called_one_where_it_ends(write_run, kind, end) -> None:
    (stage,) = plan_of(run_of(write_run, pulled_sgd(SETTINGS, -0.004), kind=kind))
    assert not stage.may_not_rest
    assert stage.end == end


@pytest.mark.parametrize("end", ["rate 0", "no gradient"])
def test_a_last_stage_in_which_nothing_moved_gives_its_place_to_the_one_before(
    write_run, end
) -> None:
    late = constant(0.0 if end == "rate 0" else 0.005, 0.01, 0.9, 300)
    stop = {"skips": (lambda step: step >= 800) if end == "no gradient" else (lambda step: False)}
    walked = pulled_sgd(SETTINGS + late, -0.004, **stop)
    found = plan_of(run_of(write_run, walked, SETTINGS + late))
    before = plan_of(run_of(write_run, walked[:800]))
    assert found[0].pull == pytest.approx(before[0].pull, rel=1e-9)
    assert found[0].norm_end == pytest.approx(before[0].norm_end, rel=1e-3)
    assert found.doubt.startswith("its gradient stopped 300") == (end == "no gradient")


def test_a_stage_that_never_moved_in_a_plan_of_several_is_not_asked(write_run) -> None:
    settings = constant(0.0, 0.01, 0.9, 300) + SETTINGS
    records = run_of(write_run, pulled_sgd(settings, -0.004), settings)
    found = forecast(Schedule.step_decay(HP, 2000, [1000]), pull=records, group="head")
    assert [stage.pull for stage in found] == pytest.approx([0.006, 0.006], rel=1e-6)
