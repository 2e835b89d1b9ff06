"""What each law says of recorded steps, as numbers; nothing here judges.

In: the `Motion` of one group, or of all, and a stage. Out: one frozen record a law, with NaN where
the recorded steps do not determine a number.
"""

from spherical_motion.comparison.laws.assumed import Assumed, assumed_of
from spherical_motion.comparison.laws.audited import AuditedSteps, audited_steps
from spherical_motion.comparison.laws.continuity import Continuity, continuity_of
from spherical_motion.comparison.laws.global_norm import clipped_norm
from spherical_motion.comparison.laws.gradient import Silence, Stale, silence, stale
from spherical_motion.comparison.laws.mending import Mend, mend
from spherical_motion.comparison.laws.planned import Explanation, Planned, planned_rates
from spherical_motion.comparison.laws.radial_law import (
    HiddenBeside,
    RadialLaw,
    RadialPulls,
    hidden_beside,
    radial_law_of,
    radial_pulls,
)
from spherical_motion.comparison.laws.scale_change import ScaleChange, scale_changes
from spherical_motion.comparison.laws.settings_fit import Fit
from spherical_motion.comparison.laws.spike import Spike, spike_of
from spherical_motion.comparison.laws.step_fit import StepFit
from spherical_motion.comparison.laws.step_law import StepLaw, step_law_of

__all__ = [
    "Assumed",
    "assumed_of",
    "AuditedSteps",
    "Explanation",
    "Planned",
    "StepFit",
    "audited_steps",
    "clipped_norm",
    "planned_rates",
    "Continuity",
    "Fit",
    "HiddenBeside",
    "Mend",
    "RadialLaw",
    "RadialPulls",
    "ScaleChange",
    "Silence",
    "Spike",
    "Stale",
    "StepLaw",
    "continuity_of",
    "hidden_beside",
    "mend",
    "radial_law_of",
    "radial_pulls",
    "scale_changes",
    "silence",
    "spike_of",
    "stale",
    "step_law_of",
]
