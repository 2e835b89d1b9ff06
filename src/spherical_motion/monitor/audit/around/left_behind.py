"""Watched tensors that the model or the optimizer no longer holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spherical_motion.binding import stepped_parameters
from spherical_motion.monitor.audit.context import AuditContext
from spherical_motion.monitor.sinks import Sink
from spherical_motion.notices import listed, notify
from spherical_motion.vocabulary.events import EventKind


def replaced(
    model: nn.Module, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]
) -> list[bool]:
    """For each tensor whether the model has another one in its place, or the optimizer lost it.

    Training goes on with the model's own tensor then, and what is watched rests.

    >>> net = nn.Linear(2, 2)
    >>> optimizer, watched = torch.optim.SGD(net.parameters()), [net.weight, net.bias]
    >>> net.weight = nn.Parameter(torch.ones(2, 2))
    >>> replaced(net, optimizer, watched)
    [True, False]
    """
    used = set(map(id, model.parameters()))
    both = used & set(map(id, stepped_parameters(optimizer)))
    return [id(parameter) not in both for parameter in parameters]


class Replacements:
    """Looks for replaced tensors whenever one has lost its gradient; each is an event and a notice.

    Args:
        context: the audited optimizer and what stands around it.
        sink: takes the event.
    """

    def __init__(self, context: AuditContext, sink: Sink) -> None:
        self._context, self._sink = context, sink
        self._silent: NDArray[np.bool_] | None = None
        self._reported: set[str] = set()

    def look(self, step: int, silent: NDArray[np.bool_]) -> None:
        """Take note which slices had no gradient, or only zeros, at the step just taken."""
        before, self._silent = self._silent, silent
        if not silent.any() or (before is not None and not (silent & ~before).any()):
            return
        at = self._context
        gone = replaced(at.model, at.optimizer, at.parameters)
        names = [name for name, is_gone in zip(at.names, gone, strict=True) if is_gone]
        fresh = [name for name in names if name not in self._reported]
        if fresh:
            self._reported.update(fresh)
            report(self._sink, step, fresh, "the model or the optimizer holds another tensor")


def report(sink: Sink, step: int, names: Sequence[str], why: str) -> None:
    """Record that tensors are left behind, and say how to go on."""
    sink.event(EventKind.NOT_STEPPED, step=step, parameters=list(names), why=why)
    are, them = ("is", "it") if len(names) == 1 else ("are", "them")
    notify(
        f"from step {step:,} on {listed(names)} {are} not stepped as watched: {why}. Nothing more "
        f"is learnt of {them}. To go on, close this monitor and watch the model with its optimizer "
        "of now; resume=True keeps the run directory."
    )
