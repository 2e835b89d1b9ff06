"""Hooks on one optimizer: copy the weights before a sampled step, measure after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.binding import InnerSteps, Role, has_stepped, hold, release
from spherical_motion.measure import RowSet, backend_of
from spherical_motion.measure.preconditioner_table import Preconditioners
from spherical_motion.monitor.audit import AuditContext, Auditor, Fed, Replacements
from spherical_motion.monitor.cells import CellRows
from spherical_motion.monitor.correlation import CorrelationMeter
from spherical_motion.monitor.preconditioning import PreconditionerLog
from spherical_motion.monitor.run.hooks import StepHook
from spherical_motion.monitor.run.traces import Traces
from spherical_motion.monitor.sampling import Sampling
from spherical_motion.monitor.settings_log import SettingsLog
from spherical_motion.monitor.sinks import Sink
from spherical_motion.monitor.targets import Target
from spherical_motion.records import RunInfo
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.gram import FIELDS

GG = FIELDS.index("gg")

SLICES, CELLS = 0, 1
"""The rows that the backend measures: the slices of the groups, and their cells."""


class Station:
    """Hooks on one optimizer that measure the slices it steps.

    Args:
        optimizer: hooked through `register_step_pre_hook` and `register_step_post_hook`.
        number: of the optimizer in the run.
        info: the groups and slices of the run.
        targets: the parameters of these slices, by name.
        sampling: which steps to measure.
        guarded: runs a hook's body; must not let an exception out.
        sink: takes the results.
        correlation: measures the correlation of updates in bursts, or None.
        audited: the model, all optimizers and which norm layers parameters feed, to audit steps of
            this one; None for no audit.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        number: int,
        info: RunInfo,
        targets: Mapping[str, Target],
        sampling: Sampling,
        guarded: Callable[[Callable[[], None]], None],
        sink: Sink,
        correlation: CorrelationMeter | None = None,
        audited: tuple[torch.nn.Module, Sequence[torch.optim.Optimizer], Fed | str] | None = None,
    ) -> None:
        self.step = 0
        self.optimizer = optimizer
        self._sampling, self._guarded, self._sink = sampling, guarded, sink
        self._correlation = correlation
        own = [i for i, s in enumerate(info.slices) if targets[s.parameter].optimizer == number]
        slices = [info.slices[i] for i in own]
        place = {name: i for i, name in enumerate(dict.fromkeys(s.parameter for s in slices))}
        groups = {i: group for i, group in enumerate(info.groups) if group.parameters[0] in place}
        self._numbers = np.array(own, dtype=np.int32)
        self._is_all = len(own) == len(info.slices)
        self._parameters = [targets[name].parameter for name in place]
        self._param_groups = [targets[name].param_group for name in place]
        self._settings = SettingsLog(optimizer, number, info.own_param_groups(number), sink)
        self._preconditioners = PreconditionerLog(
            optimizer, sink, tuple(place), self._parameters, self._param_groups, info.products
        )
        self._earlier: Preconditioners | None = None
        rows = [
            RowSet(
                [(place[s.parameter], s.axis, s.start, s.stop) for s in slices],
                self._preconditioners.products,
            )
        ]
        self._cells = CellRows(place, groups) if sampling.cells_every else None
        if self._cells is not None:
            rows.append(RowSet(self._cells.slices))
        self._backend = backend_of(self._parameters, rows)
        # A product that is not measured stays NaN.
        self._out = np.full((len(slices), info.products), np.nan)
        self._names = tuple(place)
        self._armed, self._rolls, self._begins = False, False, True
        self._bad = np.zeros(len(slices), dtype=bool)
        self._any_bad = self._any_silent = False
        self._context = self._replacements = None
        if audited is not None:
            model, optimizers, fed = audited
            numbers = {name: i for i, name in enumerate(info.parameters)}
            self._context = AuditContext(
                *(model, optimizers, number, self._names, [numbers[name] for name in place]),
                *(self._parameters, self._param_groups, fed),
            )
            self._replacements = Replacements(self._context, sink)
        self._auditor: Auditor | None = None
        self._returned = self._after_gap = self._gap_recorded = False
        self._traces: Traces | None = None
        self._hooks: list[StepHook] = []

    @property
    def nbytes(self) -> int:
        """Memory of the copies of weights and optimizer state, and of updates kept in bursts."""
        kept = 0 if self._correlation is None else self._correlation.nbytes
        return self._backend.nbytes + self._preconditioners.nbytes + kept

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The watched parameters that this optimizer steps, by name."""
        return dict(zip(self._names, self._parameters, strict=True))

    @property
    def products(self) -> int:
        """How many products the kernel measures; the others are NaN."""
        return self._preconditioners.products

    def attach(self, step: int, where: str) -> None:
        """Hook the optimizer, whose next step is number `step`; `where` is the run's directory."""
        self.step = step
        hold(self.optimizer, Role.WATCH, f"monitor that records to {where}")
        if self._context is not None:
            self._auditor = Auditor(self._context, self._sink, step)

        inner = InnerSteps(self.optimizer)

        def before(_: object, args: Sequence[object], given: Mapping[str, object]) -> None:
            # torch passes the optimizer itself as the first argument.
            closure = (len(args) > 1 or bool(given)) and any(
                value is not None for value in (*args[1:], *given.values())
            )
            self._guarded(lambda: None if inner.now() else self._before(closure))

        def after(*_: object) -> None:
            self._guarded(lambda: None if inner.now() else self._after())

        def returned(*_: object) -> None:
            self._guarded(self._note_return)

        register = self.optimizer.register_step_post_hook
        self._hooks = [
            StepHook(self.optimizer.register_step_pre_hook, before),
            StepHook(register, after),
            StepHook(register, returned, first=True),
        ]

    def detach(self) -> None:
        """Remove the hooks and end the threads; may be repeated."""
        for hook in self._hooks:
            hook.remove()
        if self._hooks:
            release(self.optimizer, Role.WATCH)
        self._hooks = []
        with contextlib.suppress(Exception):  # closing must not end training
            self._record(wait=True)
        self._backend.close()
        if self._auditor is not None:
            self._auditor.close()

    def drop(self) -> None:
        """Let its hooks do nothing from now on; to be called when no optimizer is left."""
        for hook in self._hooks:
            hook.drop()

    def _note_return(self) -> None:
        """The step has changed the weights; `_after` comes later, if no other hook raises."""
        self._returned = not self._was_skipped()

    def _count_unseen(self) -> None:
        """Count a step after which another hook raised, so that this one's was not called."""
        if not self._gap_recorded:
            self._gap_recorded = True
            why = "another hook on the optimizer's steps raised before the monitor's"
            self._sink.event(EventKind.NOT_MEASURED, step=self.step, why=why)
        if self._auditor is not None:
            self._auditor.skipped()
        if self._correlation is not None:
            self._correlation.missed(self.step)
        self._returned, self._after_gap = False, True
        self.step += 1

    def _before(self, closure: bool) -> None:
        # A hook that another library has put to the front may raise before any of the monitor's.
        if self._returned or (self._traces is not None and self._traces.tell_of_step()):
            self._count_unseen()
        self._traces = Traces(self.optimizer, self._parameters)
        self._settings.follow(self.step)
        if self._begins:
            self._begins = False
            if self.step == 0:
                self._note_state()
        self._armed = self._sampling.takes(self.step)
        audited = self._auditor is not None and self._auditor.before(
            self.step, self._settings.now, closure=closure
        )
        if self._armed or audited:
            self._backend.keep(self._parameters)
        # An audit needs the old weights after the step.
        self._rolls = not audited and self._sampling.takes(self.step + 1)
        if self._armed:
            # After a gap, the settings of the step before are not known.
            self._earlier = None if self._after_gap else self._preconditioners.before()
        self._after_gap = False
        if self._correlation is not None:
            self._correlation.before(self.step)

    def _note_state(self) -> None:
        """Say which parameters the optimizer has stepped before the first step seen here."""
        state = self.optimizer.state
        names = zip(self._names, self._parameters, strict=True)
        # Not state[parameter], which would make an entry where there is none.
        old = [name for name, parameter in names if has_stepped(state.get(parameter, {}))]
        if old:
            self._sink.event(EventKind.HAD_STATE, step=self.step, parameters=old)

    def _after(self) -> None:
        self._traces = None
        if self._was_skipped():
            why = "the gradient scaler found inf or NaN"
            self._sink.event(EventKind.SKIPPED, step=self.step, why=why)
            if self._auditor is not None:
                self._auditor.skipped()
            return
        auditor, kept = self._auditor, None
        if auditor is not None and not auditor.idle:
            auditor.compare_gradients(self.step)
            kept = auditor.gradients()
        if self._armed:
            with torch.no_grad():
                self._measure(kept)
        self._preconditioners.remember()
        if self._correlation is not None:
            self._correlation.after(self.step)
        if auditor is not None:
            auditor.after(self.step, self._backend.before)
        self._returned = False
        self.step += 1

    def _measure(self, kept: Sequence[torch.Tensor | None] | None) -> None:
        # Gradients are read here and not before the step: step(closure) makes them in between.
        grads = [p.grad for p in self._parameters] if kept is None else kept
        maximize = self._settings.maximize
        if True in maximize:
            grads = [
                # A maximizing optimizer minimizes the negative of what it is given.
                -grad if maximize[number] and grad is not None else grad
                for grad, number in zip(grads, self._param_groups, strict=True)
            ]
        if self._cells is not None and self._sampling.takes_cells(self.step):
            self._backend.measure(self.step, self._parameters, grads, which=CELLS)
        now = self._preconditioners.after(self.step, grads)
        self._backend.measure(
            self.step, self._parameters, grads, now, self._earlier, roll=self._rolls
        )
        self._record()

    def _record(self, *, wait: bool = False) -> None:
        """Pass on the sums that have arrived."""
        for step, which, products, is_plain in self._backend.read(wait=wait):
            if which == CELLS and self._cells is not None:
                for group, summed in self._cells.summed(products).items():
                    self._sink.cells(step, group, summed)
            else:
                self._out[:, : products.shape[1]] = products
                if not is_plain or self._any_bad or self._any_silent:
                    self._look(step, self._out)
                self._sink.rows(step, self._out, None if self._is_all else self._numbers)

    def _look(self, step: int, out: NDArray[np.float64]) -> None:
        """Note slices that are not finite, and those that have lost their gradient."""
        bad = ~np.isfinite(out[:, :3]).all(axis=1)
        if (bad & ~self._bad).any():
            slices = self._numbers[bad & ~self._bad].tolist()
            self._sink.event(EventKind.NON_FINITE, step=step, slices=slices)
        self._bad, self._any_bad = bad, bool(bad.any())
        if self._replacements is not None:
            silent = ~(out[:, GG] > 0.0)
            self._any_silent = bool(silent.any())
            self._replacements.look(step, silent)

    def _was_skipped(self) -> bool:
        """Whether a fused optimizer skipped the step for the GradScaler; its hooks run anyway."""
        found = getattr(self.optimizer, "found_inf", None)
        return isinstance(found, torch.Tensor) and bool(found.item())
