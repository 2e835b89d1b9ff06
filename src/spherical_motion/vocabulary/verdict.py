"""The conclusions of a comparison about one group in one stage, and their meanings.

`MEANINGS` is the only table of verdicts: the terminal, the report, the findings and the README
take words, tones and alarms from it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from spherical_motion.vocabulary.reason import Reason, ReasonKind
from spherical_motion.vocabulary.suspect import Suspect


class VerdictKind(enum.Enum):
    """The possible verdicts, **in the order in which they are tried**: the first match wins.

    `HEAVY_TAILED` is an old name of `IN_BALANCE`: large gradients are one of its suspects.
    """

    NON_FINITE = "non-finite"
    FROZEN = "frozen"
    WEIGHTS_WRITTEN = "weights written"
    STEP_DIFFERS = "step differs"
    GRADIENT_ALTERED = "gradient altered"
    NOT_SCALE_INVARIANT = "not scale-invariant"
    EPSILON_DOMINATED = "norm-ε-dominated"
    TOO_FEW_SAMPLES = "too few samples"
    OFF_BALANCE = "off balance"
    IN_BALANCE = "in balance"
    NO_PREDICTION = "no prediction"
    NO_WEIGHT_DECAY = "no weight decay"
    NO_THEORY = "no theory for this optimizer"
    APPROACHING = "approaching"
    IN_EQUILIBRIUM = "in equilibrium"
    OFF = "off"

    HEAVY_TAILED = IN_BALANCE

    @property
    def meaning(self) -> Meaning:
        """The row of this kind in `MEANINGS`."""
        return MEANINGS[self]


class Tone(enum.Enum):
    """How urgent a verdict is, and how it looks: in a terminal and on a page."""

    SETTLED = "settled", "green", "●", "#0b5563", "#e2f1f3", "#b9dde2", "#7bbac4"
    UNDERWAY = "underway", "yellow", "◐", "#2b4590", "#e9eefb", "#c9d5f3", "#8fa5e0"
    QUIET = "quiet", "default", "○", "#4a5563", "#f0f2f5", "#dde2e8", "#d3d9e0"
    CAUTION = "caution", "default", "◆", "#714c00", "#fdf1d6", "#f0d99c", "#dba520"
    ALARM = "alarm", "red", "▲", "#98300f", "#fde8e0", "#f4c4b2", "#c4451c"

    def __new__(cls, word: str, *_: str) -> Tone:
        """The member's value is its word alone."""
        member = object.__new__(cls)
        member._value_ = word
        return member

    def __init__(self, _: str, colour: str, mark: str, ink: str, fill: str, edge: str, dot: str):
        self.colour, self.mark = colour, mark
        self.ink, self.fill, self.edge, self.dot = ink, fill, edge, dot


@dataclasses.dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of one kind of verdict.

    Attributes:
        tone: how urgent it is, unless its suspect says otherwise; `ALARM` asks for action.
        sentence: the conclusion.
        advice: what to do about it.
        state: words that follow "is" or "are"; empty if the kind's own name fits there.
        shared: the name of a number in `Verdict.evidence`, its format, and words around its range
            over several groups of this verdict.
    """

    tone: Tone
    sentence: str
    advice: str
    state: str = ""
    shared: tuple[str, str, str] | None = None

    @property
    def alarm(self) -> bool:
        """Whether a verdict of this kind asks for action if nothing is suspected."""
        return self.tone is Tone.ALARM


MEANINGS: Mapping[VerdictKind, Meaning] = MappingProxyType(
    {
        VerdictKind.NON_FINITE: Meaning(
            Tone.ALARM,
            "Weights, steps or gradients contained NaN or infinity.",
            "Look at the first such step; lower the learning rate or clip.",
            shared=("non_finite", ",.0f", "at {} steps"),
        ),
        VerdictKind.FROZEN: Meaning(
            Tone.ALARM,
            "The weights did not move, stopped moving, or lost their gradient. It is no alarm if "
            "the learning rate is 0, or if the rest of their tensor has a gradient.",
            "Check that the optimizer holds them and that they get a gradient.",
        ),
        VerdictKind.WEIGHTS_WRITTEN: Meaning(
            Tone.ALARM,
            "Something beside the optimizer wrote the weights between its steps: the norm before "
            "a step is not the norm after the step before. The reason says at which steps.",
            "Look for averaged copies, projections, decay by hand, a second optimizer, a "
            "checkpoint; acknowledge it if you meant it.",
            state="written between steps",
        ),
        VerdictKind.STEP_DIFFERS: Meaning(
            Tone.ALARM,
            "The steps are not what the recorded settings make of these gradients; where other "
            "settings explain them, the reason names those.",
            "Compare the settings named with those of your optimizer and scheduler.",
            state="stepped otherwise than declared",
        ),
        VerdictKind.GRADIENT_ALTERED: Meaning(
            Tone.ALARM,
            "The optimizer's gradient is not that of the loss alone: entries or norm are clipped, "
            "or a weight decay is hidden in it.",
            "Raise or remove the clipping; leave the decay to the optimizer.",
            state="stepped with an altered gradient",
        ),
        VerdictKind.NOT_SCALE_INVARIANT: Meaning(
            Tone.ALARM,
            "The loss depends on the size of these weights, so the prediction does not apply.",
            "Take the groups of `find_groups`; check that the norm layer is not in eval mode.",
            shared=("defect", ".2g", "cosine of weights and gradient {}"),
        ),
        VerdictKind.EPSILON_DOMINATED: Meaning(
            Tone.ALARM,
            "The layer's output is so small that the norm layer's ε breaks the invariance.",
            "Use less weight decay or a smaller ε.",
        ),
        VerdictKind.TOO_FEW_SAMPLES: Meaning(
            Tone.QUIET,
            "The measured steps are too few to judge, or the 95% interval of the ratio is too "
            "wide to say whether it lies in its band.",
            "Measure more often, or train longer.",
            state="not judged yet",
            shared=("samples", ",.0f", "{} sampled steps are too few or too uncertain"),
        ),
        VerdictKind.OFF_BALANCE: Meaning(
            Tone.CAUTION,
            "The balance law is exact here and does not hold: pull and growth of the norm do not "
            "give the measured turning, and no single setting mends it.",
            "Look for skipped steps, and for settings that change within a step.",
            shared=("balance", ".2f", "{} of the angle that pull and growth give"),
        ),
        VerdictKind.IN_BALANCE: Meaning(
            Tone.SETTLED,
            "The steps are what the settings make of the gradients, and pull and growth of the "
            "norm give the measured turning. For a certified group the angle is still not the "
            "predicted one: the reason names the assumption that fails.",
            "Nothing: the reason says what moves the norm, or which assumption fails.",
            shared=("balance", ".2f", "{} of the angle that pull and growth give"),
        ),
        VerdictKind.NO_PREDICTION: Meaning(
            Tone.QUIET,
            "The motion was measured; the reason says why it is not predicted.",
            "Compare runs by the measured angle, or supply what is missing.",
            state="measured but not predicted",
        ),
        VerdictKind.NO_WEIGHT_DECAY: Meaning(
            Tone.QUIET,
            "Nothing pulls inward: the norm grows, the angle shrinks, there is no equilibrium.",
            "Nothing if you meant it; otherwise add weight decay.",
            state="without weight decay",
            shared=("norm_change", ".2f", "norms end at {} of where they began"),
        ),
        VerdictKind.NO_THEORY: Meaning(
            Tone.QUIET,
            "The motion was measured; no closed form predicts it (the SGD and Adam families and "
            "Lion are predicted; Muon needs the correlation of its steps).",
            "Compare runs by the measured angle.",
            state="measured but not predicted",
        ),
        VerdictKind.APPROACHING: Meaning(
            Tone.UNDERWAY,
            "The norm is on its way to equilibrium, as forecast: an answer, not a failure. The "
            "reason says how many steps remain.",
            "Make the stage longer, or accept that its angle is not that of its equilibrium.",
            state="following settings that vary",
            shared=("ratio", ".2f", "the angle is {} of the forecast for them"),
        ),
        VerdictKind.IN_EQUILIBRIUM: Meaning(
            Tone.SETTLED,
            "All laws hold, and gradient steps and weight decay balance: the 95% interval of "
            "measured over predicted angle lies inside 0.90 to 1.10 (`band=`).",
            "Nothing: learning rate and weight decay do what you think.",
        ),
        VerdictKind.OFF: Meaning(
            Tone.CAUTION,
            "The angle is neither as predicted nor on the way there, and the records cannot show "
            "that the laws hold. An alarm only if the suspect is one.",
            "Look for clipping, weights written by other code, and skipped steps.",
            shared=("ratio", ".2f", "{} of the predicted angle"),
        ),
    }
)
"""One row a kind of verdict."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """A kind, the reason in one plain sentence, and the numbers the reason rests on.

    Attributes:
        kind: the conclusion.
        reason: why, in words.
        evidence: the numbers behind it.
        suspect: the suspected cause, or None.
        reasons: the data of `reason`.

    >>> Verdict(VerdictKind.FROZEN, "the weights did not move", {"samples": 40})
    Verdict(kind=<VerdictKind.FROZEN: 'frozen'>, reason='the weights did not move', ...)
    """

    kind: VerdictKind
    reason: str
    evidence: Mapping[str, float] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    suspect: Suspect | None = None
    reasons: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", MappingProxyType(dict(self.evidence)))

    @classmethod
    def because(
        cls, kind: VerdictKind, reasons: Iterable[Reason], evidence: Mapping[str, float]
    ) -> Verdict:
        """A verdict whose words and suspect follow from its reasons; the first suspect counts."""
        given = tuple(reasons)
        suspects = (reason.kind.suspect for reason in given if reason.kind.suspect)
        words = "".join(map(str, given)).replace("?.", "?")
        return cls(kind, words, evidence, next(suspects, None), given)

    @property
    def alarm(self) -> bool:
        """Whether it asks for action: its suspect decides, without one its kind."""
        return self.kind.meaning.alarm if self.suspect is None else self.suspect.alarm

    @property
    def tone(self) -> Tone:
        """How urgent it is: `ALARM` if it asks for action, else the tone of its kind.

        A kind that is an alarm by itself is a caution where its suspect needs no action, and quiet
        at a learning rate of 0.
        """
        tone = self.kind.meaning.tone
        if self.alarm:
            return Tone.ALARM
        if tone is not Tone.ALARM:
            return tone
        return Tone.QUIET if self.suspect is Suspect.RATE_ZERO else Tone.CAUTION

    def has_reason(self, kind: ReasonKind) -> bool:
        """Whether a reason of this kind was given."""
        return any(reason.kind is kind for reason in self.reasons)

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.reason}"
