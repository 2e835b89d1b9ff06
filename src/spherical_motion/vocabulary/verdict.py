"""What a comparison concludes about one group in one stage."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["Verdict", "VerdictKind"]


class VerdictKind(enum.Enum):
    """The possible verdicts, **in the order in which they are tried**: the first match wins."""

    TOO_FEW_SAMPLES = "too few samples"
    NON_FINITE = "non-finite"
    FROZEN = "frozen"
    NO_WEIGHT_DECAY = "no weight decay"
    NOT_SCALE_INVARIANT = "not scale-invariant"
    EPSILON_DOMINATED = "norm-ε-dominated"
    NO_THEORY = "no theory for this optimizer"
    APPROACHING = "approaching"
    IN_EQUILIBRIUM = "in equilibrium"
    HEAVY_TAILED = "heavy-tailed"
    OFF = "off"


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """A kind, the reason in one plain sentence, and the numbers the reason rests on.

    >>> Verdict(VerdictKind.FROZEN, "the weights did not move", {"samples": 40})
    Verdict(kind=<VerdictKind.FROZEN: 'frozen'>, reason='the weights did not move', ...)
    """

    kind: VerdictKind
    reason: str
    evidence: Mapping[str, float] = dataclasses.field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", MappingProxyType(dict(self.evidence)))

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.reason}"
