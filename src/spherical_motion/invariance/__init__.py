"""Which weights of a model are scale-invariant, proven on the model at hand.

In: a model and example inputs. Out: certified groups, and a reason for each other parameter. Read
`find` for the course of it. The folders, from the bottom up: `running` runs the model at other
weights, `graph` follows parameters into norms, `search` proposes symmetries from a few sums a row,
`proof` rescales them and measures their defects, `reasons` explains the rest.
"""

from spherical_motion.invariance.find import Inspection, find_groups, inspect_model
from spherical_motion.invariance.graph import NormFed, norms_fed
from spherical_motion.invariance.proof import covered_entries, rescaled
from spherical_motion.invariance.reasons import Uncovered, Why, closest, why_nothing
from spherical_motion.invariance.running import (
    NormListener,
    Subject,
    call_model,
    run_at,
    undisturbed,
    unwrapped,
)
from spherical_motion.invariance.search import Symmetry

__all__ = [
    "Inspection",
    "NormFed",
    "NormListener",
    "Subject",
    "Symmetry",
    "Uncovered",
    "Why",
    "call_model",
    "closest",
    "covered_entries",
    "find_groups",
    "inspect_model",
    "norms_fed",
    "rescaled",
    "run_at",
    "undisturbed",
    "unwrapped",
    "why_nothing",
]
