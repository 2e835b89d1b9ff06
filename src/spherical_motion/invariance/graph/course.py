"""The course of a forward pass: which modules ran, and which norms their weights feed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import nn

from spherical_motion.invariance.graph.flow import Flow
from spherical_motion.invariance.graph.paths import Paths, paths_to_norms
from spherical_motion.vocabulary.groups import module_of, strip_wrappers


@dataclasses.dataclass(frozen=True, slots=True)
class NormCall:
    """One call of a norm function.

    Attributes:
        module: the module that made it; "" for the model itself.
        label: its gain's name, or what kind of norm it is.
        own: it used its input's statistics, not running ones.
        eps_share: the part of ε in variance + ε, on average; NaN if unknown.
        time: how many modules had been entered before.
        call: how many norm calls the module had made before, in this call of it; None if it is
            one that shows in the graph alone.
    """

    module: str
    label: str
    own: bool
    eps_share: float
    time: int
    call: int | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.module or self.label


@dataclasses.dataclass(slots=True)
class Frame:
    """A module that runs, and how many norm calls it has made."""

    module: str
    calls: int = 0


@dataclasses.dataclass(slots=True)
class Course:
    """A record of one pass, written by hooks and read by the reasons.

    Attributes:
        entered: the module's name → when it was first entered.
        norms: every norm call, in order.
        flow: what flowed into them; None until the forward is over.
    """

    entered: dict[str, int] = dataclasses.field(default_factory=dict)
    norms: list[NormCall] = dataclasses.field(default_factory=list)
    flow: Flow | None = None
    _time: int = 0
    _stack: list[Frame] = dataclasses.field(default_factory=lambda: [Frame("")])

    def attach(self, model: nn.Module) -> None:
        """Hook every module; whoever runs the model takes the hooks off."""
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                plain = strip_wrappers(name)
                module.register_forward_pre_hook(lambda *_, name=plain: self._enter(name))
                module.register_forward_hook(lambda *_: self._leave())

    def record_norm(self, label: str, *, own: bool, eps_share: float, counted: bool = True) -> None:
        """Record a norm call; one that only the graph shows is not counted."""
        frame = self._stack[-1]
        call = frame.calls if counted else None
        frame.calls += counted
        self.norms.append(NormCall(frame.module, label, own, eps_share, self._time, call))

    def norms_after(self, parameter: str) -> Iterator[NormCall]:
        """Norm calls whose input depends on the parameter, in order.

        Inside a custom autograd function the graph shows nothing. Then the norm calls count that
        ran after the parameter's module was first entered, except those of that module.
        """
        for number, norm in enumerate(self.norms):
            follows = self.flow.follows(number, parameter) if self.flow is not None else None
            if self._ran_after(norm, parameter) if follows is None else follows:
                yield norm

    def paths(self, parameter: str) -> tuple[list[tuple[NormCall, Paths]], Paths | None]:
        """The paths to each norm that comes first on some path, and those to the outputs.

        The latter are None if every path crosses a norm, or if the parameter is not in the graph.
        """
        if self.flow is None:
            return [], None
        norms, past_all = paths_to_norms(self.flow, parameter)
        return [(self.norms[number], path) for number, path in norms.items()], past_all

    def _ran_after(self, norm: NormCall, parameter: str) -> bool:
        module = module_of(parameter)
        while module and module not in self.entered:  # used by a parent without being called
            module = module_of(module)
        return norm.time >= self.entered.get(module, 0) and norm.module != module

    def _enter(self, name: str) -> None:
        self._time += 1
        self.entered.setdefault(name, self._time)
        self._stack.append(Frame(name))

    def _leave(self) -> None:
        self._stack.pop()
