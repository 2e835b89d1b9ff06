"""The drive L_t that pushes the norm outward, made piece by piece to save memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.checks import Array
from spherical_motion.errors import InvalidArgument, OutOfDomain

Source = Callable[[int, int], Array]
"""(start, stop) → L at these steps, shape (stop - start, settings), or (stop - start, 1) if all
settings share it. It is called once for each of consecutive pieces."""


@dataclasses.dataclass(frozen=True, slots=True)
class Drive:
    """L_t = mean + sway·sin(t/period) + noise·U(-1, 1), the squared unit gradient norm at step t.

    With momentum it stands for h̃_t, which includes the gradient's overlap with the buffer.
    `mean`, `noise` and `sway` may be arrays over settings; the noise is independent for each
    setting and step.

    Raises:
        OutOfDomain: a value is not finite, noise < 0, period <= 0, or L_t could fall below 0.

    >>> Drive(10.0, sway=1.0, period=1e5).expected([0, 157_080]).round(3).tolist()
    [10.0, 11.0]
    """

    mean: ArrayLike
    noise: ArrayLike = 0.0
    sway: ArrayLike = 0.0
    period: float = 1e5

    def __post_init__(self) -> None:
        mean = checks.numbers_in("Drive", "mean", self.mean, error=OutOfDomain)
        noise = checks.not_negative("Drive", "noise", self.noise)
        sway = checks.numbers_in("Drive", "sway", self.sway, error=OutOfDomain)
        checks.number("Drive", "period", self.period, above=0.0, error=OutOfDomain)
        if 0 in (mean.size, noise.size, sway.size):
            raise InvalidArgument("Drive: mean, noise and sway must each have an entry.")
        try:
            np.broadcast_shapes(mean.shape, noise.shape, sway.shape)
        except ValueError:
            raise InvalidArgument(
                f"Drive: mean, noise and sway must broadcast to one shape, got {mean.shape}, "
                f"{noise.shape} and {sway.shape}."
            ) from None
        lowest = float(np.min(mean - noise - np.abs(sway)))
        if lowest < 0:
            raise OutOfDomain(
                f"Drive: mean - noise - |sway| must be >= 0, since L is a squared norm; its lowest "
                f"value is {lowest:g}. Raise mean, or lower noise or sway."
            )

    def expected(self, step: ArrayLike) -> Array:
        """E[L_t] = mean + sway·sin(t/period); `step` of shape (n,) gives (n, *settings)."""
        mean, _, sway = self._parts()
        wave = np.sin(np.asarray(step, np.float64) / self.period)
        return mean + np.multiply.outer(wave, sway)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the settings it has parts for; () if all settings share it."""
        return np.broadcast_shapes(*(part.shape for part in self._parts()))

    def _parts(self) -> list[Array]:
        return [np.asarray(part, np.float64) for part in (self.mean, self.noise, self.sway)]

    def source(self, shape: tuple[int, ...], rng: np.random.Generator) -> Source:
        """Its values for settings of this shape, flattened."""
        mean, noise, sway = (
            np.broadcast_to(part, shape).ravel() if part.ndim else part.reshape(1)
            for part in self._parts()
        )
        noisy, swaying = bool(np.any(noise)), bool(np.any(sway))
        columns = math.prod(shape) if noisy else max(mean.size, sway.size)

        def piece(start: int, stop: int) -> Array:
            if noisy:
                values = rng.random((stop - start, columns))
                values *= 2.0 * noise
                values += mean - noise
            else:
                values = np.tile(mean, (stop - start, columns // mean.size))
            if swaying:
                values += np.multiply.outer(_sines(start, stop, self.period), sway)
            return values

        return piece


WAN2021_DRIVES = MappingProxyType(
    {
        "a": Drive(10.0),
        "b": Drive(10.0, noise=3.0),
        "c": Drive(10.0, sway=1.0, period=1e5),
        "d": Drive(10.0, noise=3.0, sway=1.0, period=1e5),
    }
)
"""The four drives of wan2021's figures 3 and 4, by panel; there η = 0.1, λ = 0.001, |w_0|² = 10."""


def _sines(start: int, stop: int, period: float) -> Array:
    """sin(t/period) by sin(a + b), from every 256th a and 256 b: ten times as fast as np.sin."""
    first = start - start % 256
    a, b = np.arange(first, stop, 256) / period, np.arange(256) / period
    sines = np.multiply.outer(np.sin(a), np.cos(b)) + np.multiply.outer(np.cos(a), np.sin(b))
    return sines.ravel()[start - first : stop - first]


def source_of(
    drive: Drive | ArrayLike,
    shape: tuple[int, ...],
    steps: int,
    rng: np.random.Generator,
    *,
    negative: bool,
    where: str,
) -> Source:
    """The values of a `Drive`, a number, or an array of shape (steps,) or (steps, *settings).

    `shape` is that of the settings; `negative` allows negative values in an array, as of h̃.
    """
    if isinstance(drive, Drive):
        return drive.source(shape, rng)
    values = checks.numbers_in(where, "drive", drive, error=OutOfDomain)
    if values.ndim == 0:
        return Drive(float(values)).source(shape, rng)
    if values.shape not in ((steps,), (steps, *shape)):
        wanted = f"({steps},)" + (f" or {(steps, *shape)}" if shape else "")
        raise InvalidArgument(
            f"{where}(drive=...) as an array must have one value a step, shape {wanted}, got "
            f"{values.shape}. For means that differ between settings pass Drive(mean=...)."
        )
    least = -math.inf if negative else 0.0
    checks.numbers_in(where, "drive", values, least=least, error=OutOfDomain)
    values = values.reshape(steps, -1)
    return lambda start, stop: np.ascontiguousarray(values[start:stop])
