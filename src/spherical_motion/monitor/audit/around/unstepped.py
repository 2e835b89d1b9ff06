"""Notice that watched weights move while the watched optimizer is not stepped any more.

A loop that makes a new optimizer (after unfreezing a layer, after loading a checkpoint) leaves the
old one behind with its hooks, and nothing would be recorded from then on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from spherical_motion.binding import stepped_parameters
from spherical_motion.measure.layout import lacks_memory
from spherical_motion.monitor.audit.around.left_behind import report
from spherical_motion.monitor.run.hooks import StepHook
from spherical_motion.monitor.sinks import Sink
from spherical_motion.vocabulary.events import EventKind

FEW = 3
"""Moves of the weights without a step of their optimizer after which it is said to be left behind.

An evaluation may write averaged weights and take them back: that is two."""

LOOKED_AT = 16
"""Parameters that stand for all when it is asked whether the weights have moved."""

Mark: TypeAlias = tuple[tuple[int, float | None], ...]
"""For each of these parameters its version and, on the CPU, its first entry."""


class Unstepped:
    """Says once that the weights of an optimizer move without it, and what moves them.

    Steps of other optimizers of torch are seen by a hook that torch calls after each step of any.
    Weights that move otherwise are noticed when the loop logs: if it logs several times between two
    steps, the weights are looked at, and only then.

    Args:
        optimizer: the watched one.
        parameters: the watched tensors that it steps, by name.
        step: gives the number of its next step.
        moved: is called with the names and what moves them; at most once.
        shared: is called with the names and the class of another optimizer that steps weights which
            the watched one steps as well; at most once.
        guarded: runs what is done at a step of any optimizer; must not let an exception out.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> left, new = torch.optim.SGD([w]), torch.optim.SGD([w])
    >>> unstepped = Unstepped(left, {"w": w}, lambda: 0, lambda *said: print(said), print)
    >>> unstepped.attach()
    >>> w.grad = torch.ones(2)
    >>> for _ in range(5):
    ...     _ = new.step()
    (['w'], 'another optimizer (SGD)')
    >>> unstepped.detach()
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, torch.Tensor],
        step: Callable[[], int],
        moved: Callable[[list[str], str], None],
        shared: Callable[[list[str], str], None],
        guarded: Callable[[Callable[[], None]], None] = lambda body: body(),
    ) -> None:
        self._own, self._parameters = weakref.ref(optimizer), dict(parameters)
        self._step, self._moved, self._shared, self._guarded = step, moved, shared, guarded
        self._at = -1
        self._moves = 0
        self._mark: Mark | None = None
        self._others = 0
        self._shared_by: tuple[list[str], str] | None = None
        self._reported = self._reported_shared = False
        self._handles: list[StepHook] = []
        self._inside = False
        self._begun: dict[int, int] = {}

    def attach(self) -> None:
        """Listen to the steps of all optimizers."""
        # The hooks are torch's until they are removed, and must not keep a monitor alive.
        me = weakref.ref(self)

        def begins(optimizer: torch.optim.Optimizer, *_: object) -> None:
            if (unstepped := me()) is None:
                return
            if optimizer is unstepped._own():  # at nearly every step, so without the guard
                unstepped._inside = True
            else:
                unstepped._guarded(lambda: unstepped.begins(optimizer))

        def stepped(optimizer: torch.optim.Optimizer, *_: object) -> None:
            if (unstepped := me()) is None:
                return
            if optimizer is unstepped._own():
                unstepped._inside = False
            else:
                unstepped._guarded(lambda: unstepped.stepped(optimizer))

        self._handles = [
            StepHook(register_optimizer_step_pre_hook, begins),
            StepHook(register_optimizer_step_post_hook, stepped),
        ]

    def detach(self) -> None:
        """Stop listening; may be repeated."""
        for hook in self._handles:
            hook.remove()
        self._handles = []

    def drop(self) -> None:
        """Listen to nothing from now on, as `detach` does, from within anything."""
        for handle in self._handles:
            handle.drop()

    def begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Take note that a step of any optimizer begins."""
        if optimizer is self._own():
            self._inside = True
        elif not self._reported:
            self._begun[id(optimizer)] = self._step()

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """Take note of a step of any optimizer that has ended.

        An optimizer may be the inner or the outer part of the watched one, as in SAM or Lookahead.
        Then one of the two steps lies within the other, and nothing is wrong.
        """
        if optimizer is self._own():
            self._inside = False
            return
        begun = self._begun.pop(id(optimizer), None)
        if self._reported or self._inside or begun != self._step():
            return
        self._begin()
        own = set(map(id, stepped_parameters(optimizer)))
        names = [name for name, p in self._parameters.items() if id(p) in own]
        if not names:
            return
        self._others += 1
        self._shared_by = names, type(optimizer).__name__
        if self._others >= FEW:
            self._report(names, f"another optimizer ({type(optimizer).__name__})")

    def logged(self) -> None:
        """Take note that the loop has logged something."""
        if self._begin() or self._reported:
            return
        mark = self._look()
        if self._mark is not None and mark != self._mark:
            self._moves += 1
        self._mark = mark
        if self._moves >= FEW:
            self._report(list(self._parameters), "other code")

    def _begin(self) -> bool:
        """Start over if the optimizer has stepped since the last call."""
        step = self._step()
        if step == self._at:
            return False
        if self._shared_by is not None and self._at >= 0 and not self._reported_shared:
            self._reported_shared = True
            self._shared(*self._shared_by)
        self._at, self._moves, self._mark = step, 0, None
        self._others, self._shared_by = 0, None
        return True

    def _report(self, names: list[str], what: str) -> None:
        self._reported = True
        self._moved(names, what)

    def _look(self) -> Mark:
        found = list(self._parameters.values())
        chosen = found[:: -(-len(found) // LOOKED_AT)]
        return tuple((p._version, _first_entry(p)) for p in chosen)


def unstepped_of(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, torch.Tensor],
    step: Callable[[], int],
    sink: Sink,
    guarded: Callable[[Callable[[], None]], None],
) -> Unstepped:
    """An `Unstepped` that records an event, and says how to go on if an optimizer is left behind.

    Args:
        optimizer, parameters, step, guarded: as for `Unstepped`.
        sink: takes the events.
    """

    def moved(names: list[str], what: str) -> None:
        report(sink, step(), names, f"{what} moves them, and the watched optimizer does not step")

    def shared(names: list[str], name: str) -> None:
        kind = EventKind.SECOND_OPTIMIZER
        sink.event(kind, step=step(), parameters=names, optimizer=name)

    return Unstepped(optimizer, parameters, step, moved, shared, guarded)


def _first_entry(parameter: torch.Tensor) -> float | None:
    """The first entry on the CPU; elsewhere reading it would make training wait.

    Code that writes to `parameter.data` leaves the version as it is.
    """
    if not parameter.is_cpu or not parameter.numel() or lacks_memory(parameter):
        return None
    return float(parameter.detach()[(0,) * parameter.ndim])
