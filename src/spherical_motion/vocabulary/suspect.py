"""The causes that a verdict may suspect: a name, a meaning in plain words, and whether to act."""

from __future__ import annotations

import enum


class Suspect(enum.Enum):
    """The suspected cause of a verdict. Evidence names it; where there is none, nothing is.

    Attributes:
        meaning: what it is, in one line.
        alarm: whether it asks for action.

    >>> Suspect.HIDDEN_DECAY.value, Suspect.HIDDEN_DECAY.alarm
    ('hidden decay', True)
    """

    meaning: str
    alarm: bool

    def __new__(cls, word: str, meaning: str, alarm: bool) -> Suspect:
        """The member's value is its word alone."""
        member = object.__new__(cls)
        member._value_, member.meaning, member.alarm = word, meaning, alarm
        return member

    NON_FINITE = "non-finite", "weights, steps or gradients hold NaN or infinity", True
    NO_GRADIENT = "no gradient", "the weights get no gradient, or no optimizer holds them", True
    FROZEN = "frozen", "the weights stopped moving, although the learning rate is not 0", True
    NOT_STEPPED = (
        "not stepped",
        "the model no longer uses the watched tensor, or its optimizer is no longer stepped",
        True,
    )
    WEIGHTS_WRITTEN = (
        "weights written",
        "something beside the optimizer writes the weights between its steps",
        True,
    )
    LOST_PRECISION = (
        "lost precision",
        "the weights' dtype rounds a part of each step away",
        True,
    )
    STEP_COUNTER = (
        "step counter",
        "the optimizer's step count is not the number of its steps",
        True,
    )
    WRONG_SETTINGS = "wrong settings", "the steps are those of other settings than declared", True
    STEP_DIFFERS = (
        "step differs",
        "the steps are not those of the optimizer's rule, with any settings",
        True,
    )
    HIDDEN_DECAY = "hidden decay", "the gradient holds a weight decay of its own", True
    GRADIENT_CLIPPED = (
        "gradient clipped",
        "single entries of the gradient are clipped, or its norm at nearly every step",
        True,
    )
    EPSILON = "epsilon", "the norm layer's ε is large beside the variance of its input", True
    EVAL_MODE = "eval mode", "a norm layer that the weights feed uses running statistics", True

    WEIGHTS_PUT_BACK = (
        "weights put back",
        "something changes the weights between steps and puts them back, as SAM does",
        False,
    )
    RADIAL_PART = (
        "radial part",
        "the gradient has a small part along the weights, and its cause is not known",
        False,
    )
    RATE_ZERO = "rate zero", "the learning rate is 0", False
    GRADIENT_CLEARED = (
        "gradient cleared",
        "the gradient is cleared before the optimizer's step has returned",
        False,
    )
    NOT_CERTIFIED = "not certified", "no certificate says that the loss is scale-invariant", False
    MIXED_SETTINGS = "mixed settings", "the group's members do not share one setting", False
    DEAD_PART = (
        "dead part",
        "a part of a tensor has no gradient while the rest has one, like a unit that died",
        False,
    )
    SHORT_STAGE = "short stage", "the settings change before the motion has followed them", False
    GRADIENT_SCALE = (
        "gradient scale",
        "the gradient's size changed in all groups at once, as with another loss scale or batch",
        False,
    )
    GRADIENT_SPIKE = (
        "gradient spike",
        "at single steps the gradient was many times as large as before and after them",
        False,
    )
    STALE_GRADIENT = "stale gradient", "neighbouring steps used the same gradient", False
    NORM_CLIPPED = "norm clipped", "the gradient's global norm is clipped now and then", False
    CORRELATED_GRADIENTS = (
        "correlated gradients",
        "gradients of neighbouring steps point alike, and the prediction takes them not to",
        False,
    )
    HEAVY_TAILS = "heavy tails", "a few large gradients make most of the motion", False
    UNEVEN_ENTRIES = "uneven entries", "the entries of the gradient differ in size", False
    FADING = "fading", "the gradient fades", False
    MOVING_NORM = "moving norm", "the norm is not at rest", False
