"""Why a parameter is in no group: the first rule that applies, with the number behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.invariance.graph import CONSTANT, SOFTMAX, Course, Paths
from spherical_motion.invariance.reasons.uncovered import Uncovered, Why, listed
from spherical_motion.invariance.running import Evidence, Precision
from spherical_motion.invariance.search import Symmetry, totals_over
from spherical_motion.vocabulary import Cause, InvariantGroup, Reason, Slice

ROUNDING = 1e-9
"""Below this share of the largest a float64 gradient may be nothing but rounding."""

MOST_RESCALINGS = 2
"""Of the rescalings that a parameter takes part in, so many are named."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All that the reasons are drawn from.

    Attributes:
        evidence: row sums of the probes, shape (probes, rows).
        silent: for each parameter its rows, along axis 0, whose gradient is at most rounding.
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
        """Whether the name is that of a parameter without any gradient."""
        return name in self.silent and bool(self.silent[name].all())

    def defect(self, parameter: str) -> float:
        """The largest |⟨w, g⟩| / (‖w‖‖g‖) of a whole parameter in the probes."""
        rows = self.evidence[parameter][0].rows
        whole = Symmetry.scale([Slice(parameter, 0, 0, rows)])
        return float(np.nanmax(totals_over(self.evidence, [whole]).defect()))


Parts: TypeAlias = list[Reason]

REMOVED_BY_SOFTMAX = "a softmax"


def reasons_for(uncovered: Sequence[str], findings: Findings) -> tuple[Uncovered, ...]:
    """A reason for each parameter in no group, from the first rule that applies."""
    return tuple(_explained(parameter, findings) for parameter in uncovered)


def _explained(parameter: str, findings: Findings) -> Uncovered:
    for cause, rule in RULES.items():
        if parts := rule(parameter, findings):
            parts += _additions(parameter, cause, findings)
            return Uncovered(parameter, cause, tuple(parts))
    raise AssertionError("the last rule always has a reason")


def _dead(parameter: str, findings: Findings) -> Parts | None:
    shares = findings.shares(parameter)
    probes = len(shares)
    if not shares.any():
        return [Reason(Why.NO_GRADIENT, {"probes": probes})]
    if not findings.silent[parameter].all() or findings.vanishes(parameter):
        return None
    lively = int((shares >= findings.vanishing).sum(axis=0).max())
    numbers = {"lively": lively, "probes": probes, "share": float(shares.max())}
    return [Reason(Why.RARE_GRADIENT, numbers)]


def _shift(parameter: str, findings: Findings) -> Parts | None:
    if not findings.vanishes(parameter):
        return None
    share = Reason(Why.VANISHING_GRADIENT, {"share": float(findings.shares(parameter).max())})
    norms, past_all = findings.course.paths(parameter)
    paths = [*(path for _, path in norms), *([past_all] if past_all else [])]
    if paths and all(SOFTMAX in path.curves and path.only_curved for path in paths):
        remover = REMOVED_BY_SOFTMAX
    elif norms:
        remover = _quoted(list(dict.fromkeys(norm.name for norm, _ in norms)))
    elif norm := next((n for n in findings.course.norms_after(parameter) if n.own), None):
        remover = f"`{norm.name}`"
    else:
        return [share, Reason(Why.UP_TO_ROUNDING)]
    return [share, Reason(Why.REMOVED, {"remover": remover})]


def _local(parameter: str, findings: Findings) -> Parts | None:
    if parameter not in findings.dropped:
        return None
    float32 = findings.precision.dtype == torch.float32
    return [
        Reason(Why.LOCAL_IN_FLOAT32 if float32 else Why.LOCAL),
        Reason(Why.DEFECT_ALONE, {"defect": findings.defect(parameter)}),
    ]


def _shared(parameter: str, findings: Findings) -> Parts | None:
    others = findings.aliases.get(parameter)
    if not others:
        return None
    norms, past_all = findings.course.paths(parameter)
    if norms and past_all is None:
        return None
    return [Reason(Why.SHARED, {"others": ", ".join(others)}), _defect(parameter, findings)]


def _eval_mode(parameter: str, findings: Findings) -> Parts | None:
    norm = next(findings.course.norms_after(parameter), None)
    if norm is None or norm.own:
        return None
    return [Reason(Why.EVAL_MODE, {"norm": norm.name}), _defect(parameter, findings)]


def _no_norm(parameter: str, findings: Findings) -> Parts | None:
    if any(norm.own for norm in findings.course.norms_after(parameter)):
        return None
    return [Reason(Why.NO_NORM), _defect(parameter, findings)]


def _curved(parameter: str, findings: Findings) -> Parts | None:
    norms, past_all = findings.course.paths(parameter)
    for norm, path in norms:
        if path.curves:
            words = {
                "norm": norm.name,
                "extent": _extent(path.only_curved),
                "curves": listed(path.curves),
            }
            joined = [Reason(Why.AND_IN_A_SUM)] if path.only_joined else []
            return [Reason(Why.CURVED, words), *joined, *_ending(parameter, past_all, findings)]
    return None


def _residual(parameter: str, findings: Findings) -> Parts | None:
    norms, past_all = findings.course.paths(parameter)
    for norm, path in norms:
        if path.joined:
            words = {"norm": norm.name, "extent": _extent(path.only_joined)}
            return [Reason(Why.RESIDUAL, words), *_ending(parameter, past_all, findings)]
    return None


def _mixed(parameter: str, findings: Findings) -> Parts:
    norms, past_all = findings.course.paths(parameter)
    for norm, path in norms:
        if beside := [name for name in path.beside if not findings.inert(name)]:
            words = {"norm": norm.name, "beside": _quoted(beside)}
            return [Reason(Why.BESIDE, words), *_ending(parameter, past_all, findings)]
    if norms:
        found = Reason(Why.NORMALIZED, {"norm": norms[0][0].name})
        missing = [Reason(Why.NOT_FOUND)] if past_all is None else []
        return [found, *missing, *_ending(parameter, past_all, findings)]
    norm = next(n for n in findings.course.norms_after(parameter) if n.own)
    return [Reason(Why.HIDDEN, {"norm": norm.name}), _defect(parameter, findings)]


def _ending(parameter: str, past_all: Paths | None, findings: Findings) -> Parts:
    """Whether a path to the outputs meets no norm, and the number."""
    bypass = [] if past_all is None else [Reason(Why.BYPASS)]
    return [*bypass, _defect(parameter, findings)]


def _defect(parameter: str, findings: Findings) -> Reason:
    return Reason(Why.DEFECT, {"defect": findings.defect(parameter)})


def _extent(always: bool) -> str:
    return "only" if always else "on some paths only"


def _quoted(names: Sequence[str]) -> str:
    return listed([name if name == CONSTANT else f"`{name}`" for name in names])


def _additions(parameter: str, cause: Cause, findings: Findings) -> Parts:
    parts: Parts = []
    if cause is not Cause.SHARED and parameter in findings.aliases:
        parts.append(Reason(Why.ALSO_SHARED, {"others": ", ".join(findings.aliases[parameter])}))
    rescalings = [g.name for g in findings.rescalings if parameter in g.parameters]
    if rescalings:
        names = listed([f"`{name}`" for name in rescalings], MOST_RESCALINGS)
        parts.append(Reason(Why.RESCALES, {"groups": names}))
    if parameter in findings.frozen:
        parts.append(Reason(Why.FROZEN))
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
