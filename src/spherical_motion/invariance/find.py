"""Which weights of a model are scale-invariant: probe, search, certify, measure."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from spherical_motion.errors import InvalidArgument, NoInvariantGroup
from spherical_motion.invariance.graph import NormObserver
from spherical_motion.invariance.proof import (
    GRANULARITIES,
    INFLATION,
    Base,
    Certificate,
    Defects,
    Granularity,
    certified,
    confirmed_suspects,
    covered_entries,
    groups_of,
    measured_defects,
)
from spherical_motion.invariance.reasons import (
    Findings,
    Uncovered,
    equivalent_streams,
    large_epsilons,
    not_examined,
    partial_cover,
    reason_for,
    what_joins,
    why_nothing,
)
from spherical_motion.invariance.running import Evidence, Prober, precision_of
from spherical_motion.invariance.search import gathered, live_rows, proposed, shift_rows
from spherical_motion.vocabulary import InvariantGroup


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
    """Groups of a model, and the evidence beside them.

    Attributes:
        groups: what was found and certified, kind "scale", in the order of the model's
            parameters. Two of them may share a parameter, as a bias that joins both its own
            layer and the residual stream.
        rescalings: certified groups of kind "rescale": slices that trade scale among each other.
        uncovered: parameters in no group, each with a reason.
        coverage: share of the entries of all floating parameters that lie in a group.
        warnings: what weakens the result on these inputs.
        notes: what else is worth knowing: a large ε, equivalent choices, the part of a bias.
        bit_identical: multiplying every group by powers of two left every bit of the outputs as
            it was (with the norm layers' ε removed).
        passes: forward and backward passes spent.
        forwards: forward passes spent in addition.
        backwards: backward passes spent in addition, on the forward at the real weights: the error
            of a defect needs several random gradients.
        repairs: how many of `passes` were beyond the plan (probes, one certificate, the real
            weights): a certificate repeated, an ε that could not be removed, zero gains.
    """

    groups: tuple[InvariantGroup, ...]
    rescalings: tuple[InvariantGroup, ...]
    uncovered: tuple[Uncovered, ...]
    coverage: float
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    bit_identical: bool
    passes: int
    forwards: int
    backwards: int
    repairs: int


def find_groups(
    model: nn.Module,
    example_inputs: object,
    granularity: Granularity = "layer",
    *,
    dtype: torch.dtype = torch.float64,
) -> tuple[InvariantGroup, ...]:
    """The scale-invariant weights of a model, proven on the model itself.

    A group is invariant if multiplying it by any k > 0 leaves the outputs as they are, which
    implies ⟨w, g⟩ = 0 (lemma 1, Wan et al. 2020). Names and types of layers do not matter:
    random probes propose, a finite rescaling certifies.

    The model keeps its train and eval flags (a batch norm in eval mode makes nothing invariant)
    and is left unchanged, random generators included.

    Args:
        model: the network; `torch.compile`, DDP and DataParallel wrappers are looked through.
        example_inputs: a tensor is passed as `model(x)`, a tuple as `model(*x)`, a mapping as
            `model(**x)`. A few dozen real samples; integers are left as they are.
        granularity: "layer" gives one group a parameter, with its finest invariants in `.cells`;
            "filter" one group a cell.
        dtype: of the probes, torch.float64 or torch.float32.

    Returns:
        Disjoint groups in the order of the model's parameters, never empty.

    Raises:
        NoInvariantGroup: the model runs and nothing in it is scale-invariant.
        ModelError: the model fails on these inputs, or its norm layers have too few values.
        InvalidArgument: an unknown granularity or dtype.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    >>> [(g.name, len(g.cells), g.numel) for g in find_groups(net, torch.randn(8, 1, 4, 4))]
    [('0', 4, 36)]
    """
    inspection = inspect_model(model, example_inputs, granularity, dtype=dtype)
    if not inspection.groups:
        raise NoInvariantGroup(_nothing_found(model, inspection, dtype))
    return inspection.groups


@torch.inference_mode(False)
def inspect_model(
    model: nn.Module,
    example_inputs: object,
    granularity: Granularity = "layer",
    *,
    dtype: torch.dtype = torch.float64,
) -> Inspection:
    """As `find_groups`, with the evidence: cost, coverage, reasons, warnings.

    Does not raise when nothing is found; `.groups` is empty then.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    >>> inspection = inspect_model(net, torch.randn(8, 3))
    >>> [u.parameter for u in inspection.uncovered], inspection.bit_identical
    (['0.bias', '1.weight', '1.bias'], True)
    """
    if granularity not in GRANULARITIES:
        raise InvalidArgument(
            f"find_groups(granularity=...) must be one of {GRANULARITIES}, got {granularity!r}."
        )
    precision = precision_of(dtype)
    prober = Prober(model, example_inputs, precision)

    first, observer = NormObserver(), NormObserver()
    evidence, reference = _probed(prober, first)
    live = live_rows(evidence, precision)

    last = precision.probes - 1
    proposals, suspects = proposed(evidence, live, precision.zero)
    inflated = confirmed_suspects(prober, suspects, last, evidence)
    order = {name: position for position, name in enumerate(evidence)}
    candidates = sorted([*proposals, *inflated], key=lambda c: order[c.parts[0].parameter])

    certificate, defects = Certificate(), Defects({}, {})
    if candidates:
        base = Base(last, tuple(inflated), INFLATION)
        shifts = shift_rows(evidence, live)
        certificate = certified(prober, candidates, base, None if inflated else reference, shifts)
    if certificate.cells:
        defects = measured_defects(prober, certificate.cells, observer)
    scales = [cell for cell in certificate.cells if cell.kind == "scale"]
    rescales = [cell for cell in certificate.cells if cell.kind == "rescale"]
    shape = prober.subject.shape
    groups = groups_of(scales, defects, shape, granularity)
    rescalings = groups_of(rescales, defects, shape, granularity)
    slices = [part for group in groups for part in group.slices]
    covered = {part.parameter for part in slices}
    findings = Findings(
        evidence=evidence,
        live=live,
        dropped={part.parameter for cell in certificate.dropped for part in cell.parts},
        rescalings=groups_of(rescales, defects, shape, "layer"),
        course=first.course,
        subject=prober.subject,
        precision=precision,
    )
    planned = precision.probes + bool(candidates) + bool(certificate.cells)
    return Inspection(
        groups=groups,
        rescalings=rescalings,
        uncovered=tuple(reason_for(name, findings) for name in evidence if name not in covered),
        coverage=covered_entries(slices, shape) / max(1, prober.subject.entries),
        warnings=(
            *not_examined(prober.subject.unexamined),
            *first.summary(),
            *certificate.warnings(),
            *defects.warnings,
            *partial_cover(scales, live, evidence),
        ),
        notes=(
            *large_epsilons(observer.course),
            *what_joins(scales, defects.rows),
            *equivalent_streams(groups, rescalings),
        ),
        bit_identical=certificate.bit_identical,
        passes=prober.passes,
        forwards=prober.forwards,
        backwards=prober.backwards,
        repairs=prober.passes - planned,
    )


def _probed(prober: Prober, observer: NormObserver) -> tuple[Evidence, tuple[Tensor, ...]]:
    """Row sums at every probe, and the outputs at the last; the observer sees the first."""
    rows: list[Evidence] = []
    outputs: tuple[Tensor, ...] = ()
    for seed in range(prober.precision.probes):
        probe = prober.backward(
            prober.subject.perturbed(seed),
            seed=seed,
            norm_eps=prober.precision.norm_eps,
            observer=observer if seed == 0 else None,
        )
        rows.append(probe.rows)
        outputs = probe.outputs
    return gathered(rows, prober.precision), outputs


def _nothing_found(model: nn.Module, inspection: Inspection, dtype: torch.dtype) -> str:
    why, remedy = why_nothing(inspection.uncovered)
    seen = "; ".join(f"{u.parameter}: {u.reason}" for u in inspection.uncovered[:5])
    more = len(inspection.uncovered) - 5
    return (
        f"{type(model).__name__} has no scale-invariant weights: {why}. {remedy}. "
        f"Expected at least one group, found none in {inspection.passes} passes in {dtype} over "
        f"{len(inspection.uncovered)} parameters. Seen: "
        f"{seen}{f'; and {more} more' if more > 0 else ''}. "
        + "".join(f"{warning} " for warning in inspection.warnings)
        + "`smd inspect` lists every parameter with its reason; smd.watch(groups='plain') watches "
        "what is not invariant."
    )
