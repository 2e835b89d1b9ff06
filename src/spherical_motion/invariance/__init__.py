"""What is scale-invariant in a model, proven on the model at hand.

Read `find` for the course of it, then down: `probe` runs the model away from its own weights and
keeps a few sums a row, `slices` finds the blocks whose ⟨w, g⟩ vanish, `propose` makes candidates,
`certify` rescales them, `defect` measures the survivors where the user stands.
"""

from spherical_motion.invariance.find import find_groups, inspect_model
from spherical_motion.invariance.inspection import Inspection
from spherical_motion.invariance.reasons import Uncovered
from spherical_motion.invariance.running import Subject, call_model, run_at, undisturbed, unwrapped

__all__ = [
    "Inspection",
    "Subject",
    "Uncovered",
    "call_model",
    "find_groups",
    "inspect_model",
    "run_at",
    "undisturbed",
    "unwrapped",
]
