"""Why a parameter is in no group, in words and with the number behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.invariance.graph import CONSTANT, CURVED, SOFTMAX, Course, Ways
from spherical_motion.invariance.reasons.uncovered import Uncovered
from spherical_motion.invariance.running import Evidence, Precision
from spherical_motion.invariance.search import Symmetry, totals_over
from spherical_motion.vocabulary import InvariantGroup, Slice

__all__ = ["Findings", "reasons_for"]

ROUNDING = 1e-9
"""Below this share of the largest a float64 gradient may be nothing but rounding."""


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
        precision: what the probes ran in.
    """

    evidence: Evidence
    silent: Mapping[str, NDArray[np.bool_]]
    dropped: frozenset[str]
    rescalings: Sequence[InvariantGroup]
    course: Course
    aliases: Mapping[str, tuple[str, ...]]
    frozen: frozenset[str]
    precision: Precision

    @property
    def vanishing(self) -> float:
        """A gradient is rounding where it is below this times the largest."""
        return max(ROUNDING, self.precision.dead)

    def shares(self, parameter: str) -> NDArray[np.float64]:
        """‖g‖ of each row relative to the largest row of all, shape (probes, rows)."""
        largest = np.max([rows.gg.max(axis=1) for (rows, *_) in self.evidence.values()], axis=0)
        gg = self.evidence[parameter][0].gg
        return np.sqrt(gg / np.where(largest > 0.0, largest, 1.0)[:, None])

    def vanishes(self, parameter: str) -> bool:
        """Whether all of its gradient is rounding, in every probe, and there is one to round."""
        shares = self.shares(parameter)
        return bool(
            self.silent[parameter].all() and shares.any() and (shares < self.vanishing).all()
        )

    def inert(self, name: str) -> bool:
        """Whether something added is a parameter that does nothing."""
        return name in self.silent and bool(self.silent[name].all())

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
            return Uncovered(parameter, reason + _addition(parameter, cause, findings), cause)
    raise AssertionError("the last rule always has a reason")


def _dead(parameter: str, findings: Findings) -> str | None:
    shares = findings.shares(parameter)
    probes = len(shares)
    if not shares.any():
        return (
            f"no gradient in any of {probes} probes: dead or unused on these inputs, which is no "
            "evidence either way"
        )
    if not findings.silent[parameter].all() or findings.vanishes(parameter):
        return None
    lively = int((shares >= findings.vanishing).sum(axis=0).max())
    return (
        f"a gradient in only {lively} of {probes} probes: behind a dead ReLU or unused on most of "
        f"these inputs, which is little evidence either way (‖g‖ at most {shares.max():.0e} of "
        "the largest)"
    )


def _shift(parameter: str, findings: Findings) -> str | None:
    if not findings.vanishes(parameter):
        return None
    share = f"its gradient vanishes (‖g‖ is {findings.shares(parameter).max():.0e} of the largest)"
    norms, past_all = findings.course.ways(parameter)
    ways = [*(way for _, way in norms), *([past_all] if past_all else [])]
    if ways and all(SOFTMAX in way.curves and way.only_curved for way in ways):
        remover = "a softmax"
    elif norms:
        remover = _listed(list(dict.fromkeys(norm.name for norm, _ in norms)))
    elif norm := next((n for n in findings.course.norms_after(parameter) if n.own), None):
        remover = f"`{norm.name}`"
    else:
        return f"{share}: the outputs do not depend on it, up to rounding"
    return (
        f"{share}: the outputs do not depend on it, as of a shift or a scale that {remover} "
        "takes out again"
    )


def _local(parameter: str, findings: Findings) -> str | None:
    if parameter not in findings.dropped:
        return None
    why = "is something clipped?"
    if findings.precision.dtype == torch.float32:
        why = "is something clipped, or lost to rounding: try float64"
    return (
        "only locally invariant: ⟨w,g⟩ = 0 at the probes, alone or with others, and a finite "
        f"rescaling changes the outputs ({why}); alone {findings.defect(parameter)}"
    )


def _shared(parameter: str, findings: Findings) -> str | None:
    others = findings.aliases.get(parameter)
    if not others:
        return None
    norms, past_all = findings.course.ways(parameter)
    if norms and past_all is None:
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
        f"the next norm that it feeds, `{norm.name}`, is in eval mode: with running statistics it "
        f"is a fixed affine map; {findings.defect(parameter)}"
    )


def _no_norm(parameter: str, findings: Findings) -> str | None:
    if any(norm.own for norm in findings.course.norms_after(parameter)):
        return None
    return f"no norm layer is fed by it: {findings.defect(parameter)}"


def _curved(parameter: str, findings: Findings) -> str | None:
    norms, past_all = findings.course.ways(parameter)
    for norm, way in norms:
        if way.curves:
            how = "only" if way.only_curved else "on some ways only"
            text = f"`{norm.name}` normalizes it {how} after a curved function "
            text += f"({_listed(way.curves)})"
            if way.only_joined:
                text += " and in a sum with another branch"
            return f"{text}{_bypass(past_all)}: {findings.defect(parameter)}"
    return None


def _residual(parameter: str, findings: Findings) -> str | None:
    norms, past_all = findings.course.ways(parameter)
    for norm, way in norms:
        if way.joined:
            how = "only" if way.only_joined else "on some ways only"
            return (
                f"`{norm.name}` normalizes it {how} in a sum with another branch (a residual joins "
                f"before the norm){_bypass(past_all)}: {findings.defect(parameter)}"
            )
    return None


def _mixed(parameter: str, findings: Findings) -> str:
    norms, past_all = findings.course.ways(parameter)
    number = findings.defect(parameter)
    for norm, way in norms:
        if beside := [name for name in way.beside if not findings.inert(name)]:
            return (
                f"`{norm.name}` normalizes it only together with {_listed(beside)}, added on the "
                f"way{_bypass(past_all)}: {number}"
            )
    if norms:
        how = _bypass(past_all) or ", and yet no rescaling was found that it takes out again"
        return f"`{norms[0][0].name}` normalizes it{how}: {number}"
    norm = next(n for n in findings.course.norms_after(parameter) if n.own)
    return (
        f"`{norm.name}` runs after it, and the autograd graph does not show what comes between: "
        f"{number}"
    )


def _bypass(past_all: Ways | None) -> str:
    """What to add of a parameter with a way to the outputs that meets no norm."""
    return "" if past_all is None else ", and it also reaches the outputs past every norm"


def _listed(names: Sequence[str]) -> str:
    """Up to three, and how many more; names of the model's in quotes."""
    shown = [name if name in (CONSTANT, *CURVED.values()) else f"`{name}`" for name in names[:3]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(shown) + more


def _addition(parameter: str, cause: str, findings: Findings) -> str:
    added = ""
    if cause != "shared" and parameter in findings.aliases:
        added = f"; shared with {', '.join(findings.aliases[parameter])}"
    added += "".join(
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
    "curved": _curved,
    "residual": _residual,
    "mixed": _mixed,
}
