"""Read each parameter's preconditioner around a step, and note once where there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from spherical_motion.binding import StateReader, preconditioner_rule
from spherical_motion.measure.preconditioner import Preconditioner
from spherical_motion.measure.preconditioner_table import Preconditioners
from spherical_motion.measure.snapshot import Snapshot, copy_all, is_narrow
from spherical_motion.monitor.sinks import Sink
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS
from spherical_motion.vocabulary.hyperparameters import ParamGroup


class PreconditionerLog:
    """The preconditioners of one optimizer's parameters; what has none becomes an event.

    Args:
        optimizer, sink: as for `Station`.
        names, parameters, param_groups: the parameters, and for each the index into
            `optimizer.param_groups`.
        products: how many products the run records.

    Attributes:
        products: how many of them the kernel must measure here: 6 where P is 1 (wp
            follows from the six) or not known.
        nbytes: memory of the copies of the state.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        sink: Sink,
        names: Sequence[str],
        parameters: Sequence[torch.Tensor],
        param_groups: Sequence[int],
        products: int,
    ) -> None:
        self._optimizer, self._sink = optimizer, sink
        self._names, self._parameters, self._param_groups = names, parameters, param_groups
        known = preconditioner_rule(optimizer)
        if callable(known) and any(is_narrow(parameter) for parameter in parameters):
            known = "weights of half precision are measured without it"
        self._reader = None
        if callable(known) and products > len(FIELDS):
            with_average = products == len(PRODUCTS)
            self._reader = StateReader(
                optimizer, known, parameters, param_groups, with_average=with_average
            )
        # A rule that is not known is noted at the first measured step, as all else.
        self._reason = known if isinstance(known, str) and products > len(FIELDS) else ""
        self._recorded: set[str] = set()
        self.products = products if self._reader else len(FIELDS)
        with_state = parameters if self.products == len(PRODUCTS) else ()
        copies = Snapshot(with_state), Snapshot(with_state)
        self.nbytes = sum(copy.nbytes for copy in copies)
        self._state, self._average = (copy.tensors for copy in copies)
        # Of each parameter, the settings by which it was stepped last: P of the step before has
        # the coefficients of then, which a schedule has changed since.
        self._stepped_by: list[ParamGroup | None] = [None] * len(parameters)

    def before(self) -> Preconditioners | None:
        """Those of the step before, with copies of their state; None unless ws is measured."""
        if self._reader is None or self.products < len(PRODUCTS):
            return None
        found: list[Preconditioner | None] = []
        copies: list[torch.Tensor] = []
        originals: list[torch.Tensor] = []
        for i, (state, average) in enumerate(zip(self._state, self._average, strict=True)):
            read = self._reader.read_one(i, self._stepped_by[i])
            if isinstance(read, str):
                # There is no state before the first step: the average is zero, and so is ws.
                found.append(Preconditioner.flat(0.0, average=average.zero_()))
                continue
            if read.average is None:
                found.append(None)
                continue
            copies.append(average)
            originals.append(read.average)
            if read.state is not None:
                copies.append(state)
                originals.append(read.state)
            kept = None if read.state is None else state
            found.append(dataclasses.replace(read, state=kept, average=average))
        if copies:
            copy_all(copies, originals)
        return found

    def remember(self) -> None:
        """Keep the settings of the step just taken, measured or not, for the next `before`."""
        if self.products < len(PRODUCTS):
            return
        settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self._optimizer.param_groups
        ]
        for i, parameter in enumerate(self._parameters):
            # A parameter without a gradient was passed by.
            if parameter.grad is not None:
                self._stepped_by[i] = settings[self._param_groups[i]]

    def after(self, step: int, grads: Sequence[torch.Tensor | None]) -> Preconditioners | None:
        """Those of step number `step`, which was just taken; None if there is none at all.

        What is returned holds until the next call.
        """
        if self._reader is None:
            if self._reason:
                self._record(step, dict.fromkeys(self._names, self._reason))
            self._reason = ""
            return None
        missing = self._reader.read()
        for i, grad in enumerate(grads):
            if grad is None:
                self._reader.table.drop(i)
                missing[i] = "it had no gradient"
        if missing:
            self._record(step, {self._names[i]: missing[i] for i in sorted(missing)})
        return self._reader.table

    def _record(self, step: int, reasons: dict[str, str]) -> None:
        """Record an event for each reason, once for each parameter."""
        fresh = {name: why for name, why in reasons.items() if name not in self._recorded}
        self._recorded.update(fresh)
        for why in dict.fromkeys(fresh.values()):
            names = [name for name in fresh if fresh[name] == why]
            self._sink.event(EventKind.NO_PRECONDITIONER, step=step, parameters=names, why=why)
