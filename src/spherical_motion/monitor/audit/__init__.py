"""Audit of some steps: was the step what the optimizer's own rule makes of this gradient?

In: an optimizer and the parameters that a monitor measures. Out: rows of `audit/` and
`audit_steps/` in the run directory.

`when` says which steps are audited. Before such a step `replay` makes the step that the rule of the
`table` makes of weights, gradient, state and settings, in float64; after it, it compares.
`gradients` sees whether the step writes gradients, and observers look at what else can be seen.
`auditor` puts this together for one optimizer. Nothing here changes what training does, and no
failure of an audit ends the recording.
"""

from spherical_motion.monitor.audit.around.left_behind import Replacements
from spherical_motion.monitor.audit.around.norm_layers import NO_INPUTS, Fed, fed_or_why
from spherical_motion.monitor.audit.around.norm_names import named_norms
from spherical_motion.monitor.audit.around.unstepped import Unstepped, unstepped_of
from spherical_motion.monitor.audit.auditor import Auditor
from spherical_motion.monitor.audit.context import AuditContext
from spherical_motion.monitor.audit.observers import OBSERVERS, StepObserver, observers_of
from spherical_motion.monitor.audit.table import register_rule
from spherical_motion.monitor.audit.when import AuditTimes

__all__ = [
    "NO_INPUTS",
    "OBSERVERS",
    "AuditContext",
    "AuditTimes",
    "Auditor",
    "Fed",
    "Replacements",
    "StepObserver",
    "Unstepped",
    "fed_or_why",
    "named_norms",
    "observers_of",
    "register_rule",
    "unstepped_of",
]
