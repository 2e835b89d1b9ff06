"""The law of motion: what each step must satisfy exactly, whatever the gradient.

Taking the inner product of the heavy-ball update with w and using <w, g> = 0,

    C_t/η_t = α(C + D)_{t-1}/η_{t-1} - λ_t R_t - <w, g>_t,

at every step, for any schedule (the last term is kept, so that the law also holds where the norm
layer's epsilon breaks the invariance a little). A step that breaks it was not made by this
optimizer alone: skipped, written from outside, or clipped element by element. Rescaling the whole
gradient does not show, and with λ = α = 0 the law says nothing but <w, g> = -C/η.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import NoTheory
from spherical_motion.theory._families import Family, family_of
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = ["law_of_motion_residual"]


def law_of_motion_residual(
    hp: HyperParameters, gram: Gram, *, steps: Any, lr: Any, weight_decay: Any, momentum: Any
) -> NDArray[np.float64]:
    """How far each recorded step is from the law of motion, as a share of its largest term.

    0 is exact; float32 weights leave rounding of about 1e-7·|w|²/η over the largest term. NaN
    where the step before was not recorded, since the law links neighbours.

    Args:
        hp: names the family.
        gram: Grams of shape (steps,) or (steps, groups).
        steps: step numbers, shape (steps,), increasing.
        lr, weight_decay, momentum: settings per step, of the Grams' shape.

    Returns:
        Residuals of the Grams' shape, >= 0, dimensionless.

    Raises:
        NoTheory: the law is known here for SGD with momentum and L2 only.

    Source: derived from `torch.optim.SGD`'s update; Li & Arora (2020), appendix B.2, sum it.
    """
    if family_of(hp) is not Family.HEAVY_BALL_L2:
        raise NoTheory(f"law_of_motion_residual: no law of motion here for {hp.optimizer}.")
    steps = np.asarray(steps)
    lr, weight_decay, momentum = (
        np.broadcast_to(np.asarray(x, np.float64), gram.shape) for x in (lr, weight_decay, momentum)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        made = gram.wd / lr
        carried = momentum[1:] * (gram.wd + gram.dd)[:-1] / lr[:-1]
        decay = weight_decay * gram.ww
        terms = [made[1:], carried, decay[1:], gram.wg[1:]]
        gap = np.abs(made[1:] - carried + decay[1:] + gram.wg[1:])
        share = gap / np.max(np.abs(terms), axis=0)
    residual = np.full(gram.shape, np.nan)
    neighbours = np.diff(steps) == 1
    residual[1:][neighbours] = share[neighbours]
    return residual
