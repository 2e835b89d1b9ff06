"""What an audit looks at beside the step itself: one observer a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spherical_motion.monitor.audit.around.looks import (
    CounterObserver,
    EpsilonObserver,
    GlobalNormObserver,
    ReplacedObserver,
)
from spherical_motion.monitor.audit.context import AuditContext
from spherical_motion.monitor.audit.observing import StepObserver

OBSERVERS: list[Callable[[AuditContext], StepObserver]] = [
    EpsilonObserver,
    CounterObserver,
    GlobalNormObserver,
    ReplacedObserver,
]
"""Makers of the observers of each optimizer, in the order in which they are called."""


def observers_of(context: AuditContext) -> Sequence[StepObserver]:
    """The observers of one optimizer."""
    return [make(context) for make in OBSERVERS]
