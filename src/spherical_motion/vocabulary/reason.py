"""The reasons of a verdict as data: their kinds, their numbers and the causes they suspect."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from spherical_motion.vocabulary.suspect import Suspect


class ReasonKind(enum.Enum):
    """Base of the kinds of reasons. A member is its words, and optionally a suspect.

    The words are a format string for the numbers of a `Reason`. A verdict may have several
    reasons; their texts are joined as they are, so later ones begin with their own punctuation.

    >>> class Mine(ReasonKind):
    ...     JUMPED = "the norm jumped by {jump:.0%}", Suspect.WEIGHTS_WRITTEN
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
