"""Each rung of the ladder on both sides of its threshold, and which alarm it names."""

from __future__ import annotations

import dataclasses
import math

import pytest
from judged import CERTIFIED, PLAIN, evidence

from spherical_motion.comparison import TugOfWar, judge
from spherical_motion.comparison.ladder.bands import Place, place
from spherical_motion.comparison.ladder.reasons import AngleReason
from spherical_motion.comparison.laws import (
    Assumed,
    Continuity,
    Fit,
    HiddenBeside,
    Mend,
    RadialLaw,
    ScaleChange,
    Silence,
    Spike,
    Stale,
    StepLaw,
)
from spherical_motion.comparison.laws.audited import AuditedSteps
from spherical_motion.comparison.laws.planned import Explanation, Planned
from spherical_motion.comparison.laws.step_fit import StepFit
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import HyperParameters, Suspect, Tone, Verdict, VerdictKind

K = VerdictKind
TESTED = StepLaw(pairs=900, median=1e-8, worst=1e-6, allowed=1e-4)


def alarm(suspect: Suspect, kind: VerdictKind, **changes) -> Verdict:
    verdict = judge(evidence(**changes))
    assert (verdict.kind, verdict.suspect, verdict.alarm) == (kind, suspect, True), verdict
    return verdict


def healthy(**changes) -> None:
    verdict = judge(evidence(**changes))
    assert verdict.kind is K.IN_EQUILIBRIUM, verdict
    assert not verdict.alarm


def test_a_healthy_group_passes_every_rung() -> None:
    healthy(
        continuity=Continuity(pairs=999, whole=True),
        step=TESTED,
        silence=Silence(samples=1000, dead=0.0, frozen=0.0),
        radial=RadialLaw(samples=1000, peak=1.0, epsilon=1e-5, eval_mode=0.0),
        tug=TugOfWar(balance=Estimate(1.0, 0.99, 1.01), exact=True, unknown=""),
    )


# Frozen, dead


def test_weights_that_stood_still_and_moved_again_are_told_without_an_alarm() -> None:
    verdict = judge(evidence(silence=Silence(samples=1000, frozen=0.4, rested=(400, 800))))
    assert (verdict.kind, verdict.alarm) == (K.IN_EQUILIBRIUM, False)
    assert "its weights did not move from step 400 to step 800" in verdict.reason


def test_no_gradient_is_an_alarm_with_its_step_unless_only_a_part_died() -> None:
    dead = Silence(samples=1000, dead=0.5, dead_since=512)
    verdict = alarm(Suspect.NO_GRADIENT, K.FROZEN, silence=dead)
    assert verdict.reason == "no gradient from step 512 on (all of it is 0)"
    part = judge(evidence(silence=dead, part_alive=True))
    assert (part.kind, part.suspect, part.alarm) == (K.FROZEN, Suspect.DEAD_PART, False)
    flat = judge(evidence(silence=dead, all_dead=True))
    assert (flat.kind, flat.suspect, flat.alarm) == (K.FROZEN, Suspect.FADING, False)
    healthy(silence=dataclasses.replace(dead, dead_since=None))


def test_weights_that_stop_are_an_alarm_unless_the_rate_is_zero() -> None:
    stopped = Silence(samples=1000, frozen=0.3, frozen_since=700, rate_is_zero=0.0)
    assert "since step 700" in alarm(Suspect.FROZEN, K.FROZEN, silence=stopped).reason
    healthy(silence=dataclasses.replace(stopped, rate_is_zero=1.0))
    had = Silence(gradient_while_frozen=1.0)
    alarm(Suspect.FROZEN, K.FROZEN, moved=False, silence=had)
    alarm(Suspect.NO_GRADIENT, K.FROZEN, moved=False)


# Continuity


def test_writes_are_told_with_steps_and_size() -> None:
    written = Continuity(pairs=1999, written=10, steps=(200, 400, 600, 800, 1000), write=0.004)
    verdict = alarm(Suspect.WEIGHTS_WRITTEN, K.WEIGHTS_WRITTEN, continuity=written)
    assert verdict.reason == (
        "the weights were written between steps, at steps 200, 400, 600, ... (10 of 1999), by 0.4% "
        "of the norm each (4% of a step's length)"
    ).replace("1999", "1,999")
    healthy(continuity=Continuity(pairs=1999))


def test_a_norm_that_moves_otherwise_between_bursts_is_told() -> None:
    sure = Continuity(pairs=100, gap=Estimate(-0.002, -0.0025, -0.0015))
    verdict = judge(evidence(continuity=sure))
    assert "grows by 0.2% a step less than inside them" in verdict.reason
    assert verdict.kind is K.IN_EQUILIBRIUM
    vague = Continuity(pairs=100, gap=Estimate(-0.002, -0.0035, -0.0005))
    assert "bursts" not in judge(evidence(continuity=vague)).reason


def test_other_weights_at_a_resume_are_written_weights() -> None:
    alarm(Suspect.WEIGHTS_WRITTEN, K.WEIGHTS_WRITTEN, continuity=Continuity(resumed=1e-3))
    healthy(continuity=Continuity(resumed=1e-8))


# The step law


def failing(**fit) -> StepLaw:
    found = Fit(first=100, last=400, pairs=300, declared=(0.1, 5e-4, 0.9), residual=1e-8, **fit)
    return dataclasses.replace(TESTED, median=0.05, worst=0.4, first=100, last=400, fit=found)


def test_settings_that_explain_the_steps_are_named() -> None:
    law = failing(momentum=Estimate(0.85, 0.849, 0.851), changed=("momentum",), explains=True)
    verdict = alarm(Suspect.WRONG_SETTINGS, K.STEP_DIFFERS, step=law)
    assert verdict.reason.startswith(
        "the steps from 100 to 400 are those of momentum 0.85 (declared: momentum 0.9)"
    )


def test_another_rule_is_named_and_no_rule_is_no_settings() -> None:
    law = failing(form="decoupled weight decay", explains=True)
    assert "decoupled" in alarm(Suspect.STEP_DIFFERS, K.STEP_DIFFERS, step=law).reason
    law = failing(explains=False)
    assert "no other settings" in alarm(Suspect.STEP_DIFFERS, K.STEP_DIFFERS, step=law).reason


def test_a_short_stretch_is_told_with_its_own_residual() -> None:
    law = dataclasses.replace(
        TESTED, first=100, last=103, stretch=4, broken=0.2, broken_allowed=1e-4
    )
    reason = alarm(Suspect.STEP_DIFFERS, K.STEP_DIFFERS, step=law).reason
    assert "(residual 0.2; rounding explains 0.0001). These are too few steps to fit" in reason
    assert "no other settings" not in reason


def test_one_step_off_is_found_and_a_thousandth_is_not() -> None:
    spike = dataclasses.replace(TESTED, worst=0.02, spikes=1, spike_steps=(77,))
    assert "step 77 (1 of 900)" in alarm(Suspect.STEP_DIFFERS, K.STEP_DIFFERS, step=spike).reason
    healthy(step=dataclasses.replace(spike, worst=5e-4))


def test_a_setting_of_adam_that_mends_the_balance_is_named() -> None:
    beta = Mend(
        setting="momentum",
        value=Estimate(0.95, 0.94, 0.96),
        declared=0.9,
        ratio=1.0,
        before=0.7,
        left=0.1,
        windows=8,
    )
    lr = dataclasses.replace(beta, setting="lr", value=Estimate(2e-3, 1.9e-3, 2.1e-3))
    verdict = alarm(Suspect.WRONG_SETTINGS, K.STEP_DIFFERS, mends=(beta, lr))
    assert "momentum 0.95 would mend it (declared: 0.9)" in verdict.reason
    assert verdict.reason.endswith("so would learning rate 0.002")
    # A replayed step of the second half is harder evidence than windows.
    healthy(mends=(beta,), audited=AuditedSteps(steps=22, replayed=22, last=600))
    early = AuditedSteps(steps=20, replayed=20, last=19)
    alarm(Suspect.WRONG_SETTINGS, K.STEP_DIFFERS, mends=(beta,), audited=early)


# The audit


def replayed(kind: str = "", **fit) -> AuditedSteps:
    found = StepFit(kind=kind, lr=0.1, weight_decay=5e-4, momentum=0.9, **fit)
    steps = {"steps": 22, "replayed": 22, "differing": (7, 8, 9), "onset": (6, 7), "fit": found}
    return AuditedSteps(**steps, length=0.8, cosine=0.97)


def replayed_at(first: int, **known) -> AuditedSteps:
    steps = {"differing": (first, first + 1, first + 2), "onset": (first - 1, first)}
    return dataclasses.replace(replayed(), **steps, **known)


@pytest.mark.parametrize(
    ("audited", "suspect", "said"),
    [
        (replayed("decay", real_decay=1e-3), "WRONG_SETTINGS", "are those of weight decay 0.001"),
        (replayed("decay", pull=-1e-4), "WRONG_SETTINGS", "a part along the weights, 0.0001"),
        (replayed("rate", factor=1.1), "WRONG_SETTINGS", "are 1.1 times as long as the rule"),
        (replayed("momentum", real_momentum=0.85), "WRONG_SETTINGS", "those of momentum 0.85"),
        (replayed(), "STEP_DIFFERS", "0.8 times its length, cosine 0.97"),
        (
            AuditedSteps(steps=22, replayed=22, miscounted=5, counter=12, taken=6),
            "STEP_COUNTER",
            "counts 12 steps where it took 6",
        ),
        (AuditedSteps(steps=22, replayed=22, lost=0.6), "LOST_PRECISION", "loses 60% of the steps"),
    ],
)
def test_replayed_steps_are_named_by_what_explains_them(audited, suspect, said) -> None:
    for group in (CERTIFIED, PLAIN):
        verdict = alarm(Suspect[suspect], K.STEP_DIFFERS, audited=audited, group=group)
        assert said in verdict.reason
    if audited.differing:
        assert "3 of 22 replayed steps, the first at 7" in verdict.reason
        assert verdict.reason.endswith("; step 6 was still the rule's")


@pytest.mark.parametrize(
    ("law", "audited", "since", "said"),
    [
        ((400, ()), replayed_at(1000), 400, "the law of motion does not hold from step 400 on"),
        ((400, (51, 52)), replayed_at(1000), 51, "the law of motion does not hold from step 51"),
        ((1000, ()), replayed_at(1000), None, ""),
        ((2000, ()), replayed_at(1000), None, ""),
        ((None, ()), replayed_at(8, rewritten_since=1), 1, "from step 1 on the optimizer's step"),
        ((400, ()), replayed_at(1000, rewritten_since=7), 7, "from step 7 on the optimizer's step"),
    ],
)
def test_the_first_step_that_any_witness_has_is_told(law, audited, since, said) -> None:
    first, spikes = law
    last = None if first is None else 2200
    found = dataclasses.replace(TESTED, first=first, last=last, spike_steps=spikes)
    verdict = alarm(Suspect.STEP_DIFFERS, K.STEP_DIFFERS, step=found, audited=audited)
    assert verdict.reason.startswith("3 of 22 replayed steps")
    told = [r.numbers["since"] for r in verdict.reasons if "since" in r.numbers]
    assert told == ([] if since is None else [since])
    assert said in verdict.reason


def test_a_replayed_step_before_the_fitted_stretch_is_told() -> None:
    law = failing(form="heavy-ball momentum", explains=True)
    verdict = alarm(Suspect.STEP_DIFFERS, K.STEP_DIFFERS, step=law, audited=replayed_at(3))
    assert verdict.reason.startswith("the steps from 100 to 400 are those of heavy-ball momentum")
    assert verdict.reason.endswith("of the replayed steps, the first that is not the rule's is 3")


def test_a_share_that_rounding_loses_is_named_from_a_tenth_on() -> None:
    healthy(audited=AuditedSteps(steps=22, replayed=22, lost=0.09))


def test_a_norm_that_is_clipped_at_nearly_every_step_is_an_alarm_and_now_and_then_a_word() -> None:
    always = AuditedSteps(steps=22, clipped_at=1.0, clipped_share=1.0)
    verdict = alarm(Suspect.GRADIENT_CLIPPED, K.GRADIENT_ALTERED, audited=always)
    assert "clipped at 1 in 100%" in verdict.reason
    # All of the first 20 steps, when gradients are large, and none of a later audit.
    early = judge(evidence(audited=dataclasses.replace(always, clipped_share=20 / 22)))
    assert (early.kind, early.suspect) == (K.IN_EQUILIBRIUM, Suspect.NORM_CLIPPED)
    assert not early.alarm
    # However many of the steps are the first ones, later ones decide; two bursts of them alone.
    for share, late, clipped_late, alarms in [
        (0.99, 2, 0.0, False),
        (1.0, 2, 1.0, True),
        (0.2, 2, 1.0, False),
        (0.2, 4, 1.0, True),
        (0.9, 8, 0.5, False),
    ]:
        found = dataclasses.replace(
            always, clipped_share=share, late=late, clipped_late=clipped_late
        )
        assert judge(evidence(audited=found)).alarm is alarms


def test_tensors_that_nobody_steps_are_named() -> None:
    audited = AuditedSteps(steps=22, replaced=600)
    assert "since step 600" in alarm(Suspect.NOT_STEPPED, K.FROZEN, audited=audited).reason
    left = (600, "another optimizer (SGD)")
    assert "another optimizer" in alarm(Suspect.NOT_STEPPED, K.FROZEN, left_behind=left).reason
    both = alarm(Suspect.WEIGHTS_WRITTEN, K.WEIGHTS_WRITTEN, stepped_by=(3, "Adam"))
    assert "another optimizer (Adam) steps these weights as well, first seen at step 3" in str(both)


def test_rates_that_are_not_planned_are_wrong_settings() -> None:
    plan = Planned(
        steps=900, first=50, differing=700, planned=0.1, used=0.01, how=Explanation(times=2.0)
    )
    verdict = alarm(Suspect.WRONG_SETTINGS, K.STEP_DIFFERS, plan=plan)
    assert "from step 50 on: 0.01 in place of 0.1" in verdict.reason
    assert "stepped 2 times as often" in verdict.reason


# The radial law


def test_decay_hidden_in_the_loss_is_named_for_certified_groups_only() -> None:
    hidden = RadialLaw(kappa=Estimate(5e-4, 4e-4, 6e-4), hidden=True, agreeing=4, others=5)
    verdict = alarm(Suspect.HIDDEN_DECAY, K.GRADIENT_ALTERED, radial=hidden)
    assert "0.0005·w at every step" in verdict.reason
    assert "5 of 6 groups" in verdict.reason
    plain = judge(evidence(group=PLAIN, radial=hidden))
    assert plain.suspect is not Suspect.HIDDEN_DECAY
    # In one layer alone it is as steady as no ε can be.
    alone = RadialLaw(kappa=Estimate(5e-4, 4e-4, 6e-4), spread=0.01, positive=1.0, defect=0.1)
    alone = dataclasses.replace(alone, others=5, expected_defect=1e-4)
    alarm(Suspect.HIDDEN_DECAY, K.GRADIENT_ALTERED, radial=alone)
    healthy(radial=dataclasses.replace(alone, spread=0.2))
    healthy(radial=dataclasses.replace(hidden, hidden=False))


def test_entries_of_one_exact_size_were_clipped_to_it() -> None:
    audited = AuditedSteps(steps=22, entries_at=1e-3, entries_share=1.0, peak=0.01)
    verdict = alarm(Suspect.GRADIENT_CLIPPED, K.GRADIENT_ALTERED, audited=audited)
    assert "exactly the size 0.001" in verdict.reason
    healthy(audited=dataclasses.replace(audited, entries_share=0.5))
    healthy(audited=AuditedSteps(steps=22, peak=1.0))  # a run from before they were counted


def test_a_radial_gradient_has_the_cause_that_was_measured() -> None:
    share = {"radial_share": 0.5}
    alarm(Suspect.EPSILON, K.EPSILON_DOMINATED, **share)
    seen = alarm(Suspect.EPSILON, K.EPSILON_DOMINATED, **share, radial=RadialLaw(epsilon=0.2))
    assert "ε is 20% of ε + variance" in seen.reason
    left = AuditedSteps(steps=22, eval_mode=1.0)
    alarm(Suspect.EVAL_MODE, K.NOT_SCALE_INVARIANT, **share, audited=left)
    unknown = judge(evidence(**share, radial=RadialLaw(epsilon=1e-6)))
    assert (unknown.kind, unknown.suspect) == (K.NOT_SCALE_INVARIANT, Suspect.RADIAL_PART)
    assert (unknown.alarm, unknown.tone) == (False, Tone.CAUTION)
    assert "cause is not known" in unknown.reason
    assert "outward" not in unknown.reason
    uphill = RadialLaw(epsilon=1e-6, positive=0.01, spread=0.5)
    assert (
        "outward at 99% of the steps, as with SAM"
        in judge(evidence(radial_share=-0.2, radial=uphill)).reason
    )
    healthy(radial_share=0.09)
    # A part that may be chance, while ε was measured and is not the cause.
    healthy(**share, radial=RadialLaw(epsilon=1e-6, kappa=Estimate(0.05, -0.01, 0.11)))


def test_a_large_epsilon_is_named_where_nothing_is_certified() -> None:
    alarm(Suspect.EPSILON, K.EPSILON_DOMINATED, group=PLAIN, radial=RadialLaw(epsilon=0.5))
    assert not judge(evidence(group=PLAIN, radial=RadialLaw(epsilon=0.01))).alarm


def test_a_share_above_everything_is_a_multiple_and_not_a_percentage() -> None:
    outward = judge(evidence(radial_share=-5.55)).reason
    assert outward.endswith("works against weight decay with 5.5 times its pull")
    inward = judge(evidence(radial_share=0.25)).reason
    assert inward.endswith("adds 25% of weight decay's pull")


# Bands


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (0.91, 1.09, K.IN_EQUILIBRIUM),
        (0.89, 1.05, K.TOO_FEW_SAMPLES),
        (0.0, 1.35, K.TOO_FEW_SAMPLES),
        (math.nan, math.nan, K.TOO_FEW_SAMPLES),
        (0.60, 0.89, K.IN_BALANCE),
        (0.85, 0.95, K.IN_BALANCE),
        (1.11, 1.30, K.IN_BALANCE),
    ],
)
def test_in_equilibrium_needs_the_whole_interval_inside_the_band(low, high, kind) -> None:
    ratio = Estimate((low + high) / 2 if low == low else 1.0, low, high)
    for samples in (30, 1_000_000):
        verdict = judge(evidence(ratio=ratio, step=TESTED, samples=samples, step_law=Estimate()))
        assert verdict.kind is kind
        assert not verdict.alarm


def test_the_band_is_a_setting() -> None:
    ratio = Estimate(1.0, 0.93, 1.07)
    assert judge(evidence(ratio=ratio)).kind is K.IN_EQUILIBRIUM
    verdict = judge(evidence(ratio=ratio, band=0.05))
    assert verdict.kind is K.TOO_FEW_SAMPLES
    assert "within 0.95 to 1.05" in verdict.reason


def test_an_interval_that_is_too_wide_is_no_approach_either() -> None:
    follows = judge(evidence(settled=False, ratio=Estimate(0.95, 0.8, 1.2)))
    assert follows.kind is K.APPROACHING
    vague = judge(evidence(settled=False, ratio=Estimate(0.7, 0.0, 1.35)))
    assert vague.kind is K.TOO_FEW_SAMPLES


def test_neighbours_that_momentum_makes_alike_are_too_few() -> None:
    assert judge(evidence(lasted=29.0, memory=10.0)).kind is K.TOO_FEW_SAMPLES
    healthy(lasted=30.0, memory=10.0)


def test_a_band_of_zero_width_around_one_is_missed_by_both_sides() -> None:
    for width in (0.01, 0.05, 0.2):
        outside = Estimate(1.5, 1.5 - width, 1.5 + width)
        assert place(outside, 0.9, 1.1) is Place.OUTSIDE
        mirrored = Estimate(1.0, 1.0 - width, 1.0 + width)
        assert (place(mirrored, 0.9, 1.1) is Place.INSIDE) == (width <= 0.1)


# Angles that are not judged


def test_angles_below_the_floor_are_not_judged() -> None:
    assert judge(evidence(measured=9e-7)).kind is K.NO_PREDICTION
    healthy(measured=1.1e-6)


@pytest.mark.parametrize("transient", [math.nan, 3.2])
def test_a_forecast_that_is_no_angle_is_no_prediction(transient) -> None:
    verdict = judge(evidence(settled=False, transient=transient, ratio=Estimate()))
    assert verdict.kind is K.NO_PREDICTION
    assert not verdict.alarm


# Another angle


def lion(**changes):
    hp = HyperParameters("lion", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99))
    healthy = evidence()
    stage = dataclasses.replace(healthy.stage, hp=hp)
    return judge(evidence(stage=stage, residual=math.nan, **changes))


def test_lion_at_another_angle_is_in_balance_with_its_correlation() -> None:
    verdict = lion(
        ratio=Estimate(0.8, 0.78, 0.82),
        step_law=Estimate(),
        continuity=Continuity(pairs=999),
        assumed=Assumed(assumed=45.9),
    )
    assert (verdict.kind, verdict.suspect) == (K.IN_BALANCE, Suspect.CORRELATED_GRADIENTS)
    assert "1.56 times the assumed one" in verdict.reason
    assert "It was not measured" in verdict.reason
    assert not verdict.alarm


def test_where_every_law_holds_the_pull_is_given_or_why_it_is_not_known() -> None:
    off = {"ratio": Estimate(0.8, 0.78, 0.82), "step_law": Estimate(), "step": TESTED}
    tug = TugOfWar(pull=Estimate(0.081, 0.08, 0.082), unknown="")
    verdict = judge(evidence(tug=tug, **off))
    assert (verdict.kind, verdict.suspect) == (K.IN_BALANCE, None)
    assert "pull of weight decay and loss (0.081) alone gives 0.90" in verdict.reason
    # Inside Adam the decay is divided, too: its pull is no multiple of the decay that was set.
    hp = HyperParameters("adam", lr=1e-3, weight_decay=0.005, betas=(0.9, 0.999))
    stage = dataclasses.replace(evidence().stage, hp=hp)
    adam = {"stage": stage, "tug": tug, "continuity": Continuity(pairs=999)} | off
    adam["assumed"] = Assumed(entries=Estimate(1.9, 1.8, 2.0))
    verdict = judge(evidence(rest_angle=0.09, rest_norm=2.0, **adam))
    assert "pull of weight decay and loss (0.081) alone gives 0.90 at rest" in verdict.reason
    vague = judge(evidence(**adam))
    assert "0.081 (0.08 to 0.082), is too uncertain to give an angle" in vague.reason
    unknown = judge(evidence(tug=TugOfWar(unknown="nobody looked"), **off))
    assert "was not measured: nobody looked" in unknown.reason


def test_the_pull_of_the_metric_is_named_where_it_gives_the_angle() -> None:
    hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.999))
    stage = dataclasses.replace(evidence().stage, hp=hp)
    tug = TugOfWar(pull=Estimate(0.064, 0.06, 0.068), balance=Estimate(1.0, 0.98, 1.02), unknown="")
    off = {"ratio": Estimate(0.8, 0.78, 0.82), "step_law": Estimate(), "residual": math.nan}
    verdict = judge(evidence(stage=stage, tug=tug, **off))
    assert (verdict.kind, verdict.suspect) == (K.IN_BALANCE, Suspect.UNEVEN_ENTRIES)
    assert "0.64 times weight decay, which alone gives 0.80" in verdict.reason


def test_large_gradients_are_the_cause_only_where_their_law_is_nearer_than_the_angle() -> None:
    off = {"ratio": Estimate(0.9, 0.86, 0.94), "step": TESTED}
    tails = judge(evidence(step_law=Estimate(0.98, 0.95, 1.01), **off))
    assert tails.suspect is Suspect.HEAVY_TAILS
    alike = judge(evidence(step_law=Estimate(0.92, 0.86, 0.98), **off))
    assert (alike.kind, alike.suspect) == (K.IN_BALANCE, None)


def test_another_size_of_the_gradient_is_named_with_its_step_in_any_verdict() -> None:
    change = ScaleChange(step=500, factor=32.0, groups=6, known=6, spread=1e-9)
    off = {"ratio": Estimate(0.8, 0.78, 0.82), "step_law": Estimate(), "step": TESTED}
    for changes, kind in (({}, K.IN_EQUILIBRIUM), (off, K.IN_BALANCE)):
        verdict = judge(evidence(scale_changes=(change,), **changes))
        assert (verdict.kind, verdict.suspect) == (kind, Suspect.GRADIENT_SCALE)
        assert "× 32 at step 500, as in 6 of 6 groups" in verdict.reason
        assert not verdict.alarm


@pytest.mark.parametrize("grown", [0.37, -0.02])
@pytest.mark.parametrize("left", [1.1, 4.0])
def test_a_single_large_gradient_is_named_with_what_it_did_to_the_norm(grown, left) -> None:
    spike = Spike(step=412, factor=1000.0, grown=grown, left=left, spikes=1)
    verdict = judge(evidence(spike=spike))
    assert (verdict.kind, verdict.suspect) == (K.IN_EQUILIBRIUM, Suspect.GRADIENT_SPIKE)
    assert not verdict.alarm
    did = "grew by 37%" if grown > 0 else "shrank by 2%"
    assert "At step 412 the gradient was 1,000 times as large" in verdict.reason
    assert f"in one step the norm {did}" in verdict.reason
    assert ("4 times as large as before" in verdict.reason) is (left == 4.0)
    # The first of many such steps is no single one.
    change = ScaleChange(step=412, factor=1000.0, groups=6, known=6, spread=1e-9)
    scaled = judge(evidence(spike=spike, scale_changes=(change,)))
    assert scaled.suspect is Suspect.GRADIENT_SCALE
    assert "At step 412" not in scaled.reason
    # Beside an alarm it is not said: its suspect must not stand for the alarm's.
    broken = judge(evidence(spike=spike, audited=replayed()))
    assert broken.suspect is Suspect.STEP_DIFFERS
    assert "At step 412" not in broken.reason


def test_decay_hidden_beside_a_plain_group_is_a_clause_and_no_alarm() -> None:
    beside = HiddenBeside(hidden=3, certified=4, kappa=0.005)
    verdict = judge(evidence(group=PLAIN, hidden_beside=beside))
    assert (
        "3 of 4 certified groups of this optimizer hide a weight decay of 0.005" in verdict.reason
    )
    assert not verdict.alarm
    assert verdict.kind is judge(evidence(group=PLAIN)).kind


def test_an_old_gradient_used_again_is_a_finding() -> None:
    verdict = judge(evidence(stale=Stale(pairs=100, same=50, steps=(1, 3, 5))))
    assert verdict.suspect is Suspect.STALE_GRADIENT
    assert "50 of 100 steps" in verdict.reason
    assert judge(evidence(stale=Stale(pairs=100, same=2))).suspect is None
    old = judge(
        evidence(stale=Stale(pairs=100, same=50, steps=(1,)), radial_share=-0.5, defect=0.3)
    )
    assert (old.suspect, old.alarm) == (Suspect.STALE_GRADIENT, False)


def test_without_a_law_that_was_tested_another_angle_is_off_and_no_alarm() -> None:
    verdict = judge(evidence(ratio=Estimate(0.8, 0.78, 0.82), step_law=Estimate()))
    assert (verdict.kind, verdict.suspect, verdict.alarm) == (K.OFF, None, False)
    assert verdict.has_reason(AngleReason.UNEXPLAINED)


# What is said beside it


def on_the_way(**changes):
    return judge(evidence(settled=False, transient=0.08, measured=0.08, **changes))


@pytest.mark.parametrize(
    ("more", "to_judge", "said"),
    [
        (1.0, math.nan, "about 1 more step to within 5%"),
        (250.0, math.nan, "about 250 more steps to within 5%"),
        (
            0.0,
            80.0,
            "it arrived at the stage's end, and about 80 more steps are needed to judge it",
        ),
        (0.0, -5.0, "but the gradient still changes"),
    ],
)
def test_steps_that_are_left_are_not_promised_to_a_group_that_is_there(
    more, to_judge, said
) -> None:
    verdict = on_the_way(steps_more=more, steps_to_judge=to_judge)
    assert said in verdict.reason
    assert verdict.kind is K.APPROACHING


def test_where_a_group_will_rest_is_said_if_the_loss_pulls_too() -> None:
    tug = TugOfWar(pull=Estimate(0.05, 0.04, 0.06), decay_share=Estimate(2.0, 1.7, 2.5), unknown="")
    verdict = on_the_way(tug=tug, rest_norm=3.0, rest_angle=0.07, steps_more=9.0)
    assert "of which decay is 200%" in verdict.reason
    assert "rest at norm 3, turning 0.07 rad a step" in verdict.reason
    none = on_the_way(tug=dataclasses.replace(tug, pull=Estimate(-0.05, -0.06, -0.04)))
    assert "there is no equilibrium" in none.reason
    alike = dataclasses.replace(tug, decay_share=Estimate(1.02, 1.0, 1.04))
    assert "rest at" not in on_the_way(tug=alike, rest_norm=3.0, rest_angle=0.07).reason


def test_every_verdict_about_rest_says_the_share_of_weight_decay() -> None:
    tug = TugOfWar(pull=Estimate(0.1, 0.09, 0.11), decay_share=Estimate(1.0, 0.9, 1.1), unknown="")
    said = "Weight decay is 100% of the pull (90% to 110%)"
    off = {"ratio": Estimate(0.8, 0.78, 0.82), "step_law": Estimate()}
    for kind, changes in (
        (K.IN_EQUILIBRIUM, {}),
        (K.APPROACHING, {"settled": False}),
        (K.APPROACHING, {"settled": False, "rest": None}),
        (K.IN_BALANCE, off | {"step": TESTED}),
        (K.OFF, off),
    ):
        verdict = judge(evidence(tug=tug, **changes))
        assert verdict.kind is kind
        assert verdict.reason.count(said) == 1, verdict.reason
    vague = dataclasses.replace(tug, decay_share=Estimate(2.0, 0.6, math.inf))
    assert "Weight decay is at least 60% of the pull" in judge(evidence(tug=vague)).reason
    assert "pull" not in judge(evidence()).reason  # it is not known
