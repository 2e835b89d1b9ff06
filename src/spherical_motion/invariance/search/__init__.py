"""The search for symmetries: arithmetic on row sums, no model.

In: the row sums of a few random probes (`Evidence`). Out: `Symmetry` objects whose Σ p⟨w, g⟩
vanishes in every probe, the finest first, and suspects whose sums are merely small.
"""

from spherical_motion.invariance.search.proposals import (
    ALIVE_PROBES,
    gathered,
    live_rows,
    proposed,
    shift_rows,
)
from spherical_motion.invariance.search.roles import starred
from spherical_motion.invariance.search.slices import LiveRows, without_noise
from spherical_motion.invariance.search.symmetry import (
    Pattern,
    Symmetry,
    by_pattern,
    grouped,
    rows_in,
    totals_over,
)
