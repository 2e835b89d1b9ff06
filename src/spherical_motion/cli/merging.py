"""Reasons that repeated modules share, printed once, with the range of their numbers."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spherical_motion.invariance import Uncovered

DIGITS = re.compile(r"\d+")


def merged_reasons(uncovered: Sequence[Uncovered]) -> list[tuple[list[str], str]]:
    """(parameters, their reason), one for all that differ only in numbers and counted names.

    >>> from spherical_motion.invariance import Uncovered, Why
    >>> from spherical_motion.vocabulary import Cause, Reason
    >>> [(names, reason)] = merged_reasons([
    ...     Uncovered(f"h.{i}.norm.bias", Cause.NO_NORM, (Reason(Why.DEFECT, {"defect": i / 10}),))
    ...     for i in (3, 4)
    ... ])
    >>> names, reason
    (['h.3.norm.bias', 'h.4.norm.bias'], ': |⟨w,g⟩| / (‖w‖‖g‖) = 0.3 to 0.4')
    """
    alike: dict[Hashable, list[Uncovered]] = {}
    for entry in uncovered:
        alike.setdefault((_role(entry.parameter), entry.cause, _outline(entry)), []).append(entry)
    return [([e.parameter for e in some], _with_ranges(some)) for some in alike.values()]


def _role(parameter: str) -> str:
    """The name, with stars for numbers that count repeated modules.

    An index counts them if a word follows. In a sequence of layers, `net.1` may be a norm and
    `net.5` the head, so a last index stays.

    >>> _role("blocks.3.mlp.0.weight"), _role("layer2.1.bn3.bias"), _role("5.weight")
    ('blocks.*.mlp.0.weight', 'layer*.*.bn*.bias', '5.weight')
    """
    module, _, name = parameter.rpartition(".")
    parts = module.split(".")
    last = max((i for i, part in enumerate(parts) if not part.isdigit()), default=-1)
    starred = [DIGITS.sub("*", part) for part in parts[: last + 1]]
    return ".".join([*starred, *parts[last + 1 :], name])


def _outline(entry: Uncovered) -> Hashable:
    """The kinds of its reasons, and the names in them without numbers."""
    return tuple(
        (part.kind, *(DIGITS.sub("*", v) for v in part.numbers.values() if isinstance(v, str)))
        for part in entry.reasons
    )


def _with_ranges(alike: Sequence[Uncovered]) -> str:
    """The first reason, with "low to high" for each number in which others differ."""
    text = ""
    for parts in zip(*(entry.reasons for entry in alike), strict=True):
        first = parts[0]
        fields = {
            name: value if isinstance(value, str) else _Range(part.numbers[name] for part in parts)
            for name, value in first.numbers.items()
        }
        text += first.kind.words.format(**fields)
    return text


class _Range(tuple[float, ...]):
    """Numbers that a format string shows as one, or as the lowest to the highest."""

    def __format__(self, spec: str) -> str:
        low, high = (format(number, spec) for number in (min(self), max(self)))
        return low if low == high else f"{low} to {high}"
