"""Each verdict, produced by a run that deserves it, and the order in which they are tried."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from judged import CERTIFIED, PLAIN, evidence
from simulated import constant, simulate_adamw, simulate_sgd

from spherical_motion.comparison import (
    RULES,
    Approaching,
    Measured,
    NotJudged,
    Settled,
    TugOfWar,
    compare,
    judge,
)
from spherical_motion.comparison.laws import Continuity, RadialLaw, StepLaw
from spherical_motion.errors import InvalidArgument
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import (
    Suspect,
    VerdictKind,
)

SETTLED = constant(0.1, 0.02, 0.9, 1500)


def kinds(run, group: str = "conv") -> list[VerdictKind]:
    return [row.verdict.kind for row in compare(run) if row.group == group]


def test_the_rules_stand_in_the_order_of_the_enum() -> None:
    assert list(dict.fromkeys(kind for kind, _ in RULES)) == list(VerdictKind)


def test_a_settled_run_is_in_equilibrium(write_run) -> None:
    comparison = compare(write_run({"conv": simulate_sgd(SETTLED)}, SETTLED))
    row = comparison["conv"]
    assert row.verdict.kind is VerdictKind.IN_EQUILIBRIUM
    assert row.ratio == pytest.approx(1.0, abs=0.03)
    assert row.interval[0] < row.ratio < row.interval[1]
    assert row.predicted == row.equilibrium
    assert comparison.alarms == ()
    assert "conv is in equilibrium" in comparison.findings[0]


def test_a_stage_that_is_too_short_is_approaching_and_says_how_long(write_run) -> None:
    settings = SETTLED + constant(0.001, 0.02, 0.9, 1500)
    row = compare(write_run({"conv": simulate_sgd(settings)}, settings))["conv", 2]
    assert row.verdict.kind is VerdictKind.APPROACHING
    # The transient predicts what is measured, well below equilibrium.
    assert row.ratio == pytest.approx(1.0, abs=0.05)
    assert row.measured < 0.5 * row.equilibrium
    promised = row.verdict.evidence["steps_more"]
    assert f"{promised:,.0f} more steps" in row.verdict.reason
    # The promise holds: with those steps added the group is in equilibrium.
    longer = settings + constant(0.001, 0.02, 0.9, int(promised) + 1500)
    later = compare(write_run({"conv": simulate_sgd(longer)}, longer))["conv", 2]
    assert later.verdict.kind is VerdictKind.IN_EQUILIBRIUM
    assert later.verdict.evidence["steps_needed"] == pytest.approx(1500 + promised, rel=0.05)


def test_a_fading_gradient_is_named_and_followed(write_run) -> None:
    settings = constant(0.1, 0.01, 0.9, 400)
    products = simulate_sgd(settings, size=lambda step, rng: math.exp(-step / 60))
    row = compare(write_run({"conv": products}, settings))["conv"]
    assert row.verdict.kind is VerdictKind.APPROACHING
    assert "fades" in row.verdict.reason
    assert row.ratio == pytest.approx(1.0, abs=0.1)


def test_few_samples_are_not_judged(write_run) -> None:
    settings = SETTLED[:10]
    assert kinds(write_run({"conv": simulate_sgd(settings)}, settings)) == [
        VerdictKind.TOO_FEW_SAMPLES
    ]


def test_non_finite_steps_decide_over_everything_after(write_run) -> None:
    products = simulate_sgd(SETTLED)
    products[700] = np.nan
    row = compare(write_run({"conv": products}, SETTLED))["conv"]
    assert row.verdict.kind is VerdictKind.NON_FINITE
    assert "at 1 step of" in row.verdict.reason


def test_a_gradient_of_nan_that_the_step_survives_is_told(write_run) -> None:
    products = simulate_sgd(SETTLED)
    products[700, 3:] = np.nan
    row = compare(write_run({"conv": products}, SETTLED))["conv"]
    assert row.verdict.kind is VerdictKind.NON_FINITE
    assert row.verdict.reason.endswith("at 1 step of this stage, first at step 700")


def test_weights_that_do_not_move_are_frozen(write_run) -> None:
    products = simulate_sgd(SETTLED)
    products[:, [1, 2, 5]] = 0.0
    assert kinds(write_run({"conv": products}, SETTLED)) == [VerdictKind.FROZEN]
    still = constant(0.0, 0.02, 0.9, 100)
    row = compare(write_run({"conv": simulate_sgd(still)}, still))["conv"]
    assert row.verdict.kind is VerdictKind.FROZEN
    assert "learning rate is 0" in row.verdict.reason


def test_without_weight_decay_there_is_nothing_to_reach(write_run) -> None:
    settings = constant(0.1, 0.0, 0.9, 300)
    row = compare(write_run({"conv": simulate_sgd(settings)}, settings))["conv"]
    assert row.verdict.kind is VerdictKind.NO_WEIGHT_DECAY
    assert row.verdict.evidence["norm_change"] > 1
    assert math.isfinite(row.measured)


def test_a_radial_gradient_is_epsilon_in_a_proven_group_and_worse_in_another(write_run) -> None:
    # Now here, now there, so that it is no decay hidden in the loss.
    products = simulate_sgd(SETTLED, radial=lambda step: 0.3 + 0.4 * (-1) ** step)
    proven = compare(write_run({"conv": products}, SETTLED, defect=0.01))["conv"]
    assert proven.verdict.kind is VerdictKind.EPSILON_DOMINATED
    assert proven.verdict.evidence["radial_share"] == pytest.approx(0.3, rel=0.01)
    by_hand = write_run({"conv": products}, SETTLED, defect=math.nan)
    assert kinds(by_hand) == [VerdictKind.NOT_SCALE_INVARIANT]


def test_an_optimizer_without_theory_is_recorded_and_not_judged(write_run) -> None:
    told = {"class": "RMSprop"}
    row = compare(write_run({"conv": simulate_sgd(SETTLED)}, SETTLED, optimizer=told))["conv"]
    assert row.verdict.kind is VerdictKind.NO_THEORY
    assert "There is no closed form here" in row.verdict.reason
    assert math.isfinite(row.measured)
    assert math.isnan(row.predicted)


def test_a_few_large_gradients_fit_the_rms_law_only(write_run) -> None:
    settings = constant(0.1, 0.1, 0.0, 20_000)
    rare = lambda step, rng: 10.0 if rng.random() < 0.01 else 0.3  # noqa: E731
    products = simulate_sgd(settings, size=rare, dimension=20)
    row = compare(write_run({"conv": products}, settings))["conv"]
    assert row.verdict.kind is VerdictKind.HEAVY_TAILED is VerdictKind.IN_BALANCE
    assert row.verdict.suspect is Suspect.HEAVY_TAILS
    assert not row.alarm
    assert row.verdict.evidence["step_law"] == pytest.approx(1.0, abs=0.05)
    assert row.ratio < 0.95
    assert row.verdict.evidence["mean_ratio"] < 0.6


def test_a_step_that_is_not_the_optimizers_alone_breaks_the_law_of_motion(write_run) -> None:
    def hold(step: int, w: np.ndarray) -> None:
        w *= 3.0 / np.linalg.norm(w)

    products = simulate_sgd(SETTLED, norm0=3.0, tamper=hold)
    comparison = compare(write_run({"conv": products}, SETTLED))
    row = comparison["conv"]
    assert row.verdict.kind is VerdictKind.STEP_DIFFERS
    assert row.verdict.suspect is Suspect.STEP_DIFFERS
    assert "law of motion" in row.verdict.reason
    assert comparison.alarms == (row,)
    assert comparison.findings[0].startswith("Stage 1 (lr 0.1): conv is stepped otherwise")


def test_adamw_is_judged_by_its_own_theory(write_run) -> None:
    settings = constant(1e-2, 0.1, 0.9, 6000)
    told = {"class": "AdamW", "betas": [0.9, 0.999]}
    products = simulate_adamw(settings, norm0=4.5)
    row = compare(write_run({"conv": products}, settings, optimizer=told, numel=400))["conv"]
    assert row.verdict.kind is VerdictKind.IN_EQUILIBRIUM
    assert row.ratio == pytest.approx(1.0, abs=0.02)


def test_a_cosine_is_followed_by_the_recursion_driven_by_the_gradient(write_run) -> None:
    settings = [(0.005 + 0.05 * (1 + math.cos(math.pi * t / 2000)), 0.02, 0.9) for t in range(2000)]
    row = compare(write_run({"conv": simulate_sgd(settings, norm0=2.0)}, settings))["conv"]
    assert row.stage.hp is None
    assert row.verdict.kind is VerdictKind.APPROACHING
    assert "follows the forecast" in row.verdict.reason
    assert row.ratio == pytest.approx(1.0, abs=0.05)


def test_sampling_every_tenth_step_in_pairs_says_the_same(write_run) -> None:
    settings = constant(0.1, 0.01, 0.9, 3000) + constant(0.02, 0.01, 0.9, 6000)
    products = {"conv": simulate_sgd(settings)}
    sampled = [i for i in range(len(settings)) if i % 10 < 2]
    whole, thin = (compare(write_run(products, settings, steps=steps)) for steps in (None, sampled))
    assert [r.verdict.kind for r in whole] == [r.verdict.kind for r in thin]
    for a, b in zip(whole, thin, strict=True):
        assert abs(a.stage.start - b.stage.start) <= 10
        assert b.ratio == pytest.approx(a.ratio, abs=0.05)


def test_a_cosine_stepped_once_an_epoch_is_one_stage(write_run) -> None:
    epochs = [0.005 + 0.05 * (1 + math.cos(math.pi * t / 40)) for t in range(40)]
    settings = [(lr, 0.02, 0.9) for lr in epochs for _ in range(50)]
    products = {"conv": simulate_sgd(settings, norm0=2.0)}
    for steps in (None, [i for i in range(2000) if i % 10 < 2]):
        comparison = compare(write_run(products, settings, steps=steps))
        assert len(comparison) == 1
        assert comparison["conv"].verdict.kind is VerdictKind.APPROACHING
        assert comparison["conv"].ratio == pytest.approx(1.0, abs=0.08)


def test_a_projection_inside_the_step_is_no_approach(write_run) -> None:
    def hold(step: int, w: np.ndarray) -> None:
        w *= 3.0 / np.linalg.norm(w)

    settings = constant(0.01, 0.002, 0.9, 3000)
    comparison = compare(
        write_run({"conv": simulate_sgd(settings, norm0=3, tamper=hold)}, settings)
    )
    assert comparison["conv"].verdict.kind is VerdictKind.STEP_DIFFERS
    assert "law of motion" in comparison["conv"].verdict.reason
    assert len(comparison.alarms) == 1


def test_adamw_does_not_care_about_the_scale_of_the_loss(write_run) -> None:
    settings = constant(1e-2, 0.1, 0.9, 6000)
    products = simulate_adamw(settings, norm0=4.5)
    products[:, 3] = 1e-3 * np.sqrt(products[:, 0] * products[:, 4])  # a defect of 1e-3
    told = {"class": "AdamW", "betas": [0.9, 0.999]}
    found = []
    for scale in (1.0, 1e3):
        scaled = products * np.array([1, 1, 1, scale, scale**2, scale])
        run = write_run({"conv": scaled}, settings, optimizer=told, numel=400, defect=1e-3)
        found.append(compare(run)["conv"].verdict)
    assert found[0].kind is found[1].kind is VerdictKind.IN_EQUILIBRIUM
    assert found[0].evidence["radial_share"] == pytest.approx(found[1].evidence["radial_share"])


def test_invariance_lost_on_the_way_is_not_blamed_on_epsilon(write_run) -> None:
    # Of both signs, so that it is no decay, and far more than ε explains at a defect of 1e-5.
    products = simulate_sgd(SETTLED, radial=lambda step: 8.0 * (-1) ** step + 2.0)
    comparison = compare(write_run({"conv": products}, SETTLED, defect=1e-5))
    row = comparison["conv"]
    assert row.verdict.kind is VerdictKind.NOT_SCALE_INVARIANT
    assert "eval mode" in row.verdict.reason
    assert "or is a norm layer in eval mode?" in comparison.findings[0]
    assert row.verdict.suspect is None
    assert row.alarm


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([(0.1 * (1 - t / 50), 0.02, 0.9) for t in range(55)], "settings outside"),
        (constant(0.1, 0.02, 1.0, 60), "SGD"),
    ],
)
def test_settings_no_theory_covers_do_not_take_the_run_with_them(
    write_run, settings, words
) -> None:
    products = {"odd": simulate_sgd(settings), "other": simulate_sgd(settings, seed=1)}
    comparison = compare(write_run(products, settings))
    assert {row.verdict.kind for row in comparison} == {VerdictKind.NO_THEORY}
    assert words in comparison["odd"].verdict.reason
    assert comparison.curves("odd").steps.size == len(settings)


def test_weights_that_begin_at_zero_are_judged_from_where_they_have_a_direction(write_run) -> None:
    products = simulate_sgd(SETTLED)
    products[:3, [0, 1, 3]] = 0.0
    comparison = compare(write_run({"zero": products, "good": simulate_sgd(SETTLED)}, SETTLED))
    assert {row.verdict.kind for row in comparison} == {VerdictKind.IN_EQUILIBRIUM}


def test_steps_without_a_gradient_are_said_to_be(write_run) -> None:
    products = simulate_sgd(SETTLED)
    products[:, 3:] = np.nan
    comparison = compare(write_run({"conv": products}, SETTLED))
    row = comparison["conv"]
    assert row.verdict.kind is VerdictKind.TOO_FEW_SAMPLES
    assert "is it cleared" in row.verdict.reason
    assert comparison.findings[0].endswith("optimizer.step() has returned?")


# The order, rule by rule, on evidence made by hand


FAULTS = {
    VerdictKind.NON_FINITE: {"non_finite": 4},
    VerdictKind.FROZEN: {"moved": False, "samples": 1000},
    VerdictKind.WEIGHTS_WRITTEN: {
        "continuity": Continuity(pairs=999, written=3, steps=(200, 400, 600), write=0.004)
    },
    VerdictKind.STEP_DIFFERS: {
        "step": StepLaw(pairs=999, median=1e-8, worst=0.2, spikes=1, spike_steps=(7,))
    },
    VerdictKind.GRADIENT_ALTERED: {
        "group": CERTIFIED,
        "radial": RadialLaw(hidden=True, kappa=Estimate(0.01, 0.009, 0.011)),
    },
    VerdictKind.TOO_FEW_SAMPLES: {"samples": 10},
    VerdictKind.NOT_SCALE_INVARIANT: {"group": CERTIFIED, "defect": 0.5},
    VerdictKind.EPSILON_DOMINATED: {"group": CERTIFIED, "radial_share": -0.2},
    VerdictKind.OFF_BALANCE: {
        "tug": TugOfWar(balance=Estimate(1.2, 1.11, 1.3), exact=True, unknown=""),
    },
    VerdictKind.IN_BALANCE: {"group": PLAIN, "tug": TugOfWar(balance=Estimate(1.0, 0.99, 1.01))},
    VerdictKind.NO_PREDICTION: {"group": PLAIN},
    VerdictKind.NO_WEIGHT_DECAY: {"no_decay": True},
    VerdictKind.NO_THEORY: {"no_theory": "none."},
    VerdictKind.APPROACHING: {"settled": False, "steps_more": 10.0},
    VerdictKind.OFF: {
        "ratio": Estimate(0.8, 0.7, 0.89),
        "step_law": Estimate(0.8, 0.7, 0.9),
    },
}


@pytest.mark.parametrize("kind", FAULTS)
def test_one_fault_gives_its_verdict(kind: VerdictKind) -> None:
    assert judge(evidence(**FAULTS[kind])).kind is kind
    assert judge(evidence()).kind is VerdictKind.IN_EQUILIBRIUM


@pytest.mark.parametrize(
    ("tug", "error", "kind", "said"),
    [
        ({"exact": True}, 0.0, VerdictKind.OFF_BALANCE, "turns at 0.840"),
        (
            {"mendable": True, "young": 1000.0, "neglects": "S"},
            0.0,
            VerdictKind.NO_PREDICTION,
            "products=8 measures it",
        ),
        (
            {"neglects": "how the updates pull on the norm"},
            0.6,
            VerdictKind.NO_PREDICTION,
            "the law leaves out how the updates pull on the norm. The prediction is approximate",
        ),
    ],
    ids=["exact", "Adam without ws", "Muon"],
)
def test_only_an_exact_law_can_be_off(tug, error, kind, said) -> None:
    off = TugOfWar(balance=Estimate(0.84, 0.79, 0.89), unknown="", **tug)
    verdict = judge(evidence(group=PLAIN, tug=off, prediction_error=error))
    assert verdict.kind is kind
    assert said in verdict.reason
    assert not verdict.alarm
    vague = dataclasses.replace(off, balance=Estimate(0.84, 0.48, 1.2))
    verdict = judge(evidence(group=PLAIN, tug=vague))
    exact = "exact" in tug
    assert verdict.kind is (VerdictKind.TOO_FEW_SAMPLES if exact else VerdictKind.NO_PREDICTION)
    assert ("too wide to say whether it lies within 0.90 to 1.10" in verdict.reason) == exact
    assert ("products=8 measures it" in verdict.reason) == ("mendable" in tug)
    near = dataclasses.replace(off, balance=Estimate(0.97, 0.94, 0.99))
    verdict = judge(evidence(group=PLAIN, tug=near, prediction_error=error))
    assert verdict.kind is VerdictKind.IN_BALANCE


def test_of_several_faults_the_first_decides() -> None:
    left = {k: v for k, v in FAULTS.items() if k is not VerdictKind.OFF}  # excludes heavy tails
    for kind in list(left):
        everything = {
            name: value for fault in reversed(left.values()) for name, value in fault.items()
        }
        assert judge(evidence(**everything)).kind is kind
        del left[kind]


def test_mixed_weight_decay_is_named_whatever_the_verdict() -> None:
    mixed = ((0.1, 0.1, 0.9), (0.1, 0.0, 0.9))
    assert "Members differ in weight decay (0, 0.1)" in judge(evidence(mixed=mixed)).reason
    mixed = ((0.1, 0.1, 0.9), (0.2, 0.1, 0.8))
    found = judge(evidence(mixed=mixed)).reason
    assert "learning rate (0.1, 0.2) and momentum (0.8, 0.9)" in found


def test_uneven_steps_are_mentioned() -> None:
    assert "plain mean is only 0.65" in judge(evidence(mean_ratio=0.65)).reason


def test_numbers_behind_a_verdict_are_finite() -> None:
    numbers = judge(evidence(steps_more=math.inf)).evidence
    assert "steps_more" not in numbers
    assert all(math.isfinite(value) for value in numbers.values())


def test_evidence_has_no_place_for_numbers_that_do_not_apply() -> None:
    common = {field.name for field in dataclasses.fields(NotJudged)}
    assert not common & {"ratio", "measured", "rest"}
    for variant in (Measured, Approaching, Settled):
        own = [field for field in dataclasses.fields(variant) if field.name not in common]
        assert all(field.default is dataclasses.MISSING for field in own)
    still = NotJudged(**{name: getattr(evidence(), name) for name in common} | {"moved": False})
    verdict = judge(still)
    assert verdict.kind is VerdictKind.FROZEN
    assert verdict.alarm
    assert set(verdict.evidence) == {"samples", "non_finite", "driven", "judged"}


def test_the_suspect_goes_with_the_evidence() -> None:
    off = FAULTS[VerdictKind.OFF]
    assert judge(evidence()).suspect is None
    assert judge(evidence(**off, residual=0.2)).suspect is Suspect.STEP_DIFFERS
    assert judge(evidence(**off, drift=0.2)).suspect is Suspect.MOVING_NORM
    assert judge(evidence(moved=False, lr_is_zero=True)).suspect is Suspect.RATE_ZERO
    assert not judge(evidence(moved=False, lr_is_zero=True)).alarm


def test_rules_that_leave_a_group_unjudged_are_refused() -> None:
    rules = [(kind, rule) for kind, rule in RULES if kind is VerdictKind.FROZEN]
    with pytest.raises(InvalidArgument, match=r"must have a rule that applies to 'w'"):
        judge(evidence(), rules)


# The comparison as an object


def test_comparison_is_indexed_by_group_and_stage(write_run) -> None:
    settings = SETTLED + constant(0.01, 0.02, 0.9, 100)
    products = simulate_sgd(settings)
    comparison = compare(write_run({"a": products, "b": products}, settings))
    assert [(r.group, r.number) for r in comparison] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert comparison["b"].number == 2
    assert comparison["b", 1].number == 1
    assert len(comparison) == 4
    with pytest.raises(InvalidArgument, match="'c'"):
        comparison["c"]
    with pytest.raises(InvalidArgument, match="numbered from 1; asked for 3"):
        comparison["a", 3]
    assert "measured" in str(comparison)
    curves = comparison.curves("a")
    assert curves.steps.shape == curves.angle.shape == curves.predicted_norm.shape == (1600,)
    near = curves.predicted_angle[200:1500] / curves.angle[200:1500]
    assert np.nanmedian(near) == pytest.approx(1.0, abs=0.05)


def test_an_empty_run_compares_to_nothing(write_run) -> None:
    comparison = compare(write_run({"conv": simulate_sgd(SETTLED[:1])}, SETTLED[:1], steps=[]))
    assert len(comparison) == 0
    assert "no steps recorded" in str(comparison)
    assert comparison.findings == ("No steps are recorded yet.",)
    assert comparison.curves("conv").steps.size == 0
