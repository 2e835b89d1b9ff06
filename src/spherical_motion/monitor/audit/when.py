"""Which steps are audited."""

from __future__ import annotations

FIRST = 20
"""Steps at the beginning of a run."""

AFTER_CHANGE = 3
"""Steps after a change of settings that begins a stage, and after a resume."""

STEADY = 20
"""Steps without a change before a change counts as the beginning of a stage."""

PERIOD, NEIGHBOURS = 1000, 2
"""So many neighbours every so many steps."""

SOONER = (50, 100, 200, 500)
"""Steps before the first period that begin neighbours, too: most faults begin early, and the first
steps alone, whose gradients are large, say little of a short run."""


SOON = frozenset(first + i for first in SOONER if first < PERIOD for i in range(NEIGHBOURS))


class AuditTimes:
    """Audits the first steps of a run, a few after each change of settings, and some in between.

    A change within a varying stage, where settings have changed less than `STEADY` steps ago, adds
    no audit.

    Args:
        start: the step at which recording begins or goes on; after it come `AFTER_CHANGE` audited
            steps.

    >>> times = AuditTimes(0)
    >>> audited = [step for step in range(5000) if times.takes(step, settings=step >= 2500)]
    >>> audited[:2], audited[19:24], audited[-6:]
    ([0, 1], [19, 50, 51, 100, 101], [2501, 2502, 3000, 3001, 4000, 4001])
    """

    def __init__(self, start: int) -> None:
        self._until = start + AFTER_CHANGE if start > 0 else 0
        self._settings: object = None
        self._changed_at: int | None = None

    def expects(self, step: int) -> bool:
        """Whether `step` will be audited, unless settings change at it, which may add it."""
        # Asked at every step, hence no loop.
        return step < FIRST or step < self._until or step % PERIOD < NEIGHBOURS or step in SOON

    def takes(self, step: int, settings: object) -> bool:
        """Whether `step`, which begins now with these settings, is audited; to be asked at each.

        Settings that are the same object as at the step before are not compared.
        """
        if settings is not self._settings and settings != self._settings:
            known = self._settings is not None
            if known and (self._changed_at is None or step - self._changed_at >= STEADY):
                self._until = step + AFTER_CHANGE
            self._settings = settings
            self._changed_at = step if known else None
        return self.expects(step)
