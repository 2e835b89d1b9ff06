"""A param group that trains without decay in place of the decayed run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.binding import Piece
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.optim.growth.growth import Growth
from spherical_motion.optim.scaling import scale_pieces_
from spherical_motion.optim.steering import ParamGroup
from spherical_motion.vocabulary import InvariantGroup, Slice

_WHERE = "ExponentialSchedule"

MARK = "decayed_lr"
"""Key of a steered param group: the rate of the decayed run; `lr` holds another one."""


class SteeredGroup:
    """Param group `index`: the settings of the decayed run, and the relative scale of its weights.

    Attributes:
        names: of the invariant groups in it.
        lr, weight_decay: of the decayed run at the coming step.
        growth: the scale of its weights.
        written: the rate last written into the param group.

    Raises:
        InvalidArgument: rates that an earlier schedule left behind; a learning rate in a tensor.
    """

    def __init__(
        self, optimizer: torch.optim.SGD, index: int, groups: Sequence[InvariantGroup]
    ) -> None:
        self._optimizer, self.index = optimizer, index
        self.names = [group.name for group in groups]
        group = self.param_group
        if MARK in group:
            raise InvalidArgument(
                f"{_WHERE}: param_groups[{index}] holds the grown rate {group['lr']:g} and the "
                f"absent decay of an earlier {_WHERE} (its run with decay would be at lr "
                f"{group[MARK]:g}), from which a new one cannot start. Call "
                "return_to_weight_decay() of the earlier one first; to resume, make this one "
                "before optimizer.load_state_dict, and load its own state too."
            )
        if isinstance(group["lr"], torch.Tensor):
            raise InvalidArgument(
                f"{_WHERE}: param_groups[{index}]['lr'] must be a float, got a tensor. The "
                "rate is computed on the host at every step; pass lr=float(...)."
            )
        self.lr, self.weight_decay = float(group["lr"]), float(group["weight_decay"])
        self.growth = Growth()
        self.written = math.nan

    @property
    def param_group(self) -> ParamGroup:
        """The optimizer's current dict; `load_state_dict` replaces it."""
        return self._optimizer.param_groups[self.index]

    @property
    def parameters(self) -> list[nn.Parameter]:
        return self.param_group["params"]

    def rate(self, largest: float) -> float:
        """The rate of the coming step, checked to fit the weights' dtype.

        The remedy in an error depends on `largest`.
        """
        settings = self._settings()
        rate, after = self.growth.rate(*settings), self.growth.after(*settings)
        finest = min((torch.finfo(p.dtype).max for p in self.parameters), default=math.inf)
        # A weight and its growth share the range; half of its exponents for each.
        if not (rate < finest and after.scale < math.sqrt(finest)):
            remedy = "Pass a finite largest=..., so that they are re-centred."
            if largest < math.inf:
                remedy = (
                    "Re-centring cannot cure a single step that grows the weights "
                    f"{after.scale / self.growth.scale:.3g} times: lower lr × weight_decay, or "
                    "keep the weights in float32."
                )
            raise OutOfDomain(
                f"{_WHERE}: at log P = {after.log_scale:.1f} the rate {rate:.3g} or the weights "
                f"leave the range of their dtype (up to {finest:.3g}). {remedy}"
            )
        return rate

    def write(self, rate: float) -> None:
        """Let the param group step at `rate` without decay."""
        group = self.param_group
        group["lr"], group["weight_decay"], self.written = rate, 0.0, rate
        group[MARK] = self.lr

    def check_untouched(self) -> None:
        """Raise InvalidArgument if someone else changed the settings."""
        group = self.param_group
        if group["lr"] != self.written or group["weight_decay"] != 0.0:
            raise InvalidArgument(
                f"{_WHERE}: param_groups[{self.index}] was changed from outside: expected "
                f"lr={self.written:g} and weight_decay=0, got lr={group['lr']:g} and "
                f"weight_decay={group['weight_decay']:g}. Step this schedule, not the wrapped "
                "scheduler; after loading the optimizer's state load this one's too."
            )

    def show_decayed(self) -> None:
        """Put the settings of the decayed run into the param group, for a scheduler to change."""
        group = self.param_group
        group["lr"], group["weight_decay"] = self.lr, self.weight_decay

    def read_decayed(self) -> None:
        """Read the settings that the scheduler wrote, and put those of the growing run back."""
        group = self.param_group
        self.lr, self.weight_decay = float(group["lr"]), float(group["weight_decay"])
        group["lr"], group["weight_decay"] = self.written, 0.0

    def give_back(self) -> None:
        """Leave the param group with the settings of the decayed run."""
        if self.param_group.pop(MARK, None) is not None:
            self.show_decayed()

    def scale(self, factor: float) -> None:
        """Multiply weights, gradients and momentum; see `scale_pieces_`."""
        pieces = []
        for i, p in enumerate(self.parameters):
            name = f"param_groups[{self.index}]['params'][{i}]"
            pieces.append(Piece(p, Slice(name, 0, 0, len(torch.atleast_1d(p))), None, name))
        scale_pieces_(self._optimizer, pieces, factor)

    @torch.no_grad()
    def restore_held_decay(self) -> None:
        """Add the earlier decay that the buffer of the decayed run would hold."""
        for parameter in self.parameters:
            buffer = self._optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                buffer.add_(parameter, alpha=self.growth.held)

    def follow_step(self) -> None:
        """Follow the optimizer's step, if any parameter had a gradient."""
        skipped = [p for p in self.parameters if p.grad is None]
        if len(skipped) == len(self.parameters):
            return
        before = self.growth
        self.growth = before.after(*self._settings())
        if skipped:
            self._catch_up(skipped, before)

    def state(self) -> dict[str, Any]:
        """Plain numbers for a checkpoint."""
        settings = {"lr": self.lr, "weight_decay": self.weight_decay}
        return {"index": self.index, **settings, "growth": dataclasses.asdict(self.growth)}

    def load(self, state: Mapping[str, Any]) -> None:
        self.lr, self.weight_decay = state["lr"], state["weight_decay"]
        self.growth = Growth(**state["growth"])

    def _settings(self) -> tuple[float, float, float]:
        group = self.param_group
        if group["nesterov"]:
            raise NoTheory(
                f"{_WHERE}: Nesterov momentum has no equivalent run without weight decay (it adds "
                "the gradient to weights and buffer in different amounts). Use nesterov=False."
            )
        if group["dampening"]:
            raise InvalidArgument(
                f"{_WHERE}: dampening must be 0, got {group['dampening']:g}. The heavy ball with "
                "lr × (1 - dampening) and dampening=0 takes the same steps after the first."
            )
        return self.lr, self.weight_decay, float(group["momentum"])

    @torch.no_grad()
    def _catch_up(self, skipped: list[nn.Parameter], before: Growth) -> None:
        """Move parameters without a gradient to the group's new P and c.

        The decayed run left their w and v as they were: w̃ = Pw and ṽ = (v - cw)/P follow.
        """
        growth = math.exp(self.growth.relative - before.relative)
        for parameter in skipped:
            parameter.mul_(growth)
            state = self._optimizer.state[parameter]
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = torch.zeros_like(parameter)
            drop = (self.growth.held - before.held) / self.growth.scale**2
            buffer.div_(growth).add_(parameter, alpha=-drop)
