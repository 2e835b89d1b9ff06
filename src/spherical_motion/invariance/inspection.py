"""What an inspection of a model found, and what it cost."""

from __future__ import annotations

import dataclasses

from spherical_motion.invariance.reasons import Uncovered
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
