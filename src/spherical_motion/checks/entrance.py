"""The entrance of public functions: what they take as numbers must be numbers."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from spherical_motion.errors import InvalidArgument, OutOfDomain

P = ParamSpec("P")
R = TypeVar("R")

_ARRAYS = re.compile(r"\b(ArrayLike|Array|NDArray|Rate)\b")
_SEQUENCES = re.compile(r"\b(Sequence\[(int|float)\]|tuple\[int, \.\.\.\])")
_OTHERS = re.compile(r"\b(Callable|Mapping|GroupFacts|Iterable)\b")
_KNOWN = frozenset(
    [
        "None",
        "ArrayLike",
        "Array",
        "NDArray",
        "np",
        "float",
        "int",
        "bool",
        "float64",
        "int64",
        "int32",
        "intp",
        "bool_",
        "Sequence",
        "tuple",
        "Number",
        "Fact",
        "Rate",
    ]
)
"""Words of an annotation that name numbers; any other names a class."""


def validated(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments that `function` takes as numbers, by their annotations, before it runs.

    An argument annotated as an array may hold any real numbers, also NaN where nothing was
    measured. One annotated as a number must be finite, unless its default is not; a list for a
    `Number` becomes an array. One annotated as an integer must be one. None passes where it is the
    default or annotated. A result that float64 cannot hold, which Python's own arithmetic raises
    for, is an error of ours too.

    Raises (when the function is called):
        InvalidArgument: an argument is no number; the message names both.
        OutOfDomain: a number is not finite, or too large or too small to compute with.

    >>> @validated
    ... def half(x: float) -> float:
    ...     return x / 2
    >>> half(3.0)
    1.5
    >>> half("3")
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: half(x=...) must be a finite number, got '3'.
    """
    signature = inspect.signature(function)
    found = {p.name: _check_of(p) for p in signature.parameters.values()}
    checks = {name: check for name, check in found.items() if check is not None}
    names = [p.name for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    where = function.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")

    def entered(name: str, value: Any) -> Any:
        check = checks.get(name)
        return value if check is None else check(where, name, value)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = [entered(name, value) for name, value in zip(names, args, strict=False)]
        named = {name: entered(name, value) for name, value in kwargs.items()}
        call = cast("Callable[..., R]", function)
        try:
            return call(*given, *args[len(given) :], **named)
        except ArithmeticError as error:
            raise OutOfDomain(
                f"{where}: a number is beyond what float64 holds (1e-308 to 1e308) at these "
                f"arguments ({error})."
            ) from error
        except ValueError as error:
            if isinstance(error, InvalidArgument) or "broadcast" not in str(error):
                raise
            raise InvalidArgument(f"{where}: shapes do not fit each other: {error}.") from error

    return checked


Check = Callable[[str, str, Any], Any]
"""Gives back the value of an argument, or raises InvalidArgument."""


def _check_of(parameter: inspect.Parameter) -> Check | None:
    annotation = str(parameter.annotation)
    if parameter.annotation is parameter.empty or _OTHERS.search(annotation):
        return None
    words = {*re.findall(r"[A-Za-z_]\w*", annotation)}
    none = parameter.default is None or "None" in words
    if _ARRAYS.search(annotation):
        return functools.partial(_array, none=none, others=bool(words - _KNOWN))
    if _SEQUENCES.search(annotation):
        return functools.partial(_sequence, none=none)
    if "[" in annotation:
        return None
    if words & {"float", "Number", "Fact"}:
        default = parameter.default
        finite = not (isinstance(default, float) and not math.isfinite(default))
        arrays = "Number" in words
        return functools.partial(_number, none=none, finite=finite, arrays=arrays)
    return functools.partial(_integer, none=none) if "int" in words else None


def _array(where: str, name: str, value: Any, *, none: bool, others: bool) -> Any:
    if (value is None and none) or _has_numbers(value):
        return value
    if others and not isinstance(value, (str, bytes, dict, set, complex, list, tuple, type(None))):
        return value
    raise _refused(where, name, "numbers", value)


def _sequence(where: str, name: str, value: Any, *, none: bool) -> Any:
    if (value is None and none) or (_has_numbers(value) and np.asarray(value).ndim == 1):
        return value
    raise _refused(where, name, "a list of numbers", value)


def _number(where: str, name: str, value: Any, *, none: bool, finite: bool, arrays: bool) -> Any:
    if type(value) is float and (not finite or math.isfinite(value)):
        return value
    if value is None and none:
        return value
    if _has_numbers(value):
        found: Any = np.asarray(value, np.float64) if isinstance(value, (list, tuple)) else value
        if getattr(found, "ndim", 0) > 0:
            if arrays:
                return found
        elif not finite or math.isfinite(float(found)):
            return found
        else:
            raise OutOfDomain(f"{where}({name}=...) must be finite, got {value}.")
    wanted = "a finite number" + (" or an array of numbers" if arrays else "")
    raise _refused(where, name, wanted, value)


def _integer(where: str, name: str, value: Any, *, none: bool) -> Any:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if whole or (value is None and none):
        return value
    raise _refused(where, name, "an int", value)


def _has_numbers(value: Any) -> bool:
    """Whether a value is a real number that float64 holds, or an array or list of such."""
    if isinstance(value, (str, bytes, dict, set, complex, type(None))):
        return False
    if callable(detach := getattr(value, "detach", None)):  # a tensor
        value = detach()
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":  # integers beyond int64, or no numbers
            wide = array.astype(np.float64)
            whole = all(isinstance(entry, int) for entry in array.reshape(-1).tolist())
            return whole and bool(np.isfinite(wide).all())
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return False
    return array.dtype.kind in "fiub"


def _refused(where: str, name: str, wanted: str, value: object) -> InvalidArgument:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return InvalidArgument(f"{where}({name}=...) must be {wanted}, got {shown}.")
