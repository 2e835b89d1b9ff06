"""Steps to rest by the recursion, against the stepped recursion of `simulate` and naive loops."""

import math

import numpy as np
import pytest

from spherical_motion import simulate, theory
from spherical_motion.errors import OutOfDomain
from spherical_motion.theory import GroupFacts, family_of
from spherical_motion.theory.balance_by_step import carried_on
from spherical_motion.theory.recursion.step import linear_part, rested
from spherical_motion.theory.recursion.walk import compiled_walk, walked
from spherical_motion.vocabulary import HyperParameters, Schedule

KINDS = {
    "heavy ball": {},
    "nesterov": {"nesterov": True},
    "decoupled": {"decoupled": True},
}


def sgd(a: float, momentum: float, **kind: bool) -> HyperParameters:
    return HyperParameters("sgd", lr=1.0, weight_decay=a, momentum=momentum, **kind)


def simulated(hp: HyperParameters, drop: float, within: float, steps: int) -> tuple[int, float]:
    """(steps until the angle stays within after a drop from rest, excess at the drop)."""
    before = HyperParameters(
        "sgd", lr=hp.lr * drop, weight_decay=hp.weight_decay, momentum=hp.momentum
    )
    wait = math.ceil(200 + 60 / (1 - hp.momentum) + 9 * (1 - hp.momentum) / before.intrinsic_lr)
    plan = Schedule.step_decay(before, wait + steps, [wait], factor=drop)
    start = theory.equilibrium_norm(before, unit_grad_sq=1.0)
    run = simulate.norm_through(plan, 1.0, norm0=start, every=1)
    rest = theory.equilibrium_norm(hp, unit_grad_sq=1.0)
    far = np.abs(run.angle[wait:] / theory.equilibrium_angle(hp) - 1.0) > within
    assert not far[-steps // 4 :].any()
    return int(np.flatnonzero(far)[-1]) + 1, float((run.norm[wait] / rest) ** 4)


@pytest.mark.parametrize(
    ("lr", "weight_decay", "momentum", "steps"),
    [
        (0.1, 5e-4, 0.99, 4_000),  # beyond (1 - √α)²: norm and buffer swing
        (0.1, 1e-4, 0.99, 4_000),  # 0.4 of it
        (0.1, 5e-3, 0.9, 2_000),
        (0.1, 1e-3, 0.9, 4_000),
        (0.1, 1e-3, 0.5, 40_000),
        (0.1, 1e-2, 0.0, 10_000),
        (1e-2, 1e-4, 0.9, 400_000),  # far more steps than are taken one by one
    ],
)
@pytest.mark.parametrize("drop", [10.0, 0.25])
def test_steps_are_those_of_the_simulated_norm(
    lr: float, weight_decay: float, momentum: float, steps: int, drop: float
) -> None:
    hp = HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum)
    taken, excess = simulated(hp, drop, 0.05, steps)
    assert math.ceil(theory.steps_to_within(hp, excess, 0.05)) == pytest.approx(taken, abs=1)


def test_swings_count_to_the_last_one() -> None:
    hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.99)
    assert theory.steps_to_equilibrium(hp, lr_drop=10, within=0.05) == 606
    by_linear_law = math.log(9 / (0.95**-2 - 1)) / theory.relaxation_rate(hp)
    assert math.ceil(by_linear_law) == 222


def naive(hp: HyperParameters, excess: float, within: float, most: int) -> int:
    """Weights and buffer in three dimensions, with a gradient of the given size on the side.

    The gradient stands on weights and buffer alike: the buffer is kept as its part along the
    weights and the squared rest of it, which is what the mean over random directions leaves.
    """
    family, facts = family_of(hp), GroupFacts(unit_grad_sq=1.0)
    rest, angle = family.norm(hp, facts), family.angle(hp, facts)
    state = rested(family.recursion(hp, facts), hp.intrinsic_lr, hp.momentum, excess)
    lr, lam, m = hp.lr, hp.weight_decay, hp.momentum
    ww, wv, vv = state.x * rest**2, -state.p * rest**2 / lr, state.q * rest**2 / lr**2
    last = -1
    for step in range(most):
        gg = 1.0 / ww
        fresh = gg + (0.0 if hp.decoupled else lam**2 * ww)  # |g + λw|²
        decay = 0.0 if hp.decoupled else lam
        after = m * wv + decay * ww  # <w, v'>
        vv = m * m * vv + 2.0 * m * decay * wv + fresh
        pull_v = decay * after + gg + m * 0.0  # <g + λw, v'> for g orthogonal to the buffer
        if hp.nesterov:
            wu, uu, uv = (
                decay * ww + m * after,
                fresh + 2 * m * pull_v + m * m * vv,
                pull_v + m * vv,
            )
        else:
            wu, uu, uv = after, vv, vv
        if hp.decoupled:
            wu, uu, uv = wu + lam * ww, uu + 2 * lam * after + lam**2 * ww, uv + lam * after
        wd, dd = -lr * wu, lr * lr * uu
        turned = math.atan2(math.sqrt(max(dd * ww - wd * wd, 0.0)), ww + wd)
        last = step if abs(turned / angle - 1.0) > within else last
        ww, wv = ww + 2.0 * wd + dd, after - lr * uv
    return last + 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.3, 0.9, 0.97])
@pytest.mark.parametrize("a", [2e-5, 1e-3, 3e-2, 0.4])
def test_steps_of_each_kind_are_those_of_a_naive_loop(kind: str, momentum: float, a: float) -> None:
    hp = sgd(a, momentum, **KINDS[kind])
    for excess in (0.3, 8.0):
        steps = theory.steps_to_within(hp, excess, 0.05)
        if steps < 20_000:
            taken = naive(hp, excess, 0.05, math.ceil(1.5 * steps) + 300)
            assert math.ceil(steps) == pytest.approx(taken, abs=1), excess


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.9999])
def test_small_rates_take_the_linear_law(kind: str, momentum: float) -> None:
    facts = GroupFacts()
    for excess in (1e-3, 0.5, 4.0, 1e12):
        gaps = []
        for a in np.array([1e-3, 1e-4]) * (1 - momentum) ** 2:
            hp = sgd(a, momentum, **KINDS[kind])
            steps = theory.steps_to_within(hp, excess, 0.05)
            target = 0.95**-2 if excess > 1 else 1.05**-2
            law = math.log((excess - 1) / (target - 1)) / family_of(hp).relaxation_rate(hp, facts)
            gaps.append(abs(steps / law - 1))
        assert gaps[0] < 0.03
        assert gaps[1] < 0.15 * gaps[0] + 1e-8  # the error is of order ηλ


def test_momentum_to_0_is_plain_sgd() -> None:
    for a in (1e-6, 1e-2, 0.7):
        plain, almost = (theory.steps_to_within(sgd(a, m), 10.0, 0.05) for m in (0.0, 1e-9))
        assert almost == pytest.approx(plain, rel=1e-6)


def test_steps_are_continuous_where_the_way_of_counting_changes() -> None:
    for momentum in (0.5, 0.9, 0.9901):
        decays = np.geomspace(1e-4, 0.5, 40) * (1 - math.sqrt(momentum)) ** 2
        steps = np.array([theory.steps_to_within(sgd(a, momentum), 10.0, 0.05) for a in decays])
        assert (np.diff(steps) < 0).all()
        assert np.abs(np.diff(np.log(steps), 2)).max() < 0.05


def test_at_rest_the_recursion_rests() -> None:
    for kind in KINDS.values():
        for momentum in (0.0, 0.5, 0.99):
            hp = sgd(1e-2, momentum, **kind)
            rule = family_of(hp).recursion(hp, GroupFacts())
            state = rested(rule, 1e-2, momentum, 1.0)
            here = np.array([state.x, state.p, state.q, rule.push(1e-2, momentum) / state.x])
            along, length, product, square = np.array(rule.rows(1e-2, momentum)) @ here
            moved = [2 * along + length, product - state.p, square - state.q]
            assert np.abs(moved if momentum else moved[:1]).max() < 1e-15
            assert np.abs(np.linalg.eigvals(linear_part(rule, 1e-2, momentum))).max() < 1


def test_more_steps_than_a_number_holds_are_refused() -> None:
    for kind in ("sgd", "adamw"):
        hp = HyperParameters(kind, lr=1e-160, weight_decay=1e-160, momentum=0.9)
        with pytest.raises(OutOfDomain, match="never reached"):
            theory.steps_to_equilibrium(hp, lr_drop=10, within=0.05)
        with pytest.raises(OutOfDomain, match="never reached"):
            theory.steps_to_equilibrium(hp, lr_drop=10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_the_compiled_walk_is_the_plain_one_to_the_last_bit(kind: str, momentum: float) -> None:
    facts = GroupFacts(overlap=0.05)
    for a, excess in [(1e-4, 30.0), (1e-3, 0.2), (1e-2, 5.0), (0.3, 2.0)]:
        hp = sgd(a, momentum, **(KINDS[kind] if momentum else {}))
        rule = family_of(hp).recursion(hp, facts)
        start = rested(rule, a, momentum, excess)
        told = (*rule.rows(a, momentum), rule.push(a, momentum), start.x, start.p, start.q)
        for low, high, watch, most in [(0.9, 1.1, 20.0, math.inf), (0.5, 1e4, 1e9, 100.0)]:
            given = (*told, low, high, watch, most, 3000)
            assert compiled_walk()(*given) == walked(*given)


def test_an_empty_buffer_stays_empty_while_there_is_no_momentum() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found, links = rng.random((2, 30)) < 0.4
        slow = found.copy()
        for t in range(1, 30):
            slow[t] |= links[t] and slow[t - 1]
        assert (carried_on(found, links) == slow).all()
