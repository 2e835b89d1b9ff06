"""Where a weight comes to rest under a given pull, and how long that takes.

At rest growth is 0, and the balance law leaves |d|²/|w|² = f·2ηp, for any weight and whatever makes
the pull p = δ + c<w, Px>/|w|². A loss that acts on the norm, a norm layer's epsilon and weight
decay hidden in the loss all count alike. Without weight decay there is an equilibrium, too, if the
loss draws the weights inward. With p <= 0 there is none, and the norm grows.

The norm follows from how steps and pull change with it. Steps of one size have D/R ∝ R^-1 (Adam and
others); gradients of one size on the unit sphere D/R ∝ R^-2 (SGD), in general R^-q. With
p ∝ R^e the balance is, in r = R/R*,

    s·d ln r/dt = 2ηp*(r^-q - r^e),    R* = R·[(D/R)/(2fηp)]^{1/(q + e)},

which relaxes at the rate 2ηp*(q + e)/s. For a scale-invariant group e is 0 if the pull is constant,
as decay is, and q is known.
"""

from __future__ import annotations

import math

import numpy as np

from spherical_motion import checks, sphere
from spherical_motion.checks import held, number
from spherical_motion.errors import OutOfDomain
from spherical_motion.theory.balance_law import CANCELS
from spherical_motion.theory.families import family_of, law_of
from spherical_motion.theory.group import Fact, GroupFacts
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters, pull_scale

NODES = 64
"""Of the quadrature; ten digits for any start within e^±10 of rest."""


@checks.validated
def pulled_angle(
    hp: HyperParameters, pull: float, *, overlap: Fact = None, correlation: Fact = None
) -> float:
    """Angle by which each step turns a weight at rest under this pull, in radians.

    cos Δ* = 1 - D/(2R) with D/R = f·2ηp (`law_of`), for every weight, scale-invariant or not, and
    also for optimizers whose plain equilibrium is not known. With p = λ it is `equilibrium_angle`.

    Args:
        hp: settings.
        pull: p, of `balance` or `sphere.pull`, in units of weight decay.
        overlap: <v_{t-1}, g>/|g|² for Nesterov; correlation: for Muon and others.

    Raises:
        OutOfDomain: pull <= 0, where the norm grows and nothing rests; a pull that is less than a
            20th of the weight decay, so that its error is larger than itself; steps too large for
            a rest.
        NoTheory: no balance law for this optimizer.

    Source: derived here.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3, momentum=0.9)
    >>> round(pulled_angle(hp, 1e-3), 6)  # nothing but the decay
    0.01026
    >>> round(pulled_angle(hp, 0.25e-3), 6)  # the loss cancels three quarters of it
    0.00513
    """
    pull = _positive(hp, pull, "pulled_angle")
    decay = _own_decay(hp)
    if decay > CANCELS * pull:
        raise OutOfDomain(
            f"pulled_angle: the angle at rest is unknown, because the loss cancels all but "
            f"1/{decay / pull:.0f} of the weight decay: the pull {pull:g} is smaller than its own "
            "error. Take `pulled_angle_interval`, or measure the pull over a longer window."
        )
    return _angle(hp, pull, GroupFacts(overlap=overlap, correlation=correlation), "pulled_angle")


@checks.validated
def pulled_angle_interval(
    hp: HyperParameters,
    low: float,
    high: float,
    *,
    overlap: Fact = None,
    correlation: Fact = None,
) -> tuple[float, float]:
    """The angles at rest that belong to an interval of the pull.

    The angle goes as the root of the pull, so that the interval is wider downward. Where `low` is
    0 or less it is open: its lower end is 0, and the weight may not come to rest at all.

    Args:
        hp, overlap, correlation: as `pulled_angle`.
        low, high: ends of the pull's interval; high > 0.

    Raises what `pulled_angle` raises, but for a pull that is small beside the decay.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3, momentum=0.9)
    >>> low, high = pulled_angle_interval(hp, 0.1e-3, 0.4e-3)
    >>> round(low, 6), round(high, 6)
    (0.003244, 0.006489)
    >>> pulled_angle_interval(hp, -0.1e-3, 0.4e-3)[0]
    0.0
    """
    where = "pulled_angle_interval"
    low = number(where, "low", low, error=OutOfDomain)
    high = number(where, "high", high, least=low, error=OutOfDomain)
    facts = GroupFacts(overlap=overlap, correlation=correlation)
    top = _angle(hp, _positive(hp, high, where), facts, where)
    return (_angle(hp, low, facts, where) if low > 0 else 0.0), top


@checks.validated
def pulled_norm(
    hp: HyperParameters,
    pull: float,
    *,
    norm: float,
    step_ratio: float,
    pull_power: float | None = None,
    correlation: Fact = None,
) -> float:
    """Norm at which a weight comes to rest under this pull, from where it is now.

    |w*|² = |w|²·[(D/R)/(2fηp)]^{1/(q + e)} with q = 2 for SGD and 1 for others, to leading order in
    ηp. For a scale-invariant group that decay alone pulls (or decay hidden in the loss) e is 0, for
    Adam with L2 ½. For any other weight this is a guess: its gradient need not go as 1/|w|, and its
    pull changes with the norm by a power e that only measurements at several norms tell.

    Args:
        hp: settings.
        pull: p now, > 0.
        norm: |w| now.
        step_ratio: √(mean |d|²/mean |w|²) now.
        pull_power: e = d ln p/d ln |w|²; left out, that of a scale-invariant group.
        correlation: for Muon and others.

    Raises:
        OutOfDomain: pull <= 0; q + e <= 0, where no rest is stable.
        NoTheory: neither a family with a known power nor a balance law.

    Source: derived here.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> step_ratio = 2 * math.sqrt(2e-4)  # twice that at rest
    >>> round(pulled_norm(hp, 1e-3, norm=1.0, step_ratio=step_ratio), 6)
    1.414214
    """
    where = "pulled_norm"
    larger, _ = _distance(hp, pull, step_ratio, pull_power, correlation, where)
    norm = number(where, "norm", norm, above=0.0, error=OutOfDomain)
    with np.errstate(over="ignore", under="ignore"):
        return held(where, np.exp(math.log(norm) - 0.5 * larger))


@checks.validated
def steps_to_rest_with_pull(
    hp: HyperParameters,
    pull: float,
    *,
    step_ratio: float,
    within: float = 0.05,
    pull_power: float | None = None,
    correlation: Fact = None,
) -> float:
    """Steps until a weight turns within a share `within` of its angle at rest under this pull.

    The integral of s·d ln r/(2ηp*(r^-q - r^e)) from where the steps are now. For a scale-invariant
    group with constant pull; for any other weight a guess, as `pulled_norm` says. Leading order in
    ηp, after a start-up of 1/(1 - α) steps.

    Args:
        hp, pull, step_ratio, pull_power, correlation: as `pulled_norm`.
        within: share of the angle at rest, in (0, 1).

    Raises what `pulled_norm` raises.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> at_rest = math.sqrt(2e-4)
    >>> round(steps_to_rest_with_pull(hp, 1e-3, step_ratio=at_rest / 3))
    10762
    """
    where = "steps_to_rest_with_pull"
    start, e = _distance(hp, pull, step_ratio, pull_power, correlation, where)
    within = number(where, "within", within, above=0.0, below=1.0, error=OutOfDomain)
    q = family_of(hp).power / 2
    goal = 2.0 / q * abs(math.log1p(within if start < 0 else -within))
    if abs(start) <= goal:
        return 0.0
    # ln r = ±e^v makes the integrand smooth up to rest.
    middle, half = 0.5 * math.log(abs(start) * goal), 0.5 * math.log(abs(start) / goal)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    at = math.copysign(1.0, start) * np.exp(middle + half * nodes)
    _, s = law_of(hp).form(hp, GroupFacts(correlation=correlation))
    if not s > 0:
        raise OutOfDomain(
            f"{where}: lr × weight_decay = {hp.intrinsic_lr:g} is too large beside 1 - momentum = "
            f"{1.0 - hp.momentum:g}: the buffer forgets more slowly than the weights. Lower either."
        )
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        # at/(e^{e·at}·expm1(-(q + e)·at)), the larger power divided out.
        power = np.where(at > 0, e, -q) * at
        flow = np.abs(at / np.expm1(-(q + e) * np.abs(at))) * np.exp(-power + e * start)
        return held(where, s * (half * weights @ flow) / (2.0 * hp.lr) / pull)


@checks.validated
def angle_of_step(step_ratio: float, norm_ratio: float = 1.0) -> float:
    """Angle of a step of length |d| = step_ratio·|w| that ends at |w'| = norm_ratio·|w|, radians.

    4sin²(Δ/2) = [D - (|w'| - |w|)²]/(|w||w'|), the law of cosines; exact. Over many steps
    ΣRΔ²/ΣR = (ΣD/ΣR)(1 - r) to leading order, with r = `radial_share`.

    Raises OutOfDomain: no step has this length and ends at this norm.

    >>> angle_of_step(math.sqrt(2.0))  # a quarter turn
    1.5707963267948968
    """
    step = number("angle_of_step", "step_ratio", step_ratio, least=0.0, error=OutOfDomain)
    norm = number("angle_of_step", "norm_ratio", norm_ratio, above=0.0, error=OutOfDomain)
    apart = norm - 1.0
    sine_sq = (step - apart) / norm * (step + apart) / 4.0  # no square that overflows
    if not 0.0 <= sine_sq <= 1.0:
        raise OutOfDomain(
            f"angle_of_step: a step from |w| to {norm:g}·|w| has a length between "
            f"{abs(norm - 1.0):g} and {norm + 1.0:g} times |w|, got step_ratio={step:g}."
        )
    return 2.0 * math.asin(math.sqrt(sine_sq))


def radial_share(gram: Gram) -> float:
    """r = Σ(|w'| - |w|)²/ΣD: the share of the squared steps that only changes the norm.

    About one over the number of directions that steps use: 2% at 50 entries alike, up to 9% on real
    layers, 1 for a single entry. Angles are means with weights |w|² here.

    Args:
        gram: all steps of one group; NaN if none moved.

    >>> along = Gram(ww=[1.0], wd=[0.1], dd=[0.01], wg=[0.0], gg=[0.0], dg=[0.0])
    >>> round(radial_share(along), 9)
    1.0
    """
    moved = float(np.sum(gram.dd))
    radial = (2.0 * gram.wd + gram.dd) / (sphere.norm_after(gram) + sphere.norm(gram))
    return float(np.sum(radial**2)) / moved if moved > 0 else math.nan


def _distance(
    hp: HyperParameters,
    pull: float,
    step_ratio: float,
    pull_power: float | None,
    correlation: Fact,
    where: str,
) -> tuple[float, float]:
    """(ln of |w|² over that at rest, e), from the steps' size over that at rest."""
    pull = _positive(hp, pull, where)
    ratio = number(where, "step_ratio", step_ratio, above=0.0, error=OutOfDomain)
    family = family_of(hp)
    e = family.pull_power if pull_power is None else pull_power
    e = number(where, "pull_power", e, error=OutOfDomain)
    power = family.power / 2 + e
    if not power > 0:
        raise OutOfDomain(
            f"{where}: pull_power must be > -{family.power / 2:g} for {family.name}, got {e:g}: a "
            "pull that falls so fast as the norm grows does not hold it."
        )
    at_rest = law_of(hp).rest_ratio_sq(hp, pull, GroupFacts(correlation=correlation))
    if not 0.0 < at_rest < math.inf:
        raise OutOfDomain(
            f"{where}: |d|²/|w|² at rest would be {at_rest:g} with lr={hp.lr:g} and pull={pull:g}. "
            "Lower the learning rate, or check the pull."
        )
    return (math.log(at_rest) - 2.0 * math.log(ratio)) / power, e


def _angle(hp: HyperParameters, pull: float, facts: GroupFacts, where: str) -> float:
    ratio_sq = law_of(hp).rest_ratio_sq(hp, pull, facts)
    if not 0.0 < ratio_sq <= 4.0:
        raise OutOfDomain(
            f"{where}: |d|²/|w|² would be {ratio_sq:g} with lr={hp.lr:g} and pull={pull:g}; a step "
            "at rest lies within (0, 4]. Lower the learning rate, or check the pull."
        )
    return angle_of_step(math.sqrt(ratio_sq))


def _positive(hp: HyperParameters, pull: float, where: str) -> float:
    """`pull`, checked to be > 0: a weight that nothing draws inward does not come to rest."""
    if number(where, "pull", pull, error=OutOfDomain) > 0 and hp.lr > 0:
        return float(pull)
    if not hp.lr > 0:
        raise OutOfDomain(f"{where}: a learning rate of 0 moves nothing.")
    raise OutOfDomain(
        f"{where}: a weight comes to rest where the pull is > 0, got {pull:g}: the loss drives the "
        "norm outward at least as much as weight decay draws it inward, and it grows. Raise the "
        "weight decay, or read `Balance.growth`."
    )


def _own_decay(hp: HyperParameters) -> float:
    """What weight decay alone would pull; 0 where it acts inside a preconditioner."""
    if hp.decoupled:
        return hp.weight_decay
    return 0.0 if law_of(hp).preconditioned else hp.weight_decay * pull_scale(hp)
