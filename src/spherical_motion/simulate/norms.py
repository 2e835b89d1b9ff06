"""The recursion of |w|² under a given drive: wan2021's eq. 185 and 186, for many settings.

Settings (lr, weight_decay, ..., norm0, and the parts of a `Drive`) broadcast to one shape, () for
plain numbers. The drive is a number, a `Drive`, or an array with one value a step. Every `every`-th
step is kept, by default 1,000 to 2,000 of them, so memory does not grow with the steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion import checks
from spherical_motion.checks import Array
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.simulate import kernels
from spherical_motion.simulate.drive import Drive, source_of
from spherical_motion.vocabulary.schedule import Schedule

PIECE = 1 << 15
"""Number of drive values made at a time; they fit the second-level cache."""

MOST_STEPS = 10_000_000_000
"""The most steps of a run, which take minutes."""

KEPT = 1000
"""Least number of steps kept if `every` is not given and the run has as many."""


@dataclasses.dataclass(frozen=True, slots=True)
class NormRun:
    """A simulated norm. Arrays have shape (kept, *settings) unless stated otherwise.

    Attributes:
        step: the steps kept, shape (kept,).
        norm_sq: |w|² before the step.
        drive: L_t, or h̃_t, of the step.
        angle: between the weights before and after the step, radians.
        final_norm_sq: |w|² after the last step, shape of the settings.
    """

    step: NDArray[np.int64]
    norm_sq: Array
    drive: Array
    angle: Array
    final_norm_sq: Array

    @property
    def norm(self) -> Array:
        """|w| before the step."""
        return np.sqrt(self.norm_sq)


@checks.validated
def norm_sgd(
    lr: ArrayLike,
    weight_decay: ArrayLike,
    drive: Drive | ArrayLike,
    *,
    norm0: ArrayLike,
    steps: int,
    every: int | None = None,
    seed: int = 0,
    printed: bool = False,
) -> NormRun:
    """SGD without momentum: x ← (1 - ηλ)²x + L_t η²/x for x = |w|², exact for any L_t >= 0.

    The step is -ηλw - ηg with g orthogonal to w and |g|² = L/|w|², so Pythagoras gives |w|².
    Eq. 185 of wan2021 prints 1 - 2ηλ in place of (1 - ηλ)²; `printed=True` steps that form.

    Args:
        lr, weight_decay: η and λ.
        drive: L_t = |g̃|².
        norm0: |w| before the first step, > 0.
        steps: number of steps.
        every: keep every `every`-th step.
        seed: of the drive's noise, which is independent for each setting.
        printed: step the equation as printed; it needs ηλ < 1/2.

    Raises:
        OutOfDomain: a value outside its range, ηλ >= 2 (the norm then grows without bound), or
            a norm that reached 0 or overflowed.
        InvalidArgument: shapes that do not fit.

    >>> run = norm_sgd(0.1, 1e-3, 10.0, norm0=10**0.5, steps=100_000)
    >>> round(float(run.final_norm_sq) ** 2, 1)             # Lη/(2λ), and a share ηλ/2 more
    500.0
    """
    where = "norm_sgd"
    shape, x, (eta, lam) = _settings(where, drive, norm0=norm0, lr=lr, weight_decay=weight_decay)
    _check_intrinsic(where, eta * lam, 0.5 if printed else 2.0)
    keep = 1.0 - 2.0 * eta * lam if printed else (1.0 - eta * lam) ** 2
    state = (x, keep, eta**2, eta, 1.0 - eta * lam)
    return _run(where, kernels.step_plain, state, shape, drive, steps, every, seed, negative=False)


@checks.validated
def norm_sgdm(
    lr: ArrayLike,
    weight_decay: ArrayLike,
    momentum: ArrayLike,
    drive: Drive | ArrayLike,
    *,
    norm0: ArrayLike,
    steps: int,
    every: int | None = None,
    seed: int = 0,
) -> NormRun:
    """SGD with heavy-ball momentum and L2: wan2021's eq. 186, from an empty momentum buffer.

    Exact if `drive` is h̃_t = |w|²(|g|² + 2α<v_{t-1}, g>). With L_t in its place, as in the paper,
    it is exact for gradients orthogonal to the buffer. The variables are |w|², <w, v>, |v|², not
    |w_t|², <w_t, w_{t-1}>, |w_{t-1}|²: the map is the same, without cancellation. With momentum 0
    it equals the exact form of `norm_sgd`.

    Args:
        lr, weight_decay, momentum: η, λ and α.
        drive: h̃_t; single values of an array may be negative.
        norm0, steps, every, seed: as in `norm_sgd`.

    Raises:
        OutOfDomain: as `norm_sgd`, with ηλ >= 2(1 + α).
        InvalidArgument: shapes that do not fit.

    >>> run = norm_sgdm([0.1, 0.01], 1e-3, 0.9, 10.0, norm0=10**0.5, steps=100_000)
    >>> (run.final_norm_sq**2).round(1).tolist()            # Lη/(2λ(1 - α))
    [5000.1, 500.0]
    """
    where = "norm_sgdm"
    shape, x, (eta, lam, alpha) = _settings(
        where, drive, norm0=norm0, lr=lr, weight_decay=weight_decay, momentum=momentum
    )
    _check_intrinsic(where, eta * lam, 2.0 * (1.0 + alpha))
    state = (x, np.zeros_like(x), np.zeros_like(x), eta, lam, alpha)
    return _run(where, kernels.step_momentum, state, shape, drive, steps, every, seed)


@checks.validated
def norm_through(
    schedule: Schedule,
    drive: Drive | ArrayLike,
    *,
    norm0: ArrayLike,
    every: int | None = None,
    seed: int = 0,
) -> NormRun:
    """`norm_sgdm` through a schedule: η, λ and α belong to the step.

    The momentum buffer is carried across changes as `torch.optim.SGD` carries it.

    Args:
        schedule: of SGD with L2 decay, without Nesterov's look-ahead and dampening.
        drive, norm0, every, seed: as in `norm_sgdm`; drive and norm0 set the shape of the settings.

    Raises:
        NoTheory: the optimizer does not follow this recursion.
        OutOfDomain, InvalidArgument: as `norm_sgdm`.

    >>> from spherical_motion.vocabulary import HyperParameters
    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3, momentum=0.9)
    >>> plan = Schedule.step_decay(hp, steps=20_000, milestones=[10_000])
    >>> run = norm_through(plan, 10.0, norm0=8.4)
    >>> turned = dict(zip(run.step.tolist(), run.angle.round(5).tolist()))
    >>> turned[9_980], turned[10_100], turned[19_980]       # √(2ηλ/1.9); then slowly back up
    (0.01026, 0.00104, 0.00301)
    """
    where = "norm_through"
    hp = schedule.hp
    damped = bool(hp.dampening) and bool(np.any(schedule.momentum))
    if hp.optimizer != "sgd" or hp.nesterov or hp.decoupled or damped:
        raise NoTheory(
            f"{where} covers SGD with heavy-ball momentum and L2 weight decay, got {hp}. Use "
            "random_walk for the other optimizers."
        )
    shape, x, _ = _settings(where, drive, norm0=norm0)
    eta, lam, alpha = schedule.lr, schedule.weight_decay, schedule.momentum
    _check_intrinsic(where, eta * lam, 2.0 * (1.0 + alpha))
    state = (x, np.zeros_like(x), np.zeros_like(x), eta, lam, alpha)
    return _run(where, kernels.step_scheduled, state, shape, drive, schedule.steps, every, seed)


def _run(
    where: str,
    kernel: Callable[..., None],
    state: tuple[Array, ...],
    shape: tuple[int, ...],
    drive: Drive | ArrayLike,
    steps: int,
    every: int | None,
    seed: int,
    *,
    negative: bool = True,
) -> NormRun:
    """Step `state`, whose first array is |w|², through the drive, piece by piece."""
    checks.whole(where, "steps", steps, least=1)
    checks.whole(where, "steps", steps, least=1, most=MOST_STEPS, remedy="Simulate fewer.")
    every = max(1, steps // KEPT) if every is None else every
    checks.whole(where, "every", every, least=1)
    # numpy's fastest generator, since drawing the noise costs more than the recursion.
    rng = np.random.Generator(np.random.SFC64(checks.seed(where, seed)))
    source = source_of(drive, shape, steps, rng, negative=negative, where=where)
    x = state[0]
    checks.fits(where, 4 * (steps // every + 1) * x.size, "Raise every, or lower steps.")
    kept = np.arange(0, steps, every)
    rows = (kept.size, *shape)
    stored = [np.empty((kept.size, x.size)) for _ in range(3)]
    alive = np.ones_like(x)
    piece = max(1, PIECE // x.size)
    for start in range(0, steps, piece):
        stop = min(steps, start + piece)
        kernel(*state, source(start, stop), start, every, alive, *stored)
        if not alive.all():
            raise OutOfDomain(
                f"{where}: |w|² left (0, ∞) between steps {start} and {stop} in setting number "
                f"{int(np.argmin(alive))}. The drive was negative for too long, or one step "
                "overflowed. Lower lr, or raise norm0."
            )
    norm_sq, drives, angle = (values.reshape(rows) for values in stored)
    return NormRun(kept, norm_sq, drives, angle, final_norm_sq=x.reshape(shape)[()])


def _settings(
    where: str, drive: Drive | ArrayLike, *, norm0: ArrayLike, **rates: ArrayLike
) -> tuple[tuple[int, ...], Array, list[Array]]:
    """(shape of the settings, |w|² before the first step, rates), the arrays flat and checked."""
    x = checks.above_zero(where, "norm0", norm0) ** 2
    arrays = [
        checks.numbers_in(
            where,
            name,
            value,
            least=0.0,
            error=OutOfDomain,
            below=1.0 if name == "momentum" else math.inf,
        )
        for name, value in rates.items()
    ]
    shapes = [array.shape for array in (*arrays, x)]
    if isinstance(drive, Drive):
        shapes.append(drive.shape)
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        shape = (0,)
    if 0 in shape:
        raise InvalidArgument(
            f"{where}: the settings must broadcast to one shape that is not empty, got shapes "
            f"{', '.join(map(str, shapes))}."
        )
    x, *flat = (np.broadcast_to(array, shape).ravel().copy() for array in (x, *arrays))
    return shape, x, flat


def _check_intrinsic(where: str, intrinsic: Array, limit: float | Array) -> None:
    over = ~(intrinsic < limit)
    if over.any():
        i = int(np.argmax(over))
        raise OutOfDomain(
            f"{where} expects lr × weight_decay < {np.broadcast_to(limit, over.shape)[i]:g}, got "
            f"{intrinsic[i]:g}: beyond it the norm does not settle. Lower either."
        )
