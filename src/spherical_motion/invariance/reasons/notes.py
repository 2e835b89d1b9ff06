"""Notes and warnings about what was found, a line each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.graph import Course
from spherical_motion.invariance.proof import members_name
from spherical_motion.invariance.running import Evidence, RowSums
from spherical_motion.invariance.search import (
    ALIVE_PROBES,
    LiveRows,
    Symmetry,
    by_pattern,
    rows_in,
    starred,
    totals_over,
)
from spherical_motion.vocabulary import InvariantGroup
from spherical_motion.vocabulary.groups import module_of

LARGE = 0.01
"""Share of ε in variance + ε that is worth a line."""

MOST_LINES = 5

NOTICED = 10.0
"""A weight's own ⟨w, g⟩ is reported if it is this many times the one together with its bias."""


def large_epsilons(course: Course) -> list[str]:
    """Norm layers with a noticeable ε in what they divide by, the largest first."""
    worst: dict[str, float] = {}
    for norm in course.norms:
        if norm.own and norm.eps_share >= LARGE:
            worst[norm.name] = max(norm.eps_share, worst.get(norm.name, 0.0))
    ranked = sorted(worst.items(), key=lambda item: -item[1])
    lines = [
        f"ε of `{name}` is {share:.0%} of variance + ε on these inputs: what feeds it is "
        "invariant up to about that much."
        for name, share in ranked[:MOST_LINES]
    ]
    if len(ranked) > MOST_LINES:
        rest = [share for _, share in ranked[MOST_LINES:]]
        lines.append(f"... and of {len(rest)} more norm layers it is {LARGE:.0%} to {rest[0]:.0%}.")
    return lines


def what_joins(cells: Sequence[Symmetry], rows: Evidence) -> list[str]:
    """Modules invariant only with their bias: the size of the weight's own ⟨w, g⟩.

    Takes certified cells of kind "scale" and the row sums at the real weights. Skips modules where
    that size is hardly more than what ε leaves of the two together, as long as biases are zero.
    """
    by_role: dict[str, list[tuple[list[str], float]]] = {}
    for alike in by_pattern(cells):
        members = [name for name, _ in alike[0].pattern]
        if len(members) != 2 or module_of(members[0]) != module_of(members[1]):
            continue
        alone = _defect([Symmetry.scale(cell.parts[:1]) for cell in alike], rows)
        if alone > NOTICED * _defect(alike, rows):
            by_role.setdefault(_role(members[0]), []).append((members, alone))
    found = []
    for role in by_role.values():
        weight, bias = role[0][0] if len(role) == 1 else map(starred, role[0][0])
        sizes = _range([size for _, size in role])
        found.append(
            f"`{weight}` is invariant only with `{bias}`, whose ⟨b,g⟩ cancels its own ⟨w,g⟩, "
            f"{sizes} of ‖w‖‖g‖."
        )
    return found


def _defect(cells: Sequence[Symmetry], rows: Evidence) -> float:
    """Root mean square over cells and gradients; 0 where nothing has one."""
    defects = totals_over(rows, cells).defect()
    return float(np.sqrt(np.nanmean(defects**2))) if np.isfinite(defects).any() else 0.0


def equivalent_streams(
    groups: Sequence[InvariantGroup], rescalings: Sequence[InvariantGroup]
) -> list[str]:
    """Groups over several modules in which a rescaling may exchange members for others."""
    found = []
    for group in groups:
        inside = set(group.parameters)
        meeting = [other for other in rescalings if inside & set(other.parameters)]
        traded = [name for other in meeting for name in other.parameters if name not in inside]
        if traded and len(set(map(module_of, inside))) > 1:
            found.append(
                f"`{group.name}` is one of several equivalent choices: by the rescalings found, "
                f"{members_name(traded)} may replace some of its members."
            )
    return found


def not_examined(parameters: Sequence[str]) -> list[str]:
    """A line for parameters that are not real floating-point numbers."""
    if not parameters:
        return []
    more = ", ..." if len(parameters) > 3 else ""
    return [
        f"{', '.join(parameters[:3])}{more}: {len(parameters)} complex or integer parameter(s) "
        "were not examined."
    ]


def partial_cover(cells: Sequence[Symmetry], live: LiveRows, evidence: Evidence) -> list[str]:
    """A line for each parameter that the cells cover only in part: the share left out, and why."""
    found = []
    for parameter, axes in rows_in(part for cell in cells for part in cell.parts).items():
        axis = max(axes, key=lambda axis: len(axes[axis]) / live[parameter][axis].size)
        alive = live[parameter][axis]
        outside = np.array([i for i in range(alive.size) if i not in axes[axis]], dtype=np.intp)
        if outside.size:
            kind = "columns" if axis else "rows"
            found.append(
                f"{parameter}: {outside.size} of {alive.size} {kind} "
                f"{'is' if outside.size == 1 else 'are'} in no group; "
                + _why_outside(evidence[parameter][axis], outside, alive[outside])
            )
    return found


def _why_outside(rows: RowSums, outside: NDArray[np.intp], alive: NDArray[np.bool_]) -> str:
    """How many rows in no group lack a gradient, and the ⟨w,g⟩ of the others."""
    dead, others = int((~alive).sum()), outside[alive]
    reasons = []
    if dead:
        has, them = ("has", "it") if dead == 1 else ("have", "them")
        who = f"{dead} of these" if others.size else "all of these" if dead > 1 else "it"
        reasons.append(
            f"{who} {has} a gradient in fewer than {ALIVE_PROBES} of {rows.t.shape[0]} probes, "
            f"which is no evidence either way: more or longer inputs may show {them}"
        )
    if others.size:
        t, size = np.abs(rows.t[:, others]), rows.size[:, others]
        defect = np.divide(t, size, out=np.zeros_like(t), where=size > 0.0).max()
        of = f"of the other {others.size} " if dead else ""
        reasons.append(f"{of}|⟨w,g⟩| / (‖w‖‖g‖) is up to {defect:.2g}")
    return "; ".join(reasons) + "."


def _role(parameter: str) -> str:
    """Its role, if its module's name holds words; its own name, if only numbers."""
    words = [part for part in module_of(parameter).split(".") if not part.isdigit()]
    return starred(parameter) if words else parameter


def _range(shares: Sequence[float]) -> str:
    low, high = (f"{100 * share:.2g}%" for share in (min(shares), max(shares)))
    return low if low == high else f"{low} to {high}"
