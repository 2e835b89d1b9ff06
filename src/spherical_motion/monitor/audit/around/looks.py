"""What stands around an audited step: norm layers, step count, global norm, replaced tensors."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spherical_motion.monitor.audit.around.all_gradients import global_norm
from spherical_motion.monitor.audit.around.left_behind import replaced
from spherical_motion.monitor.audit.around.norm_layers import NormLayers
from spherical_motion.monitor.audit.around.step_counter import StepCounter
from spherical_motion.monitor.audit.context import AuditContext
from spherical_motion.monitor.audit.observing import StepObserver

Columns = Mapping[str, NDArray[np.float64]]


class EpsilonObserver(StepObserver):
    """Columns `epsilon` and `eval_mode`: hooks on norm layers in the forward passes before."""

    def __init__(self, context: AuditContext) -> None:
        self._names = context.names
        me = weakref.ref(self)
        self._layers = NormLayers(
            context.model, context.fed, context.names, wanted=lambda: me() is not None
        )
        self._found = self._unknown()

    def prepare(self, step: int) -> None:
        """Hook the layers."""
        self._layers.arm()

    def before(self, step: int) -> None:
        """Take the hooks off; what was heard is of this step."""
        self._found = self._heard()

    def columns(self, step: int) -> Columns:
        """What was heard; a closure runs the model in the step itself, without hooks."""
        return {"epsilon": self._found[:, 0], "eval_mode": self._found[:, 1]}

    def stepped(self) -> None:
        """Take the hooks off if this step was not audited after all."""
        if self._layers.armed:
            self._layers.disarm()

    def close(self) -> None:
        """Take the hooks off."""
        self._layers.disarm()

    def _heard(self) -> NDArray[np.float64]:
        if not self._layers.armed:
            return self._unknown()
        found = [self._layers.read(name) for name in self._names]
        self._layers.disarm()
        return np.array(found).reshape(-1, 2)

    def _unknown(self) -> NDArray[np.float64]:
        return np.full((len(self._names), 2), np.nan)


class CounterObserver(StepObserver):
    """Columns and facts `counter` and `taken`, both with the audited step itself.

    The facts are those of the parameter whose two counts differ most; of alike ones, of the one
    with the most steps.
    """

    def __init__(self, context: AuditContext) -> None:
        self._counter = StepCounter(context.optimizer, context.parameters)
        self._audited = self._counted = False

    def before(self, step: int) -> None:
        """Look whether the optimizer has state."""
        self._counter.begins()
        self._audited, self._counted = True, False

    def columns(self, step: int) -> Columns:
        """Both counts of each parameter."""
        counter, taken = self._read()
        return {"counter": counter, "taken": taken}

    def facts(self, step: int) -> Mapping[str, float]:
        """Both counts of one parameter."""
        counter, taken = self._read()
        apart = np.nan_to_num(np.abs(counter - taken), nan=-1.0)
        place = np.lexsort((np.nan_to_num(taken, nan=-1.0), apart))[-1:]
        found = [float(values[place[0]]) if place.size else np.nan for values in (counter, taken)]
        return dict(zip(("counter", "taken"), found, strict=True))

    def stepped(self) -> None:
        """Count the step."""
        if not (self._audited and self._counted):
            self._counter.stepped()
        self._audited, self._counted = False, True

    def _read(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Whether `stepped` has been called for this step does not matter."""
        if not self._counted:
            self._counter.stepped()
        self._counted = True
        return self._counter.read()


class GlobalNormObserver(StepObserver):
    """Fact `grad_norm`, before the step: afterwards the loop may have cleared the gradients."""

    def __init__(self, context: AuditContext) -> None:
        self._optimizers = context.optimizers
        self._norm = float("nan")

    def before(self, step: int) -> None:
        """Sum up all gradients."""
        self._norm = global_norm(self._optimizers)

    def facts(self, step: int) -> Mapping[str, float]:
        """The norm."""
        return {"grad_norm": self._norm}


class ReplacedObserver(StepObserver):
    """Column `replaced`."""

    def __init__(self, context: AuditContext) -> None:
        self._context = context

    def columns(self, step: int) -> Columns:
        """1 for a tensor that the model or the optimizer no longer holds, else 0."""
        at = self._context
        found = replaced(at.model, at.optimizer, at.parameters)
        return {"replaced": np.array(found, dtype=np.float64)}
