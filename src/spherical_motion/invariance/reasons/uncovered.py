"""A parameter in no group."""

from __future__ import annotations

import dataclasses

__all__ = ["Uncovered"]


@dataclasses.dataclass(frozen=True, slots=True)
class Uncovered:
    """A parameter in no group, and why not.

    Attributes:
        parameter: its name.
        reason: in plain words, with a number.
        cause: in one word, the first that applies: "dead" (no gradient, or one in too few probes
            to judge by), "shift" (its gradient is rounding: the outputs do not depend on it),
            "clipped", "shared", "eval mode", "no norm" (none is fed by it), "curved" (a norm
            gets it through a function that carries no factor), "residual" (... in a sum with
            another branch) or "mixed" (... with something else, or not on every way).
    """

    parameter: str
    reason: str
    cause: str
