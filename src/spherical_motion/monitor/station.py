"""Hooks on one optimizer: copy the weights before a sampled step, measure after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.binding import InnerSteps, Role, has_stepped, hold, release
from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.cpu import CpuGram
from spherical_motion.measure.layout import lacks_memory
from spherical_motion.measure.preconditioner_table import Preconditioners
from spherical_motion.monitor.audit import AuditContext, Auditor, Fed, Replacements
from spherical_motion.monitor.correlation import CorrelationMeter
from spherical_motion.monitor.preconditioning import PreconditionerLog
from spherical_motion.monitor.run.hooks import StepHook
from spherical_motion.monitor.sampling import Sampling
from spherical_motion.monitor.settings_log import SettingsLog
from spherical_motion.monitor.sinks import Sink
from spherical_motion.monitor.snapshot import Snapshot
from spherical_motion.monitor.targets import Target
from spherical_motion.monitor.widened import Widened
from spherical_motion.records import RunInfo
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.gram import FIELDS
from spherical_motion.vocabulary.groups import InvariantGroup

GG = FIELDS.index("gg")


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
        self._parameters = [targets[name].parameter for name in place]
        self._param_groups = [targets[name].param_group for name in place]
        self._settings = SettingsLog(optimizer, number, info.own_param_groups(number), sink)
        self._measured = Widened(self._parameters)
        self._snapshot = Snapshot(self._measured.tensors)
        self._preconditioners = PreconditionerLog(
            optimizer, sink, tuple(place), self._parameters, self._param_groups, info.products
        )
        self._earlier: Preconditioners | None = None
        self._kernel = CpuGram(
            self._measured.tensors,
            [(place[s.parameter], s.axis, s.start, s.stop) for s in slices],
            products=self._preconditioners.products,
        )
        self._cells = CellMeter(
            self._measured.tensors, place, groups if sampling.cells_every else {}
        )
        self._out = np.empty((len(slices), info.products))
        self._names = tuple(place)
        self._armed, self._begins = False, True
        self._bad = np.zeros(len(slices), dtype=bool)
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
        self._hooks: list[StepHook] = []

    @property
    def nbytes(self) -> int:
        """Memory of the copies of weights and optimizer state, and of updates kept in bursts."""
        kept = 0 if self._correlation is None else self._correlation.nbytes
        copies = self._snapshot.nbytes + self._measured.nbytes
        return copies + self._preconditioners.nbytes + kept

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
            closure = any(value is not None for value in (*args[1:], *given.values()))
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
        self._kernel.close()
        self._cells.close()
        if self._auditor is not None:
            self._auditor.close()

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
        if self._returned:
            self._count_unseen()
        for name, parameter in zip(self._names, self._parameters, strict=True):
            if lacks_memory(parameter):
                raise InvalidArgument(
                    f"parameter {name!r} has no memory: its storage was freed. Watch weights that "
                    "keep their memory from step to step."
                )
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
            self._snapshot.take(self._parameters)
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
        if self._was_skipped():
            why = "the gradient scaler found inf or NaN"
            self._sink.event(EventKind.SKIPPED, step=self.step, why=why)
            if self._auditor is not None:
                self._auditor.skipped()
            return
        if self._auditor is not None:
            self._auditor.compare_gradients(self.step)
        if self._armed:
            with torch.no_grad():
                self._measure()
        self._preconditioners.remember()
        if self._correlation is not None:
            self._correlation.after(self.step)
        if self._auditor is not None:
            self._auditor.after(self.step, self._snapshot.tensors)
        self._returned = False
        self.step += 1

    def _measure(self) -> None:
        # Gradients are read here and not before the step: step(closure) makes them in between.
        maximize = self._settings.maximize
        kept = None if self._auditor is None else self._auditor.gradients()
        found = [p.grad for p in self._parameters] if kept is None else kept
        grads = [
            # A maximizing optimizer minimizes the negative of what it is given.
            -grad if maximize[number] and grad is not None else grad
            for grad, number in zip(found, self._param_groups, strict=True)
        ]
        now = self._preconditioners.after(self.step, grads)
        before = self._snapshot.tensors
        self._measured.read()
        measured, grads = self._measured.tensors, self._measured.gradients(grads)
        self._kernel(measured, before, grads, self._out, now, self._earlier)
        bad = ~np.isfinite(self._out[:, :3]).all(axis=1)
        if (bad & ~self._bad).any():
            slices = self._numbers[bad & ~self._bad].tolist()
            self._sink.event(EventKind.NON_FINITE, step=self.step, slices=slices)
        self._bad = bad
        if self._replacements is not None:
            self._replacements.look(self.step, ~(self._out[:, GG] > 0.0))
        if self._sampling.takes_cells(self.step):
            cells = self._cells(measured, before, grads)
            for group, products in cells.items():
                self._sink.cells(self.step, group, products)
        self._sink.rows(self.step, self._out, self._numbers)

    def _was_skipped(self) -> bool:
        """Whether a fused optimizer skipped the step for the GradScaler; its hooks run anyway."""
        found = getattr(self.optimizer, "found_inf", None)
        return isinstance(found, torch.Tensor) and bool(found.item())


class CellMeter:
    """The six products of every cell of some groups, by one kernel over all their slices.

    Args:
        parameters: the tensors that hold the slices.
        place: index into `parameters` by name.
        groups: the groups by their number in the run.
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        place: Mapping[str, int],
        groups: Mapping[int, InvariantGroup],
    ) -> None:
        cells = [cell for group in groups.values() for cell in group.cells]
        slices = [(place[s.parameter], s.axis, s.start, s.stop) for cell in cells for s in cell]
        self._kernel = CpuGram(parameters, slices)
        self._out = np.empty((len(slices), len(FIELDS)))
        self._first = np.cumsum([0, *(len(cell) for cell in cells)])[:-1]
        ends = np.cumsum([0, *(len(group.cells) for group in groups.values())])
        self._spans = {
            number: slice(ends[i], ends[i + 1])
            for i, (number, group) in enumerate(groups.items())
            if group.cells
        }

    def __call__(
        self,
        after: Sequence[torch.Tensor],
        before: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor | None],
    ) -> dict[int, NDArray[np.float64]]:
        """Products (cells, 6) of each group, by its number."""
        if not self._spans:
            return {}
        self._kernel(after, before, grads, self._out)
        summed = np.add.reduceat(self._out, self._first, axis=0)
        return {number: summed[span] for number, span in self._spans.items()}

    def close(self) -> None:
        """End the kernel's threads."""
        self._kernel.close()
