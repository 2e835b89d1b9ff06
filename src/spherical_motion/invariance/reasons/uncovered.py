"""A parameter in no group, and the words of the reasons."""

from __future__ import annotations

import dataclasses

from spherical_motion.vocabulary import Cause, Reason, ReasonKind


class Why(ReasonKind):
    """The parts that reasons are made of; what follows another part begins with punctuation."""

    NO_GRADIENT = (
        "no gradient in any of {probes} probes: dead or unused on these inputs, which is no "
        "evidence either way"
    )
    RARE_GRADIENT = (
        "a gradient in only {lively} of {probes} probes: behind a dead ReLU or unused on most of "
        "these inputs, which is little evidence either way (‖g‖ at most {share:.0e} of the largest)"
    )
    VANISHING_GRADIENT = (
        "its gradient vanishes (‖g‖ is {share:.0e} of the largest): the outputs do not depend on it"
    )
    REMOVED = ", because {remover} removes its shift or scale"
    UP_TO_ROUNDING = ", up to rounding"
    LOCAL = (
        "only locally invariant: ⟨w,g⟩ = 0 at the probes, alone or with others, but a finite "
        "rescaling changes the outputs (is something clipped?)"
    )
    LOCAL_IN_FLOAT32 = (
        "only locally invariant: ⟨w,g⟩ = 0 at the probes, alone or with others, but a finite "
        "rescaling changes the outputs (is something clipped, or lost to rounding? try float64)"
    )
    SHARED = "shared with {others}, and not every use of it feeds a norm layer"
    EVAL_MODE = (
        "the next norm that it feeds, `{norm}`, is in eval mode: with running statistics it is a "
        "fixed affine map"
    )
    NO_NORM = "it feeds no norm layer"
    CURVED = "`{norm}` normalizes it {extent} after a curved function ({curves})"
    AND_IN_A_SUM = " and in a sum with another branch"
    RESIDUAL = (
        "`{norm}` normalizes it {extent} in a sum with another branch (a residual joins before the "
        "norm)"
    )
    BESIDE = "`{norm}` normalizes it only together with {beside}, added on the way"
    NORMALIZED = "`{norm}` normalizes it"
    NOT_FOUND = ", but no rescaling was found that it removes"
    HIDDEN = "`{norm}` runs after it, and the autograd graph does not show what comes between"
    BYPASS = ", and it also reaches the outputs past every norm"
    DEFECT = ": |⟨w,g⟩| / (‖w‖‖g‖) = {defect:.2g}"
    DEFECT_ALONE = "; alone |⟨w,g⟩| / (‖w‖‖g‖) = {defect:.2g}"
    ALSO_SHARED = "; shared with {others}"
    RESCALES = "; rescales with others as {groups}"
    FROZEN = "; frozen, so it does not move"


@dataclasses.dataclass(frozen=True, slots=True)
class Uncovered:
    """A parameter in no group, and why not.

    Attributes:
        parameter: its name.
        cause: in one word, the first that applies.
        reasons: the parts of the reason, with their numbers.
    """

    parameter: str
    cause: Cause
    reasons: tuple[Reason, ...]

    @property
    def reason(self) -> str:
        """In plain words, with a number."""
        return "".join(map(str, self.reasons))
