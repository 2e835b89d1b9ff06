"""Angles, norms and rates of a Gram: pure functions of the six inner products.

`w` are the weights before a step, `d` the step, `g` the loss gradient; R = |w|² = `ww`,
D = |d|² = `dd`, C = <w, d> = `wd`. All functions work elementwise on arrays of any shape, return
float64, give NaN where a group was not measured, and never warn. The functions of momentum assume
the heavy-ball update of `torch.optim.SGD`: v ← αv + g + λw, w ← w - ηv.

Sources: "wan2020" and "wan2021" are Wan et al., *Spherical Motion Dynamics*, first and second
version; "Roburin" is Roburin et al., *A Spherical Analysis of Adam with Batch Normalization*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.checks import Array
from spherical_motion.errors import OutOfDomain
from spherical_motion.vocabulary.gram import Gram

__all__ = [
    "angle",
    "defect",
    "effective_lr",
    "effective_lr_l2",
    "momentum_alignment",
    "momentum_dot_gradient",
    "momentum_norm_sq",
    "norm",
    "norm_after",
    "pull",
    "radial_step",
    "radius_ratio",
    "step_norm",
    "tangent_of_angle",
    "tangential_step",
    "taylor_variable",
    "taylor_variable_remainder",
    "unit_gradient_drive",
    "unit_gradient_norm",
]

_quiet = np.errstate(divide="ignore", invalid="ignore", over="ignore")


@_quiet
def norm(gram: Gram) -> Array:
    """Norm of the weights before the step, |w|.

    >>> float(norm(Gram(ww=25.0, wd=0, dd=0, wg=0, gg=0, dg=0)))
    5.0
    """
    return np.sqrt(gram.ww)


@_quiet
def norm_after(gram: Gram) -> Array:
    """Norm of the weights after the step, |w + d|."""
    return np.sqrt(_clipped(gram.ww + 2.0 * gram.wd + gram.dd))


@_quiet
def step_norm(gram: Gram) -> Array:
    """Length of the whole step, |d|."""
    return np.sqrt(gram.dd)


@_quiet
def tangential_step(gram: Gram) -> Array:
    """Length of the part of the step that is orthogonal to w: |d⊥| = √(D - C²/R)."""
    return np.sqrt(_clipped(gram.dd - gram.wd * gram.wd / gram.ww))


@_quiet
def radial_step(gram: Gram) -> Array:
    """Step along w relative to |w|, C/R: dimensionless, negative is inward.

    In Roburin's notation (eq. 3-10) this is -A<c, u>; under hypothesis H1 (A<c, u> < 1) it is
    above -1.
    """
    return gram.wd / gram.ww


@_quiet
def angle(gram: Gram) -> Array:
    """Angle Δ between the weights before and after the step, in radians within [0, π].

    Δ = atan2(|d⊥||w|, R + C), accurate at any size; the arccos of a cosine loses half the digits
    of a small angle. Zero where there was no step; NaN where w is zero.

    Source: the angular update of wan2020, definition 1; exact.

    >>> quarter_turn = Gram(ww=1.0, wd=-1.0, dd=2.0, wg=0, gg=0, dg=0)    # w=(1,0), d=(-1,1)
    >>> float(angle(quarter_turn) / np.pi)
    0.5
    """
    turned = np.arctan2(tangential_step(gram) * norm(gram), gram.ww + gram.wd)
    return np.where(gram.ww > 0, turned, np.nan)[()]


@_quiet
def tangent_of_angle(gram: Gram) -> Array:
    """tan Δ, equal to η_e |c⊥| on the sphere for any optimizer (Roburin eq. 3-10)."""
    return tangential_step(gram) * norm(gram) / (gram.ww + gram.wd)


@_quiet
def radius_ratio(gram: Gram) -> Array:
    """|w_after| / |w|, equal to (1 - A<c, u>)·√(1 + tan²Δ) (Roburin eq. 3-10)."""
    return norm_after(gram) / norm(gram)


@checks.validated
@_quiet
def pull(gram: Gram, decoupled_decay: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> Array:
    """How strongly decay and loss together draw the weights inward: p = δ + c·<w, Px>/|w|².

    In units of weight decay: where the loss does not act on the norm, p is the weight decay. The
    loss adds to it where it shortens the weights and takes from it where it lengthens them.
    Negative is outward; NaN where `wp` was not measured. Of one step this is a noisy number: for
    the pull of a window divide the sum of `wp` by the sum of `ww`.

    Args:
        gram: with `wp` = <w, Px>.
        decoupled_decay: δ, the weight decay that acts on the weights themselves; 0 where it acts
            through the gradient, which is then in `wp`.
        scale: c, `vocabulary.hyperparameters.pull_scale`.

    Source: derived here (`theory.balance`).

    >>> half_cancelled = Gram(ww=4.0, wd=0, dd=0, wg=0, gg=0, dg=0, wp=-0.2)
    >>> float(pull(half_cancelled, decoupled_decay=0.1))
    0.05
    """
    decay, scale = np.asarray(decoupled_decay, np.float64), np.asarray(scale, np.float64)
    return (decay + scale * gram.wp / gram.ww)[()]


@_quiet
def unit_gradient_norm(gram: Gram) -> Array:
    """|g̃| = |w||g|: the norm of the gradient at w/|w|."""
    return np.sqrt(gram.ww * gram.gg)


@_quiet
def defect(gram: Gram) -> Array:
    """|<w, g>| / (|w||g|), within [0, 1]: zero where the loss does not depend on |w|.

    The defect of a zero gradient is 0.
    """
    scale = unit_gradient_norm(gram)
    return np.where(scale == 0, 0.0, np.abs(gram.wg) / scale)[()]


@checks.validated
@_quiet
def effective_lr(gram: Gram, lr: ArrayLike) -> Array:
    """Effective learning rate η/|w|² of SGD (wan2021, eq. 1).

    >>> float(effective_lr(Gram(ww=4.0, wd=0, dd=0, wg=0, gg=0, dg=0), lr=0.1))
    0.025
    """
    return np.asarray(lr, dtype=np.float64)[()] / gram.ww


@checks.validated
@_quiet
def effective_lr_l2(gram: Gram, lr: ArrayLike, weight_decay: ArrayLike) -> Array:
    """Effective learning rate of SGD with L2, Φ = η / (|w|²(1 - ηλ)) (Roburin, table 1)."""
    lr, weight_decay = np.asarray(lr, np.float64)[()], np.asarray(weight_decay, np.float64)[()]
    return effective_lr(gram, lr) / (1.0 - lr * weight_decay)


@checks.validated
@_quiet
def taylor_variable(gram: Gram, lr: ArrayLike) -> Array:
    """η²|∇L(u)|²/r² = η²|g|², as Roburin prints it."""
    return np.asarray(lr, np.float64)[()] ** 2 * gram.gg


@checks.validated
@_quiet
def taylor_variable_remainder(gram: Gram, lr: ArrayLike) -> Array:
    """η²|g|²/|w|², the small quantity (1/r⁴) in which Roburin's proof expands."""
    return taylor_variable(gram, lr) / gram.ww


@checks.validated
@_quiet
def momentum_dot_gradient(
    gram: Gram, lr: ArrayLike, weight_decay: ArrayLike, momentum: ArrayLike, nesterov: bool = False
) -> Array:
    """<v_{t-1}, g_t>: the momentum buffer before the step times this step's gradient.

    It follows from the step: v_{t-1} = (-d/η - g - λw)/α for the heavy ball. Valid for α > 0, no
    dampening, L2 decay, and from the second step on; NaN where α = 0. With float32 weights the
    products of d carry rounding errors, which are divided by η.
    """
    lr, weight_decay, momentum = _settings(lr, weight_decay, momentum)
    pull = gram.gg + weight_decay * gram.wg
    past, factor = (1.0 + momentum, momentum**2) if nesterov else (1.0, momentum)
    value = (-gram.dg / lr - past * pull) / factor
    return np.where(momentum > 0, value, np.nan)[()]


@checks.validated
@_quiet
def momentum_norm_sq(
    gram: Gram, lr: ArrayLike, weight_decay: ArrayLike, momentum: ArrayLike
) -> Array:
    """|v_{t-1}|² of the heavy ball before the step; valid where `momentum_dot_gradient` is."""
    lr, weight_decay, momentum = _settings(lr, weight_decay, momentum)
    whole = (
        gram.dd / lr**2
        + gram.gg
        + weight_decay**2 * gram.ww
        + 2.0 * gram.dg / lr
        + 2.0 * weight_decay * gram.wd / lr
        + 2.0 * weight_decay * gram.wg
    )
    value = _clipped(whole) / momentum**2
    return np.where(momentum > 0, value, np.nan)[()]


@checks.validated
@_quiet
def momentum_alignment(
    gram: Gram, lr: ArrayLike, weight_decay: ArrayLike, momentum: ArrayLike
) -> Array:
    """Cosine between the heavy ball's buffer before the step and the gradient, in [-1, 1]."""
    dot = momentum_dot_gradient(gram, lr, weight_decay, momentum)
    size = momentum_norm_sq(gram, lr, weight_decay, momentum)
    return dot / np.sqrt(size * gram.gg)


@checks.validated
@_quiet
def unit_gradient_drive(
    gram: Gram, lr: ArrayLike, weight_decay: ArrayLike, momentum: ArrayLike, nesterov: bool = False
) -> Array:
    """h̃ = |w|²(|g|² + 2α<v_{t-1}, g>), which drives the norm outward; its mean is L.

    Without momentum it is |g̃|². With momentum it includes the gradient's overlap with the buffer
    (wan2021, assumption 6; wan2020, eq. 93, lacks the factor 2). Single values may be negative.
    """
    lr, weight_decay, momentum = _settings(lr, weight_decay, momentum)
    dot = momentum_dot_gradient(gram, lr, weight_decay, momentum, nesterov)
    cross = np.where(momentum > 0, 2.0 * momentum * dot, 0.0)
    return (gram.ww * (gram.gg + cross))[()]


def _clipped(value: Array) -> Array:
    """`value`, but at least 0: rounding can make a sum of squares slightly negative."""
    return np.maximum(value, 0.0)


def _settings(*values: ArrayLike) -> tuple[Array, ...]:
    """lr, weight_decay and momentum, none of them negative; NaN where they are not known."""
    arrays = tuple(np.asarray(v, dtype=np.float64)[()] for v in values)
    if any(np.any(a < 0) for a in arrays):
        raise OutOfDomain(
            "sphere: lr, weight_decay and momentum must be >= 0, got "
            + ", ".join(f"{np.min(a):g}" for a in arrays)
            + ". Pass the recorded values; a maximizing optimizer has no negative lr either."
        )
    return arrays
