"""Audit of some steps: was the step what the optimizer's own rule makes of this gradient?

In: an optimizer and the parameters that a monitor measures. Out: rows of `audit/` and
`audit_steps/` in the run directory.

`when` says which steps are audited. Before such a step `replay` makes the step that the rule of
`rules` makes in float64 of weights, gradient, state and settings; after it, it compares.
Observers look at what else can be seen around the step. `auditor` puts this together for one
optimizer. Nothing here changes what training does, and no failure of an audit ends the recording.
"""

from spherical_motion.monitor.audit.context import AuditContext
from spherical_motion.monitor.audit.observers import OBSERVERS, StepObserver, observers_of
from spherical_motion.monitor.audit.when import AuditTimes

__all__ = ["OBSERVERS", "AuditContext", "AuditTimes", "StepObserver", "observers_of"]
