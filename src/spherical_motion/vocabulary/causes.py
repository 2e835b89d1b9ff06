"""The causes that keep a parameter out of every invariant group: a word and a sentence each."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class Cause(enum.StrEnum):
    """The cause that applies, **in the order in which they are tried**: the first match wins.

    A cause is its own word, so `entry.cause == "dead"` holds; `meaning` is its sentence.
    """

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Cause:
        """The member's value is its word alone."""
        member = str.__new__(cls, word)
        member._value_, member.meaning = word, meaning
        return member

    DEAD = "dead", "It has no gradient, or has one in too few probes to judge by."
    SHIFT = "shift", "Its gradient is rounding: the outputs do not depend on it."
    CLIPPED = "clipped", "It is invariant near the probes, but a finite rescaling shows."
    SHARED = "shared", "It is used in several places, and not all of them feed a norm layer."
    EVAL_MODE = "eval mode", "The norm layer that it feeds uses running statistics."
    NO_NORM = "no norm", "It feeds no norm layer."
    CURVED = "curved", "It reaches a norm layer through a function that does not carry a factor."
    RESIDUAL = "residual", "It reaches a norm layer in a sum with another branch."
    MIXED = "mixed", "It reaches a norm layer with something else, or also bypasses all of them."


CAUSES: Mapping[Cause, str] = MappingProxyType({cause: cause.meaning for cause in Cause})
"""The meaning of each cause."""
