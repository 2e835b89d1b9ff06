"""The reasons of a verdict as data: their kinds, their numbers and the causes they suspect."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping


class Suspect(enum.Enum):
    """The suspected cause of a verdict."""

    RATE_ZERO = "the learning rate is 0"
    NO_GRADIENT = "the weights have no gradient or do not belong to this optimizer"
    GRADIENT_CLEARED = "the gradient is cleared before the optimizer's step has returned"
    INVARIANCE_LOST = "the norm layer is in eval mode, or the model was changed"
    NOT_CERTIFIED = "the group was not certified as scale-invariant"
    NORM_EPSILON = "the norm layer's ε"
    LARGE_GRADIENTS = "a few large gradients"
    FOREIGN_WRITES = "something beside the optimizer writes weights, skips steps or clips entries"
    MIXED_SETTINGS = "the group's members do not share one setting"
    UNEVEN_ENTRIES = "the entries of the gradient differ in size"
    FADING = "the gradient fades"
    MOVING_NORM = "the norm is not at rest"
    CHANGING_GRADIENT = "the gradient's size changed within the stage"

    @property
    def harmless(self) -> bool:
        """Whether this cause needs no action."""
        return self is Suspect.RATE_ZERO

    @property
    def grave(self) -> bool:
        """Whether this cause asks for action wherever it is suspected."""
        return self is Suspect.FOREIGN_WRITES


class ReasonKind(enum.Enum):
    """Base of the kinds of reasons. A member is its words, and optionally a suspect.

    The words are a format string for the numbers of a `Reason`. A verdict may have several
    reasons; their texts are joined as they are, so later ones begin with their own punctuation.

    >>> class Mine(ReasonKind):
    ...     JUMPED = "the norm jumped by {jump:.0%}", Suspect.FOREIGN_WRITES
    >>> str(Mine.JUMPED(jump=0.5))
    'the norm jumped by 50%'
    """

    def __init__(self, words: str, suspect: Suspect | None = None) -> None:
        self.words, self.suspect = words, suspect

    def __call__(self, **numbers: float | str) -> Reason:
        """A reason of this kind, with the numbers in its words."""
        return Reason(self, numbers)


@dataclasses.dataclass(frozen=True, slots=True)
class Reason:
    """One part of why a verdict was given: a kind, and the numbers (or names) in its words."""

    kind: ReasonKind
    numbers: Mapping[str, float | str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.kind.words.format(**self.numbers)
