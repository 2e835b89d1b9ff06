"""What a step does on the unit sphere: effective learning rate, direction and radius.

The generic scheme x ← x - η·a/b (element-wise), with a the momentum and b Adam's divisor or ones,
seen at u = x/r: the direction is c = r·a/b·s with s = |b|/√d, and with A = η/(r²s)

    η_e = A/(1 - A<c, u>),    u ← (u - η_e c⊥)/√(1 + |η_e c⊥|²),
    r'/r = (1 - A<c, u>)·√(1 + |η_e c⊥|²),

as long as H1: A<c, u> < 1 (the step does not cross the origin) and H2: η_e|c⊥| < π. The angle of
the step is atan(η_e|c⊥|). Source: Roburin et al., theorem 2 and equations 3-10, 26-30; exact.
`sphere` has what follows from recorded products, this file the vectors and the closed forms.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion import checks
from spherical_motion.checks import Array, Number, above_zero, held
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.theory.families import family_of
from spherical_motion.theory.settings import is_heavy_ball
from spherical_motion.vocabulary.hyperparameters import HyperParameters


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ImageStep:
    """One step of the generic scheme, seen on the unit sphere; arrays over the leading axes.

    Attributes:
        effective_lr: η_e (eq. 7).
        direction: c⊥, orthogonal to u; shape (..., d).
        radial: A<c, u>: what the step takes off the radius, as a share.
        moment: ν = r·|b|/√d.
        angle: atan(η_e|c⊥|), rad.
        after: the next point u' (eq. 8); shape (..., d).
        radius_ratio: r'/r (eq. 10).
        h1, h2: whether the hypotheses hold; without H1 `after` and the angle are the antipode's.
    """

    effective_lr: Array
    direction: Array
    radial: Array
    moment: Array
    angle: Array
    after: Array
    radius_ratio: Array
    h1: NDArray[np.bool_]
    h2: NDArray[np.bool_]


@checks.validated
def image_step(
    x: ArrayLike, momentum: ArrayLike, lr: ArrayLike, divisor: ArrayLike = 1.0
) -> ImageStep:
    """Theorem 2: the step x ← x - η·a/b as a step on the sphere.

    Args:
        x: weights, shape (..., d), not zero.
        momentum: a, of x's shape: the buffer *including* this gradient and its L2 decay.
        lr: η > 0, broadcastable to x's leading shape.
        divisor: b > 0: Adam's √v̂ + ε with the bias correction of a (eq. 25); 1 for SGD.

    Raises OutOfDomain: a zero weight vector, or lr or divisor not positive.

    >>> step = image_step([3.0, 4.0], momentum=[0.8, -0.6], lr=5.0)
    >>> float(step.effective_lr), float(np.round(np.tan(step.angle), 6))
    (0.2, 1.0)
    """
    x = np.atleast_1d(np.asarray(x, np.float64))
    a = checks.fitted("image_step", "momentum", momentum, x.shape)
    b = checks.fitted("image_step", "divisor", divisor, x.shape)
    r = np.linalg.norm(x, axis=-1)
    lr = checks.fitted("image_step", "lr", lr, r.shape)
    for name, values in (("|x|", r), ("lr", lr), ("divisor", b)):
        above_zero("image_step", name, values)
    u = x / r[..., None]
    size = np.linalg.norm(b, axis=-1) / math.sqrt(x.shape[-1])
    # The step over r is A·c; its square stays in float64 where that of c does not.
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        moved = (lr / r)[..., None] * (a / b)
        radial = np.sum(moved * u, axis=-1)
        sideways = moved - radial[..., None] * u
        left = 1.0 - radial
        length = np.linalg.norm(sideways, axis=-1) / left
        share = lr / r / r / size
        grown = np.hypot(1.0, length)
        after = (u - sideways / left[..., None]) / grown[..., None]
        ratio = np.hypot(left, np.linalg.norm(sideways, axis=-1))
        direction = sideways / share[..., None]
        held("image_step", [ratio, share], "Check the sizes of x, momentum and divisor.")
        held("image_step", direction, "Check the sizes of x, momentum and divisor.")
        return ImageStep(
            effective_lr=share / left,
            direction=direction,
            radial=radial,
            moment=r * size,
            angle=np.arctan(np.abs(length)),
            after=after,
            radius_ratio=ratio,
            h1=radial < 1.0,
            h2=np.abs(length) < math.pi,
        )


@checks.validated
def effective_learning_rate(
    hp: HyperParameters,
    norm: Number,
    *,
    radial: Number | float | None = None,
    moment: Number | float | None = None,
) -> Number:
    """η_e of a scheme: η/r², with L2 η/(r²(1 - ηλ)), in general η/(rν)·(1 - A<c, u>)^{-1}.

    Source: Roburin, table 1; ν = r for SGD.

    Args:
        hp: SGD or Adam, with or without L2 or momentum.
        norm: r = |w|, any shape.
        radial: A<c, u>, the share the step takes off the radius (`-sphere.radial_step`); left out
            it is ηλ, which is exact for SGD without momentum.
        moment: ν, needed by Adam: `adam_moment_on_sphere`.

    Raises:
        InvalidArgument: Adam without `moment`, or momentum without `radial`.
        NoTheory: an optimizer outside the generic scheme.
        OutOfDomain: H1 does not hold, or norm or moment are not positive.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1.0)
    >>> round(effective_learning_rate(hp, norm=2.0), 6)
    0.027778
    """
    adam = _is_adam_l2(hp)
    if not (adam or is_heavy_ball(hp)):
        raise NoTheory(
            f"effective_learning_rate covers SGD and Adam with L2, got {family_of(hp).name}; "
            "image_step takes any momentum and divisor."
        )
    if radial is None and (hp.momentum or adam):
        raise InvalidArgument(
            "effective_learning_rate(radial=...) is needed with momentum: the buffer has a part "
            "along the weights. Take -sphere.radial_step(gram)."
        )
    r = nu = above_zero("effective_learning_rate", "norm", norm)
    if adam:
        if moment is None:
            raise InvalidArgument("effective_learning_rate(moment=...) is needed for Adam: its ν.")
        nu = above_zero("effective_learning_rate", "moment", moment)
    radial = hp.intrinsic_lr if radial is None else radial
    left = above_zero("effective_learning_rate", "1 - A<c, u>", 1.0 - np.asarray(radial))
    with np.errstate(over="ignore", under="ignore"):
        return held("effective_learning_rate", hp.lr / r / nu / left)


@checks.validated
def adam_moment_on_sphere(
    hp: HyperParameters, norm: ArrayLike, unit_grad_sq: ArrayLike, numel: int
) -> Array:
    """ν_k of Adam with L2, from the run so far (Roburin, eq. 45, with ε inside the root).

    ν_k = r_k d^{-½}(1 - β1^{k+1})/(1 - β1)·√(Σ_i (1 - β2)β2^{k-i}|g_i + λx_i|²/(1 - β2^{k+1}) + dε)
    with |g_i + λx_i|² = |g̃_i|²/r_i² + λ²r_i², as the gradient is orthogonal to the weights.
    `torch.optim.Adam` adds ε outside the root, which this leaves out of account.

    Args:
        hp: Adam with β2.
        norm: r before each step from the first on, shape (steps,) or (steps, groups).
        unit_grad_sq: |g̃|² at each of them.
        numel: d.

    Returns:
        ν of the shape of `norm`.
    """
    if not _is_adam_l2(hp) or hp.beta2 is None:
        raise InvalidArgument("adam_moment_on_sphere expects Adam with L2 and betas=(β1, β2).")
    r = above_zero("adam_moment_on_sphere", "norm", norm)
    if r.ndim == 0:
        raise InvalidArgument(
            "adam_moment_on_sphere expects norm and unit_grad_sq of shape (steps,) or (steps, "
            "groups), got single numbers."
        )
    squares = np.asarray(unit_grad_sq, np.float64) / r**2 + (hp.weight_decay * r) ** 2
    if not (np.isfinite(squares).all() and numel >= 1):
        raise InvalidArgument("adam_moment_on_sphere expects finite unit_grad_sq and numel >= 1.")
    mean = np.empty_like(squares)
    total = np.zeros(squares.shape[1:])
    for k, square in enumerate(squares):
        total = hp.beta2 * total + (1.0 - hp.beta2) * square
        mean[k] = total / -math.expm1((k + 1) * math.log(hp.beta2)) if hp.beta2 else square
    steps = np.arange(1, len(r) + 1).reshape(-1, *[1] * (r.ndim - 1))
    corrected = (1.0 - hp.momentum**steps) / (1.0 - hp.momentum)
    return r * corrected * np.sqrt((mean + numel * (hp.eps or 0.0)) / numel)


def _is_adam_l2(hp: HyperParameters) -> bool:
    family_of(hp)  # raises where there is no theory
    return hp.optimizer in ("adam", "adamw") and not hp.decoupled  # the paper covers only these
