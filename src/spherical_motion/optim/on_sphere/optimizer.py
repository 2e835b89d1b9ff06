"""A step that turns each group and leaves its radius alone: the base of AdaGradG and AdamG.

Each group has a radius r, the norm it began with or the one that was asked for, and every step ends
at that norm. A group's numbers (second moment, radius, steps taken) are (groups,) float64 tensors
on the weights' device, in the state of the param group's first parameter; nothing is read back to
the host.

Steps do not depend on the current norm of the weights. With n = |x| the gradient on the unit
sphere is g̃ = n·(g - (<x, g>/n²)·x), tangential: an exact invariance has <x, g> = 0, and the return
to the radius would undo what a norm layer's epsilon leaves of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from spherical_motion.binding import Members
from spherical_motion.errors import InvalidArgument
from spherical_motion.optim.engine import STILL, CpuPasses, Passes, TorchPasses, Turn
from spherical_motion.optim.on_sphere.checks import VECTORS, check_loadable, check_real
from spherical_motion.optim.on_sphere.others import Part, step_others
from spherical_motion.optim.steering import ParamGroup
from spherical_motion.vocabulary.groups import InvariantGroup

State = dict[str, Tensor]
"""Vectors of a param group, each (groups,)."""

Flags = NDArray[np.bool_]


class NormedOptimizer(Optimizer):
    """Base of the optimizers that keep the radius of invariant groups.

    Param groups with the class's own `rule` hold parameters of invariant groups; torch's SGD or
    AdamW steps the others. Rows of the former that belong to no group take the settings of the
    param group whose number is under the key `others`.

    Args:
        param_groups: each with all its settings.
        members: the groups of each param group with the own rule, by its number.
        defaults: settings of a param group that is added later.
    """

    rule = ""
    has_momentum = False

    def __init__(
        self,
        param_groups: Sequence[ParamGroup],
        members: Mapping[int, Members],
        defaults: ParamGroup,
    ) -> None:
        self._members = dict(members)
        self._passes: dict[int, Passes] = {}
        self._patterns: dict[tuple[int, tuple[bool, ...]], Tensor] = {}
        self._can_turn: dict[int, Tensor] = {}
        self._beginning = True
        check_real(type(self).__name__, param_groups)
        # torch fills defaults into every param group; remove those of the other rule.
        keys = [set(group) for group in param_groups]
        super().__init__(list(param_groups), defaults)
        for group, own in zip(self.param_groups, keys, strict=True):
            for key in set(group) - own:
                del group[key]
        self._beginning = False

    @property
    def groups(self) -> tuple[InvariantGroup, ...]:
        """The steered groups, in the order of `radii` and `second_moments`."""
        return tuple(group for members in self._members.values() for group in members.groups)

    def radii(self) -> dict[str, Tensor]:
        """Radius of each group by name, 0-d float64 tensors; empty before the first step."""
        return self._by_name("group_radius")

    def _by_name(self, key: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for members in self._members.values():
            values = self.state[members.parameters[0]].get(key)
            if values is not None:
                found.update(zip(members.names, values.unbind(), strict=True))
        return found

    def add_param_group(self, param_group: ParamGroup) -> None:
        """Add parameters that belong to no group, with settings as in `other`.

        Raises:
            InvalidArgument: the param group is to hold invariant groups, which are given when the
                optimizer is made.
        """
        invariant = "groups" in param_group or param_group.get("rule") == self.rule
        if invariant and not self._beginning:
            raise InvalidArgument(
                f"{type(self).__name__}.add_param_group takes parameters for SGD or AdamW. "
                "Invariant groups are given when the optimizer is made: make a new one and carry "
                "the state over with load_state_dict."
            )
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        # Threads and caches stay here.
        return {**super().__getstate__(), "_members": self._members}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._passes, self._patterns, self._can_turn = {}, {}, {}
        self._beginning = False
        for group in self.param_groups:
            for key, default in (("maximize", False), ("foreach", None), ("fused", None)):
                group.setdefault(key, default)

    def state_dict(self) -> dict[str, Any]:
        """As torch's, with the names of the groups that its numbers belong to."""
        names = {number: list(members.names) for number, members in self._members.items()}
        return {**super().state_dict(), "group_names": names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but the groups' own numbers stay float64, so that a run goes on exactly.

        Raises:
            InvalidArgument: a state of another optimizer or other groups; nothing was loaded.
        """
        check_loadable(type(self).__name__, state_dict, self.param_groups, self._members)
        super().load_state_dict(state_dict)
        saved = itertools.chain.from_iterable(g["params"] for g in state_dict["param_groups"])
        mine = itertools.chain.from_iterable(g["params"] for g in self.param_groups)
        for number, parameter in zip(saved, mine, strict=True):
            for key in VECTORS:
                value = state_dict["state"].get(number, {}).get(key)
                if value is not None:
                    exact = value.to(parameter.device, torch.float64, copy=True)
                    self.state[parameter][key] = exact

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step.

        A group without any gradient is left as it is. If only some of its members have one, the
        gradient of the others counts as zero. A group of norm zero has no direction: it takes a
        plain step against its gradient at the `lr` of the other parameters, and its radius is the
        norm after it. A group of a single number cannot turn.

        Args:
            closure: reevaluates the model and returns the loss.

        Raises:
            InvalidArgument: a sparse gradient of an invariant group.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            if group["rule"] == self.rule:
                self._step_groups(number, group)
                parts = self._free_parts(self._members[number])
                step_others(self.param_groups[group["others"]], parts)
            else:
                own = [p for p in group["params"] if p.grad is not None]
                step_others(group, [Part(p, p.grad, self.state[p], "") for p in own])
        return loss

    def _step_groups(self, number: int, group: ParamGroup) -> None:
        members = self._members[number]
        present = tuple(p.grad is not None for p in members.parameters)
        if not any(present):
            return
        for rows in members.rows:
            grad = rows.parameter.grad
            if grad is not None and grad.is_sparse:
                raise InvalidArgument(
                    f"{type(self).__name__}: the gradient of {rows.name!r} is sparse, and a group "
                    "turns as a whole. Build the embedding with sparse=False, or leave it out."
                )
        x = members.parameters
        g = [torch.zeros_like(p) if p.grad is None else p.grad for p in x]
        m = self._momentum(x) if self.has_momentum else None
        passes = self._passes_of(number, group)
        state = self._group_state(members)
        if number not in self._can_turn:
            numbers = [sum(piece.numel for piece in own) for own in members.pieces]
            self._can_turn[number] = torch.tensor(numbers, device=members.device) > 1
        active = self._active(number, members, present)
        if isinstance(passes, CpuPasses):
            turn = self._compiled_turn(group, state, self._can_turn[number].numpy(), active.numpy())
            passes.step(x, g, m, turn)
            return
        sums = passes.sums(x, g, m)
        factors, after = self._turn(group, sums, state, self._can_turn[number])
        if not all(present):
            kept = zip(factors, STILL, strict=False)
            factors = [torch.where(active, moved, still) for moved, still in kept]
            after = {key: torch.where(active, v, state[key]) for key, v in after.items()}
        passes.update(x, g, m, torch.stack(factors).T)
        for key, value in after.items():
            state[key].copy_(value)

    def _turn(
        self, group: ParamGroup, sums: Tensor, state: State, can_turn: Tensor
    ) -> tuple[list[Tensor], State]:
        """Columns of factors for `Passes.update`, and the next state, from the inner products."""
        raise NotImplementedError

    def _compiled_turn(
        self, group: ParamGroup, state: State, can_turn: Flags, active: Flags
    ) -> Turn:
        """The same for `CpuPasses.step`; changes the state of `active` groups in place."""
        raise NotImplementedError

    def _group_state(self, members: Members) -> State:
        """The vectors of this param group, zeros at first."""
        state = self.state[members.parameters[0]]
        for key in VECTORS:
            if key not in state:
                state[key] = torch.zeros(len(members), dtype=torch.float64, device=members.device)
        return state

    def _momentum(self, x: Sequence[nn.Parameter]) -> list[Tensor]:
        for p in x:
            kept = self.state[p].get("group_momentum")
            # Loaded state may have other strides than the weights.
            if kept is None or kept.stride() != p.stride():
                laid = torch.zeros_like(p, memory_format=torch.preserve_format)
                self.state[p]["group_momentum"] = laid if kept is None else laid.copy_(kept)
        return [self.state[p]["group_momentum"] for p in x]

    def _radius(self, group: ParamGroup, state: State, norm: Tensor) -> Tensor:
        """The radius to end at: given, kept, or the current norm; 0 for a norm of 0."""
        if group["radius"] is not None:
            return torch.full_like(norm, group["radius"])
        return torch.where(state["group_radius"] > 0, state["group_radius"], norm)

    def _free_parts(self, members: Members) -> list[Part]:
        return [
            Part(view, grad, self.state[p], f"[{start}:{stop}]")
            for rows in members.rows
            if (p := rows.parameter).grad is not None
            for (start, stop), view, grad in zip(
                rows.free, rows.free_views(p), rows.free_views(p.grad), strict=True
            )
        ]

    def _passes_of(self, number: int, group: ParamGroup) -> Passes:
        foreach = group["foreach"]
        fused = foreach is None if group["fused"] is None else group["fused"]
        passes, members = self._passes.get(number), self._members[number]
        if fused and isinstance(passes, CpuPasses) and passes.matches(members):
            return passes
        if fused and CpuPasses.fits(members):
            passes = CpuPasses(members)
        elif group["fused"]:
            raise InvalidArgument(
                f"{type(self).__name__}(fused=True) needs float32 or float64 parameters on the "
                "CPU that fill a block of memory each. Leave fused out to use it where it fits."
            )
        elif not isinstance(passes, TorchPasses) or passes.foreach != bool(foreach):
            on_cpu = all(p.is_cpu for p in members.parameters)
            passes = TorchPasses(members, bool(not on_cpu if foreach is None else foreach))
        self._passes[number] = passes
        return passes

    def _active(self, number: int, members: Members, present: tuple[bool, ...]) -> Tensor:
        """(groups,), bool: whether any member has a gradient. Kept, as it rarely changes."""
        if (number, present) not in self._patterns:
            stepped = {id(p) for p, here in zip(members.parameters, present, strict=True) if here}
            active = [any(id(q.parameter) in stepped for q in own) for own in members.pieces]
            self._patterns[number, present] = torch.tensor(active, device=members.device)
        return self._patterns[number, present]
