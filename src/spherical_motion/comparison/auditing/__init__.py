"""The audit of a run in words: what was found of each group, and what of it asks for action.

In: `Records`. Out: an `Audit` of `AuditRow`s with `Finding`s. The numbers are those of
`laws.audited` and `laws.planned`.
"""

from spherical_motion.comparison.auditing.result import Audit, AuditRow, audit
from spherical_motion.comparison.auditing.words import Finding

__all__ = ["Audit", "AuditRow", "Finding", "audit"]
