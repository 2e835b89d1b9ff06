"""The audit of one optimizer: when, what is replayed, what observers see, and where it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch

from spherical_motion.binding import steers_after_step
from spherical_motion.monitor.audit.context import AuditContext
from spherical_motion.monitor.audit.gradients import GradientCopies
from spherical_motion.monitor.audit.observers import StepObserver, observers_of
from spherical_motion.monitor.audit.replay import COLUMN, Replay
from spherical_motion.monitor.audit.when import AuditTimes
from spherical_motion.monitor.sinks import Sink
from spherical_motion.notices import described
from spherical_motion.vocabulary.events import EventKind


class Auditor:
    """Audits steps of one optimizer; a failure ends the audit with an event, and nothing else.

    Args:
        context: the optimizer and its measured parameters.
        sink: takes the results.
        start: number of the next step.

    Attributes:
        idle: whether nothing is to be done about gradients at the step that has begun.
        ended: whether a failure has ended the audit.
    """

    def __init__(self, context: AuditContext, sink: Sink, start: int) -> None:
        self._context, self._sink = context, sink
        self._times = AuditTimes(start)
        self._replay = Replay(context)
        self._copies = GradientCopies(context.parameters)
        self._observers: list[StepObserver] = []
        self._stepped: list[Callable[[], None]] = []
        self._recorded: set[tuple[str, str]] = set()
        self._audits = False
        self.idle = True
        self._why_not = ""
        self._rewritten: list[float] = []
        self.ended = False
        self._failure: Exception | None = None
        try:
            self._observers += observers_of(context)
            self._stepped = [o.stepped for o in self._observers if _acts(o, "stepped")]
            self._expect(start)
        except Exception as error:  # the run begins later, and the event with it
            self._failure = error

    @property
    def writes_gradients(self) -> bool:
        """Whether the optimizer was seen to change gradients within its step."""
        return self._copies.writes

    def before(self, step: int, settings: object, *, closure: bool) -> bool:
        """A step begins; returns whether it is audited, for which the old weights are needed."""
        self._audits = False
        if self.ended:
            return False
        try:
            audits = self._times.takes(step, settings)
        except Exception as error:  # settings may be anything
            self._fail(step, error)
            return False
        self.idle = not audits and not self._copies.wanted and self._failure is None
        if self.idle:
            return False
        self._audits = audits
        self._guard(step, lambda: self._begin(step, closure))
        return self._audits and not self.ended

    def compare_gradients(self, step: int) -> None:
        """A step was taken: see what it did to the gradients. To be called before `gradients`."""
        if not self.idle:
            self._guard(step, self._compare_gradients)

    def gradients(self) -> list[torch.Tensor | None] | None:
        """The gradients before the step, where it changes them; None where it does not."""
        return None if self.idle else self._copies.gradients()

    def after(self, step: int, before: Sequence[torch.Tensor]) -> None:
        """A step was taken and measured; `before` is the weights before it if it is audited."""
        if not self.idle or self._times.expects(step + 1):
            self._guard(step, lambda: self._finish(step, before))
            return
        try:  # at nearly every step, so without the guard's own cost
            for stepped in self._stepped:
                stepped()
        except Exception as error:  # as in the guard
            self._fail(step, error)

    def skipped(self) -> None:
        """The step was not taken after all."""
        self._audits = False
        self._replay.forget()
        self._copies.release()

    def close(self) -> None:
        """End all observers; may be repeated."""
        self._audits, self.ended = False, True
        self._stepped = []
        self._replay.forget()
        for observer in self._observers:
            with contextlib.suppress(Exception):  # one that fails may fail in this as well
                observer.close()

    def _guard(self, step: int, body: Callable[[], None]) -> None:
        if self.ended:
            return
        try:
            with torch.no_grad():
                body()
        except Exception as error:  # training and recording go on without an audit
            self._fail(step, error)

    def _fail(self, step: int, error: Exception) -> None:
        why = described(error)
        self._sink.event(EventKind.AUDIT_ENDED, step=step, why=why)
        self._copies = GradientCopies(self._context.parameters, watched=0)
        self.close()

    def _expect(self, step: int) -> None:
        if self._times.expects(step):
            for observer in self._observers:
                observer.prepare(step)

    def _begin(self, step: int, closure: bool) -> None:
        if self._failure is not None:
            raise self._failure
        optimizer = self._context.optimizer
        unscales = getattr(optimizer, "grad_scale", None) is not None
        self._copies.take(audited=self._audits, changed_within=closure or unscales)
        if not self._audits:
            return
        tool = steers_after_step(optimizer)
        self._why_not = (
            "closure"
            if closure
            else "gradient unscaled in the step"
            if unscales
            else f"{tool} acts after the step"
            if tool
            else ""
        )
        self._replay.before(self._why_not)
        for observer in self._observers:
            observer.before(step)

    def _compare_gradients(self) -> None:
        self._rewritten = self._copies.compare()

    def _finish(self, step: int, before: Sequence[torch.Tensor]) -> None:
        if not self.idle:
            self._copies.release()
        if self._audits:
            self._record(step, before)
        for stepped in self._stepped:
            stepped()
        self._expect(step + 1)

    def _record(self, step: int, before: Sequence[torch.Tensor]) -> None:
        context = self._context
        sums, reasons = self._replay.after(before)
        sums[:, COLUMN["rewritten"]] = self._rewritten
        facts: dict[str, float] = {"counter": np.nan, "taken": np.nan, "grad_norm": np.nan}
        for observer in self._observers:
            for name, column in observer.columns(step).items():
                sums[:, COLUMN[name]] = column
            facts.update(observer.facts(step))
        self._sink.audit(step, np.array(context.numbers, dtype=np.int32), sums)
        skipped = self._why_not or (reasons[0] if all(reasons) else "")
        self._sink.audit_step(step, context.number, **facts, skipped=skipped)
        if not skipped:
            self._record_reasons(step, reasons)

    def _record_reasons(self, step: int, reasons: Sequence[str]) -> None:
        """An event for each reason why parts of a step were not replayed, once a parameter."""
        pairs = zip(self._context.names, reasons, strict=True)
        fresh = [(name, why) for name, why in pairs if why and (name, why) not in self._recorded]
        self._recorded.update(fresh)
        for why in dict.fromkeys(why for _, why in fresh):
            names = [name for name, other in fresh if other == why]
            self._sink.event(EventKind.NOT_REPLAYED, step=step, parameters=names, why=why)


def _acts(observer: StepObserver, name: str) -> bool:
    """Whether an observer does anything in a method."""
    return getattr(observer, name).__func__ is not getattr(StepObserver, name)
