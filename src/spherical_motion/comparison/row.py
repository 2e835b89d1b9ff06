"""One line of a comparison: one group in one stage."""

from __future__ import annotations

import dataclasses

from spherical_motion.vocabulary import Stage, Verdict


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One group in one stage. Angles are RMS over the judged samples, in radians.

    Attributes:
        group: name of the group.
        number: stage number, from 1.
        stage: its steps and settings.
        measured: the angle found.
        predicted: the angle expected of the same samples: Δ* once the transient has died out,
            before that what the transient says.
        ratio: measured / predicted.
        interval: 95% interval of the ratio, from batch means.
        equilibrium: Δ*.
        samples: how many samples were judged.
        verdict: the conclusion and its reason.
    """

    group: str
    number: int
    stage: Stage
    measured: float
    predicted: float
    ratio: float
    interval: tuple[float, float]
    equilibrium: float
    samples: int
    verdict: Verdict

    @property
    def alarm(self) -> bool:
        """Whether somebody has to look at it."""
        return self.verdict.alarm
