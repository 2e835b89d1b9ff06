"""Why a parameter is in no group, in words and with the number behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.course import Course
from spherical_motion.invariance.inspection import Uncovered
from spherical_motion.invariance.slices import Evidence
from spherical_motion.invariance.symmetry import Symmetry
from spherical_motion.invariance.totals import totals_over
from spherical_motion.vocabulary import InvariantGroup, Slice

__all__ = ["Findings", "reasons_for"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What is known once the search is over.

    Attributes:
        evidence: row sums of the probes, shape (probes, rows).
        silent: for each parameter its rows, along axis 0, without a gradient beyond rounding.
        dropped: parameters of candidates that failed the certificate.
        rescalings: certified groups of kind "rescale".
        course: which modules and norms ran.
        aliases: further names of parameters that the model holds under several.
        frozen: parameters that do not ask for a gradient.
    """

    evidence: Evidence
    silent: Mapping[str, NDArray[np.bool_]]
    dropped: frozenset[str]
    rescalings: Sequence[InvariantGroup]
    course: Course
    aliases: Mapping[str, tuple[str, ...]]
    frozen: frozenset[str]

    def defect(self, parameter: str) -> str:
        """The largest |⟨w, g⟩| / (‖w‖‖g‖) of a whole parameter in the probes, with its name."""
        rows = self.evidence[parameter][0].rows
        whole = Symmetry.scale([Slice(parameter, 0, 0, rows)])
        defect = float(np.nanmax(totals_over(self.evidence, [whole]).defect()))
        return f"|⟨w,g⟩| / (‖w‖‖g‖) = {defect:.2g}"


def reasons_for(uncovered: Sequence[str], findings: Findings) -> tuple[Uncovered, ...]:
    """A reason for each parameter in no group: that of the first rule that has one."""
    return tuple(_explained(parameter, findings) for parameter in uncovered)


def _explained(parameter: str, findings: Findings) -> Uncovered:
    for cause, rule in RULES.items():
        if reason := rule(parameter, findings):
            return Uncovered(parameter, reason + _addition(parameter, findings), cause)
    raise AssertionError("the last rule always has a reason")


def _dead(parameter: str, findings: Findings) -> str | None:
    if any(rows.gg.any() for rows in findings.evidence[parameter]):
        return None
    return "no gradient: dead or unused on these inputs, which is no evidence either way"


def _shift(parameter: str, findings: Findings) -> str | None:
    if not findings.silent[parameter].all():
        return None
    rows = findings.evidence[parameter][0]
    largest = max(float(np.sqrt(r.gg.sum(axis=1)).max()) for (r, *_) in findings.evidence.values())
    share = float(np.sqrt(rows.gg.sum(axis=1)).max()) / largest
    return (
        "its gradient vanishes: a shift in front of a norm layer, without effect on the outputs "
        f"(‖g‖ is {share:.0e} of the largest)"
    )


def _local(parameter: str, findings: Findings) -> str | None:
    if parameter not in findings.dropped:
        return None
    return (
        "only locally invariant: ⟨w,g⟩ = 0 at the probes, and a finite rescaling changes the "
        "outputs (is something clipped?)"
    )


def _shared(parameter: str, findings: Findings) -> str | None:
    others = findings.aliases.get(parameter)
    if not others:
        return None
    return (
        f"shared with {', '.join(others)}, and a norm layer does not follow on every use: "
        f"{findings.defect(parameter)}"
    )


def _eval_mode(parameter: str, findings: Findings) -> str | None:
    norm = next(findings.course.norms_after(parameter), None)
    if norm is None or norm.own:
        return None
    return (
        f"the next norm to run, `{norm.name}`, is in eval mode: with running statistics it is a "
        f"fixed affine map; {findings.defect(parameter)}"
    )


def _no_norm(parameter: str, findings: Findings) -> str | None:
    if any(norm.own for norm in findings.course.norms_after(parameter)):
        return None
    return f"no norm layer was seen to run after it: {findings.defect(parameter)}"


def _not_alone(parameter: str, findings: Findings) -> str:
    norm = next(n for n in findings.course.norms_after(parameter) if n.own)
    return (
        f"`{norm.name}` runs after it, but something beside it (a residual branch, a shift) or a "
        "curved function comes between, and no parameters tried cancel it: "
        f"{findings.defect(parameter)}"
    )


def _addition(parameter: str, findings: Findings) -> str:
    added = "".join(
        f"; rescales with others as `{group.name}`"
        for group in findings.rescalings
        if parameter in group.parameters
    )
    return added + ("; frozen, so it does not move" if parameter in findings.frozen else "")


RULES: dict[str, Callable[[str, Findings], str | None]] = {
    "dead": _dead,
    "shift": _shift,
    "clipped": _local,
    "shared": _shared,
    "eval mode": _eval_mode,
    "no norm": _no_norm,
    "mixed": _not_alone,
}
