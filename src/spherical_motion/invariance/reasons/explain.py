"""Why a parameter is in no group: the first rule that applies, with the number behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.invariance.graph import CONSTANT, SOFTMAX, Course, Paths
from spherical_motion.invariance.reasons.uncovered import Uncovered, Why
from spherical_motion.invariance.running import Evidence, Precision, Subject
from spherical_motion.invariance.search import LiveRows, Symmetry, totals_over
from spherical_motion.notices import listed
from spherical_motion.vocabulary import Cause, InvariantGroup, Reason, Slice

ROUNDING = 1e-9
"""Below this share of the largest a float64 gradient may be nothing but rounding."""

MOST_RESCALINGS = 2
"""How many of the rescalings that a parameter takes part in are named."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What the rules read.

    Attributes:
        evidence: row sums of the probes, shape (probes, rows).
        live: which rows have a gradient that is more than rounding.
        dropped: parameters of candidates that failed the certificate.
        rescalings: certified groups of kind "rescale".
        course: which modules and norms ran.
        subject: the model.
        precision: of the probes.
    """

    evidence: Evidence
    live: LiveRows
    dropped: Set[str]
    rescalings: Sequence[InvariantGroup]
    course: Course
    subject: Subject
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
        """Whether it has a gradient and all of it is rounding, in every probe."""
        shares = self.shares(parameter)
        return bool(self.silent(parameter) and shares.any() and (shares < self.vanishing).all())

    def silent(self, parameter: str) -> bool:
        """Whether it is a parameter whose rows have no gradient beyond rounding."""
        return parameter in self.live and not self.live[parameter][0].any()

    def defect(self, parameter: str) -> float:
        """The largest |⟨w, g⟩| / (‖w‖‖g‖) of a whole parameter in the probes."""
        rows = self.evidence[parameter][0].rows
        whole = Symmetry.scale([Slice(parameter, 0, 0, rows)])
        return float(np.nanmax(totals_over(self.evidence, [whole]).defect()))


Parts: TypeAlias = list[Reason]


def reason_for(parameter: str, findings: Findings) -> Uncovered:
    """Why a parameter is in no group, by the first rule that applies."""
    for cause, rule in RULES.items():
        if parts := rule(parameter, findings):
            parts += _additions(parameter, cause, findings)
            return Uncovered(parameter, cause, tuple(parts))
    raise AssertionError("the last rule always has a reason")


def _dead(parameter: str, findings: Findings) -> Parts | None:
    shares = findings.shares(parameter)
    probes = len(shares)
    if not shares.any():
        return [Why.NO_GRADIENT(probes=probes)]
    if not findings.silent(parameter) or findings.vanishes(parameter):
        return None
    lively = int((shares >= findings.vanishing).sum(axis=0).max())
    return [Why.RARE_GRADIENT(lively=lively, probes=probes, share=float(shares.max()))]


def _shift(parameter: str, findings: Findings) -> Parts | None:
    if not findings.vanishes(parameter):
        return None
    share = Why.VANISHING_GRADIENT(share=float(findings.shares(parameter).max()))
    norms, past_all = findings.course.paths(parameter)
    paths = [*(path for _, path in norms), *([past_all] if past_all else [])]
    if paths and all(SOFTMAX in path.curves and path.only_curved for path in paths):
        remover = "a softmax"
    elif norms:
        remover = _quoted(list(dict.fromkeys(norm.name for norm, _ in norms)))
    elif norm := next((n for n in findings.course.norms_after(parameter) if n.own), None):
        remover = f"`{norm.name}`"
    else:
        return [share, Why.UP_TO_ROUNDING()]
    return [share, Why.REMOVED(remover=remover)]


def _local(parameter: str, findings: Findings) -> Parts | None:
    if parameter not in findings.dropped:
        return None
    local = Why.LOCAL_IN_FLOAT32 if findings.precision.dtype == torch.float32 else Why.LOCAL
    return [local(), Why.DEFECT_ALONE(defect=findings.defect(parameter))]


def _shared(parameter: str, findings: Findings) -> Parts | None:
    others = findings.subject.aliases.get(parameter)
    if not others:
        return None
    norms, past_all = findings.course.paths(parameter)
    if norms and past_all is None:
        return None
    return [Why.SHARED(others=", ".join(others)), _defect(parameter, findings)]


def _eval_mode(parameter: str, findings: Findings) -> Parts | None:
    norm = next(findings.course.norms_after(parameter), None)
    if norm is None or norm.own:
        return None
    return [Why.EVAL_MODE(norm=norm.name), _defect(parameter, findings)]


def _no_norm(parameter: str, findings: Findings) -> Parts | None:
    if any(norm.own for norm in findings.course.norms_after(parameter)):
        return None
    return [Why.NO_NORM(), _defect(parameter, findings)]


def _curved(parameter: str, findings: Findings) -> Parts | None:
    norms, past_all = findings.course.paths(parameter)
    for norm, path in norms:
        if path.curves:
            extent, curves = _extent(path.only_curved), listed(path.curves)
            curved = Why.CURVED(norm=norm.name, extent=extent, curves=curves)
            joined = [Why.AND_IN_A_SUM()] if path.only_joined else []
            return [curved, *joined, *_ending(parameter, past_all, findings)]
    return None


def _residual(parameter: str, findings: Findings) -> Parts | None:
    norms, past_all = findings.course.paths(parameter)
    for norm, path in norms:
        if path.joined:
            residual = Why.RESIDUAL(norm=norm.name, extent=_extent(path.only_joined))
            return [residual, *_ending(parameter, past_all, findings)]
    return None


def _mixed(parameter: str, findings: Findings) -> Parts:
    norms, past_all = findings.course.paths(parameter)
    for norm, path in norms:
        if beside := [name for name in path.beside if not findings.silent(name)]:
            together = Why.BESIDE(norm=norm.name, beside=_quoted(beside))
            return [together, *_ending(parameter, past_all, findings)]
    if norms:
        missing = [Why.NOT_FOUND()] if past_all is None else []
        found = Why.NORMALIZED(norm=norms[0][0].name)
        return [found, *missing, *_ending(parameter, past_all, findings)]
    norm = next(n for n in findings.course.norms_after(parameter) if n.own)
    return [Why.HIDDEN(norm=norm.name), _defect(parameter, findings)]


def _ending(parameter: str, past_all: Paths | None, findings: Findings) -> Parts:
    """Whether some path reaches the outputs without a norm, and the defect."""
    bypass = [] if past_all is None else [Why.BYPASS()]
    return [*bypass, _defect(parameter, findings)]


def _defect(parameter: str, findings: Findings) -> Reason:
    return Why.DEFECT(defect=findings.defect(parameter))


def _extent(always: bool) -> str:
    return "only" if always else "on some paths only"


def _quoted(names: Sequence[str]) -> str:
    return listed([name if name == CONSTANT else f"`{name}`" for name in names])


def _additions(parameter: str, cause: Cause, findings: Findings) -> Parts:
    parts: Parts = []
    others = findings.subject.aliases.get(parameter)
    if others and cause is not Cause.SHARED:
        parts.append(Why.ALSO_SHARED(others=", ".join(others)))
    rescalings = [f"`{g.name}`" for g in findings.rescalings if parameter in g.parameters]
    if rescalings:
        parts.append(Why.RESCALES(groups=listed(rescalings, MOST_RESCALINGS)))
    if parameter in findings.subject.frozen:
        parts.append(Why.FROZEN())
    return parts


RULES: Mapping[Cause, Callable[[str, Findings], Parts | None]] = {
    Cause.DEAD: _dead,
    Cause.SHIFT: _shift,
    Cause.CLIPPED: _local,
    Cause.SHARED: _shared,
    Cause.EVAL_MODE: _eval_mode,
    Cause.NO_NORM: _no_norm,
    Cause.CURVED: _curved,
    Cause.RESIDUAL: _residual,
    Cause.MIXED: _mixed,
}
"""In the order in which they are tried."""
