"""Numbers, counts, arrays and functions that users give, each checked against its bounds."""

from __future__ import annotations

import math
import numbers
import os
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument, OutOfDomain

MOST_STEPS = 100_000_000
"""The most steps that have an entry each: three settings of so many take 2.4 GB."""

Array = NDArray[np.float64]

Number = TypeVar("Number", float, Array)
"""Float for floats, array for arrays: arguments are `Number | float`, the result `Number`."""


def number(
    where: str,
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    remedy: str = "",
    error: type[InvalidArgument] = InvalidArgument,
) -> float:
    """`value` as a float, checked to be a finite real number inside the bounds.

    Args:
        where: name of the function or class the user called.
        name: name of the argument.
        value: what the user gave; a 0-d array or a tensor of one entry counts as a number.
        above, least: open and closed lower bound.
        below, most: open and closed upper bound.
        remedy: a sentence that says what to do, appended to the message.
        error: class to raise.

    Raises:
        InvalidArgument: (or `error`) it is no finite real number, or outside the bounds.

    >>> number("forecast", "lr", 0.1, above=0)
    0.1
    >>> number("forecast", "momentum", 1.5, least=0, below=1)
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: forecast(momentum=...) must be finite, >= 0 ...
    """
    found = _as_float(value)
    if above < found < below and least <= found <= most:
        return found
    wanted = _wanted(above, least, below, most)
    raise error(_message(where, name, wanted, repr(value), remedy))


def whole(
    where: str,
    name: str,
    value: object,
    *,
    least: int = 0,
    most: int | None = None,
    remedy: str = "",
    error: type[InvalidArgument] = InvalidArgument,
) -> int:
    """`value` as an int, checked to be a whole number from `least` to `most`; a bool is none.

    Raises:
        InvalidArgument: (or `error`) it is no integer, or outside the bounds.

    >>> whole("Monitor", "every", 0, least=1, remedy="Use every=1 to measure each step.")
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: Monitor(every=...) must be an int >= 1, got 0. Use ...
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        found = int(value)
        if found >= least and (most is None or found <= most):
            return found
    wanted = f"an int >= {least}" + ("" if most is None else f" and <= {most}")
    raise error(_message(where, name, wanted, repr(value), remedy))


def count_of_steps(where: str, name: str, value: object, *, least: int = 1) -> int:
    """`value` as a number of steps that have an entry each, from `least` to `MOST_STEPS`.

    Raises:
        InvalidArgument: it is no integer, or outside the bounds.

    >>> count_of_steps("Schedule", "steps", 10**11)
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: Schedule(steps=...) must be an int >= 1 and <= ...
    """
    found = whole(where, name, value, least=least)
    remedy = f"Each step takes memory; {MOST_STEPS:,} are the most."
    return whole(where, name, found, least=least, most=MOST_STEPS, remedy=remedy)


def seed(where: str, value: object) -> int:
    """`value` as the seed of a random generator, a whole number >= 0."""
    return whole(where, "seed", value, least=0)


def fits(where: str, entries: int, remedy: str) -> None:
    """Raise InvalidArgument if so many numbers would fill more than half of the machine's memory.

    >>> fits("random_walk", 10**15, "Lower steps.")
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: random_walk would need 8,000,000 GB for its ...
    """
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    if 8 * entries > most:
        raise InvalidArgument(
            f"{where} would need {8 * entries / 1e9:,.0f} GB for its arrays, and {most / 1e9:,.0f} "
            f"GB are the most on this machine. {remedy}"
        )


def fitted(where: str, name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    """`values` as a float64 array of a shape, to which they broadcast; not checked otherwise.

    Raises:
        InvalidArgument: their shape is another.

    >>> fitted("balance", "lr", 0.1, (2,)).tolist()
    [0.1, 0.1]
    """
    array = np.asarray(values, np.float64)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise InvalidArgument(
            f"{where}({name}=...) must have shape {shape}, or broadcast to it, got {array.shape}."
        ) from None


def numbers_in(
    where: str,
    name: str,
    values: ArrayLike,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    remedy: str = "",
    error: type[InvalidArgument] = InvalidArgument,
) -> Array:
    """`values` as a float64 array of their own shape, every entry checked as `number` does.

    Raises:
        InvalidArgument: (or `error`) an entry is not finite or outside the bounds; the message
            holds the first such entry and its index.

    >>> numbers_in("driven_norm", "lr", [0.1, -1.0], least=0)
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: driven_norm(lr=...) must be finite and >= 0, ...
    """
    wanted = _wanted(above, least, below, most)
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise error(_message(where, name, wanted, repr(values), remedy)) from None
    good = np.isfinite(array) & (array > above) & (array >= least) & (array < below)
    good &= array <= most
    if not good.all():
        first = np.argwhere(~good)[0].tolist()
        at = f" at index {', '.join(map(str, first))}" if first else ""
        raise error(_message(where, name, wanted, f"{array[tuple(first)]}{at}", remedy))
    return array


def above_zero(where: str, name: str, values: ArrayLike) -> Array:
    """`values` as an array, every entry finite and > 0, else `OutOfDomain`."""
    return numbers_in(where, name, values, above=0.0, error=OutOfDomain)


def not_negative(where: str, name: str, values: ArrayLike) -> Array:
    """`values` as an array, every entry finite and >= 0, else `OutOfDomain`."""
    return numbers_in(where, name, values, least=0.0, error=OutOfDomain)


def held(where: str, values: ArrayLike, remedy: str = "") -> Number:
    """The results of a formula as `plain` gives them, each a number that float64 holds.

    Raises OutOfDomain: one is beyond float64, or the arguments leave no number at all.

    >>> held("growth_rate", 2.0)
    2.0
    """
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise OutOfDomain(
            f"{where}: the result is beyond what float64 holds (1e-308 to 1e308) at these "
            f"arguments.{' ' + remedy if remedy else ''}"
        )
    return plain(array)


def plain(values: ArrayLike) -> Number:
    """A float for a single number, the array itself otherwise, to be returned as a `Number`."""
    array = np.asarray(values)
    # The number of dimensions, which no type holds, decides between the two.
    return array.item() if array.ndim == 0 else array  # pyright: ignore[reportReturnType]


def callable_or_none(where: str, name: str, value: object, signature: str) -> None:
    """Raise InvalidArgument unless `value` is None or can be called; `signature` says how.

    >>> callable_or_none("RescaleOnDecay", "on_event", 3, "on_event(kind, **data)")
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: RescaleOnDecay(on_event=...) must be callable as ...
    """
    if value is not None and not callable(value):
        raise InvalidArgument(
            f"{where}({name}=...) must be callable as {signature}, got {value!r}."
        )


def _as_float(value: object) -> float:
    """The number in `value`, NaN if it holds none: NaN lies outside all bounds."""
    # Beside real numbers, arrays and tensors of one entry; strings have no ndim.
    if not isinstance(value, numbers.Real) and getattr(value, "ndim", None) is None:
        return math.nan
    try:
        found = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def _wanted(above: float, least: float, below: float, most: float) -> str:
    bounds = [("> ", above), (">= ", least), ("< ", below), ("<= ", most)]
    parts = ["finite", *(f"{sign}{bound:g}" for sign, bound in bounds if math.isfinite(bound))]
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "a finite number"


def _message(where: str, name: str, wanted: str, found: str, remedy: str) -> str:
    return f"{where}({name}=...) must be {wanted}, got {found}.{' ' + remedy if remedy else ''}"
