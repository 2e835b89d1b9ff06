"""Why a parameter is in no invariant group, in one word: the words and what each means."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class Cause(enum.StrEnum):
    """The cause that applies, **in the order in which they are tried**: the first match wins.

    A cause is its own word, so `entry.cause == "dead"` holds.
    """

    DEAD = "dead"
    SHIFT = "shift"
    CLIPPED = "clipped"
    SHARED = "shared"
    EVAL_MODE = "eval mode"
    NO_NORM = "no norm"
    CURVED = "curved"
    RESIDUAL = "residual"
    MIXED = "mixed"

    @property
    def meaning(self) -> str:
        """Its sentence in `CAUSES`."""
        return CAUSES[self]


CAUSES: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.DEAD: "It has no gradient, or has one in too few probes to judge by.",
        Cause.SHIFT: "Its gradient is rounding: the outputs do not depend on it.",
        Cause.CLIPPED: "It is invariant near the probes, but a finite rescaling shows.",
        Cause.SHARED: "It is used in several places, and not all of them feed a norm layer.",
        Cause.EVAL_MODE: "The norm layer that it feeds uses running statistics.",
        Cause.NO_NORM: "It feeds no norm layer.",
        Cause.CURVED: "It reaches a norm layer through a function that does not carry a factor.",
        Cause.RESIDUAL: "It reaches a norm layer in a sum with another branch.",
        Cause.MIXED: "It reaches a norm layer with something else, or also bypasses all of them.",
    }
)
"""One row a cause."""
