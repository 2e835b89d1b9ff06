"""Merge the reasons that repeated modules share into one, with the range of their numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spherical_motion.invariance import Uncovered

__all__ = ["merged_reasons"]

DIGITS = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?")
MEASURED = re.compile(r"(?<![\w.])\d+(\.\d+)?(e[-+]?\d+)?(?![\w%]|\.\w)")
"""A number by itself, not part of a module's name."""

RESCALES = re.compile(r"(; rescales with others as `[^`]*`)+")
MOST_RESCALINGS = 2


def merged_reasons(uncovered: Sequence[Uncovered]) -> list[tuple[list[str], str]]:
    """(parameters, reason), one for all with the same role and cause whose numbers alone differ.

    >>> from spherical_motion.invariance import Uncovered
    >>> alike = [Uncovered(f"h.{i}.norm.bias", f"no norm: 0.{i}", "no norm") for i in (3, 4)]
    >>> merged_reasons(alike)
    [(['h.3.norm.bias', 'h.4.norm.bias'], 'no norm: 0.3 to 0.4')]
    """
    alike: dict[tuple[str, str, str], tuple[list[str], list[str]]] = {}
    for entry in uncovered:
        reason = _with_few_rescalings(entry.reason)
        key = (_role(entry.parameter), entry.cause, DIGITS.sub("*", reason))
        names, reasons = alike.setdefault(key, ([], []))
        names.append(entry.parameter)
        reasons.append(reason)
    return [(names, _with_ranges(reasons)) for names, reasons in alike.values()]


def _role(parameter: str) -> str:
    """The name with a star for each index of a repeated module.

    An index counts modules if a word follows. A last index stays: in a sequence of layers `net.1`
    may be a norm and `net.5` the head.

    >>> _role("blocks.3.mlp.0.weight"), _role("layer2.1.bn3.bias"), _role("5.weight")
    ('blocks.*.mlp.0.weight', 'layer*.*.bn*.bias', '5.weight')
    """
    module, _, name = parameter.rpartition(".")
    parts = module.split(".")
    last = max((i for i, part in enumerate(parts) if not part.isdigit()), default=-1)
    starred = [re.sub(r"\d+", "*", part) for part in parts[: last + 1]]
    return ".".join([*starred, *parts[last + 1 :], name])


def _with_few_rescalings(reason: str) -> str:
    """The reason with at most two rescalings, and the number of the others."""

    def shortened(match: re.Match[str]) -> str:
        names = re.findall(r"`[^`]*`", match[0])
        more = len(names) - MOST_RESCALINGS
        if more <= 0:
            return "; rescales with others as " + " and ".join(names)
        return f"; rescales with others as {', '.join(names[:MOST_RESCALINGS])} and {more} more"

    return RESCALES.sub(shortened, reason)


def _with_ranges(reasons: Sequence[str]) -> str:
    """The first reason, with "low to high" for each number that differs between the reasons."""
    first = reasons[0]
    numbers = [[match[0] for match in MEASURED.finditer(reason)] for reason in reasons]
    if len(set(map(len, numbers))) > 1:  # a module's name looks like a number in some
        return first
    ranges = iter([_range(values) for values in zip(*numbers, strict=True)])
    return MEASURED.sub(lambda _: next(ranges), first)


def _range(values: Sequence[str]) -> str:
    low, high = min(values, key=float), max(values, key=float)
    return low if float(low) == float(high) else f"{low} to {high}"
