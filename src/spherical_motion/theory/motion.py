"""The law of motion: what each step must satisfy exactly, whatever the gradient.

The buffer before a step can be read off the step before it. Taking the inner product of the
update with w then leaves only recorded products. With C = <w, d>, D = |d|², R = |w|², at every
step and for any schedule:

* heavy ball, L2:        C_t/η_t = α[(C + D)/η]_{t-1} - (λR + <w, g>)_t
* Nesterov, L2:          C_t/η_t = (α_t²/α_{t-1})[(C + D)/η + <w, g> + <d, g> + λ(R + C)]_{t-1}
                                   - (1 + α_t)(λR + <w, g>)_t
* heavy ball, decoupled: C_t/η_t = α[(C + D)/η + λ(R + C)]_{t-1} - (λR + <w, g>)_t

<w, g> is 0 for an invariant group; it is kept, so that the law also holds where the norm layer's
epsilon breaks the invariance a little. At the optimizer's first step the buffer is empty and the
bracket with α drops out, as wherever α_t = 0; where α_{t-1} = 0 and α_t is not, it is not known.
Dampening scales η, except at the first step.

A step that breaks the law was not made by this optimizer alone: skipped, written from outside, or
clipped element by element. Rescaling the whole gradient does not show, and with λ = α = 0 the law
says only <w, g> = -C/η.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.theory.families import family_of
from spherical_motion.theory.settings import Array, Steps, damped_lr
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters


def has_law_of_motion(hp: HyperParameters) -> bool:
    """Whether the step can be predicted from its neighbour: the SGD families.

    >>> has_law_of_motion(HyperParameters("adamw", lr=1e-3))
    False
    """
    try:
        return family_of(hp).has_law_of_motion
    except NoTheory:
        return False


def law_of_motion_sides(
    hp: HyperParameters,
    gram: Gram,
    *,
    steps: ArrayLike,
    lr: ArrayLike,
    weight_decay: ArrayLike,
    momentum: ArrayLike,
    first_step: int | None = None,
) -> tuple[Array, Array]:
    """What is left of the law of motion at each step, with its sign, and the law's largest term.

    Arguments and errors are those of `law_of_motion_residual`, which is |left|/largest. Both have
    the Grams' shape and the unit of |w||g|; NaN where the law links a step to one not recorded.

    Source: the module's docstring.
    """
    if not has_law_of_motion(hp):
        raise NoTheory(f"law_of_motion_residual: no law of motion here for {hp.optimizer}.")
    family, steps = family_of(hp), np.asarray(steps)
    if hp.maximize:  # torch turns the gradient around and then adds the decay
        gram = Gram(gram.ww, gram.wd, gram.dd, -gram.wg, gram.gg, -gram.dg)
    where = "law_of_motion_residual"
    lr, weight_decay, momentum = (
        checks.fitted(where, name, values, gram.shape)
        for name, values in (("lr", lr), ("weight_decay", weight_decay), ("momentum", momentum))
    )
    if steps.shape != gram.shape[:1]:
        raise InvalidArgument(
            f"{where}(steps=...) must have shape {gram.shape[:1]}, got {steps.shape}."
        )
    s = Steps(damped_lr(hp, lr, momentum), weight_decay, momentum)
    first = (steps == first_step).reshape(-1, *[1] * (lr.ndim - 1))
    carried = np.full_like(gram.wd, np.nan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        neighbours = (np.diff(steps) == 1).reshape(-1, *[1] * (lr.ndim - 1))
        # A step without momentum leaves the buffer as it was, so that it does not show there.
        # Nor does it where a part of the group had no gradient and was passed by.
        hidden = (momentum[:-1] == 0.0) | np.isnan(gram.wg[:-1])
        carried[1:] = np.where(neighbours & ~hidden, family.carried(s, gram), np.nan)
        carried = np.where((momentum == 0.0) | first, 0.0, carried)
        made = gram.wd / np.where(first, lr, s.lr)
        largest = np.maximum(np.abs(made), np.abs(carried))
        for term in (weight_decay * gram.ww, gram.wg):
            largest = np.maximum(largest, np.abs(term))
        return made - carried + family.pull(s, gram), largest


@checks.validated
def law_of_motion_residual(
    hp: HyperParameters,
    gram: Gram,
    *,
    steps: ArrayLike,
    lr: ArrayLike,
    weight_decay: ArrayLike,
    momentum: ArrayLike,
    first_step: int | None = None,
) -> Array:
    """How far each recorded step is from the law of motion, as a share of its largest term.

    0 is exact; float32 weights leave rounding of about 1e-7·|w|²/η over the largest term. NaN
    where the law links a step to one that was not recorded.

    Args:
        hp: names the family; of its settings only nesterov, dampening and decoupled count.
        gram: Grams of shape (steps,) or (steps, groups).
        steps: step numbers, shape (steps,), increasing.
        lr, weight_decay, momentum: settings per step, of the Grams' shape.
        first_step: number of the step that found the momentum buffer empty, if known.

    Returns:
        Residuals of the Grams' shape, >= 0, dimensionless.

    Raises:
        NoTheory: adaptive optimizers have no such law: their divisor is not recorded.
        OutOfDomain: dampening >= 1.

    Source: derived from `torch.optim.SGD`'s update; Li & Arora (2020), appendix B.2, sum it.
    """
    left, largest = law_of_motion_sides(
        hp,
        gram,
        steps=steps,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        first_step=first_step,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(left) / largest
