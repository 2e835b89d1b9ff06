"""Weight decay in proportion to the learning rate, so that the resting norm stays put.

The decay of the weights within a step is lr × weight_decay, and the norm at which an invariant
group rests depends on lr/weight_decay alone: (Lη/(2λ(1 - α)))^¼ for SGD, √(ηd/(2λ)) for AdamW, and
likewise in every other family (theory.equilibrium_norm_approx). A schedule that lowers η at a
fixed λ therefore moves the target of the norm, which follows (1 - α)/(4ηλ) steps late, more slowly
the smaller η gets: norms end up too long for their rate, gradients, which go as one over the norm,
too large. With λ_t = λ·η_t/η_max the target stays where it is and the angle a step turns by follows
the rate at once, Δ* ∝ η_t.

Defazio (2025), "Why gradients rapidly increase near the end of training", proposes this for AdamW
and calls it AdamC; there as here the correction is for layers in front of a norm only, and the
others keep the decay they had.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.errors import InvalidArgument
from spherical_motion.optim.coverage import invariant_param_groups
from spherical_motion.optim.hooks import StepHooks
from spherical_motion.optim.members import MAX_DEFECT
from spherical_motion.vocabulary.groups import InvariantGroup

__all__ = ["ProportionalDecay"]


class ProportionalDecay:
    """Set weight_decay × lr/lr_max before every step, for scale-invariant param groups only.

    Works beside any learning-rate scheduler and any optimizer whose decay goes with the rate
    (torch's SGD, Adam, AdamW, NAdam, ...; Lion, Muon). Nothing is changed but
    `param_group["weight_decay"]`. It removes the drift of the norm that a schedule causes, not the
    approach from the start: `scale_to_equilibrium` does that.

    Args:
        model: whose parameters `groups` names.
        optimizer: with invariant parameters in param groups of their own (`split_param_groups`).
        groups: as `find_groups` returns them.
        lr_max: the highest rate of the schedule, at which the decay is the one that was set. Left
            out, it is read off each param group: "max_lr" if OneCycleLR or CyclicLR wrote it, else
            the larger of "initial_lr" and "lr".
        max_defect: groups with a larger defect count as not invariant.

    Raises:
        InvalidArgument: no invariant param group, one that mixes, one without weight decay, or an
            lr_max that is not > 0.
        AlreadyAttached: something else steers this optimizer.

    >>> from spherical_motion import find_groups
    >>> from spherical_motion.optim import split_param_groups
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> groups = find_groups(model, torch.randn(16, 4))
    >>> split = split_param_groups(model, groups, lr=1e-3, weight_decay=0.1)
    >>> optimizer = torch.optim.AdamW(split)
    >>> decay = ProportionalDecay(model, optimizer, groups)
    >>> optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 5e-4
    >>> optimizer.step()
    >>> [group["weight_decay"] for group in optimizer.param_groups]
    [0.05, 0.1]
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[InvariantGroup],
        *,
        lr_max: float | None = None,
        max_defect: float = MAX_DEFECT,
    ) -> None:
        where = "ProportionalDecay"
        StepHooks.refuse_second(optimizer, where)
        if lr_max is not None and not (math.isfinite(lr_max) and lr_max > 0):
            raise InvalidArgument(f"{where}(lr_max=...) must be finite and > 0, got {lr_max}.")
        self._optimizer = optimizer
        self._base: dict[int, tuple[float, float]] = {}
        for index in invariant_param_groups(model, optimizer, groups, max_defect, where):
            group = optimizer.param_groups[index]
            peak = _peak(group) if lr_max is None else float(lr_max)
            if not (group.get("weight_decay") or 0.0) > 0.0:
                raise InvalidArgument(
                    f"{where}: param_groups[{index}]['weight_decay'] must be > 0, got "
                    f"{group.get('weight_decay')}: there is no decay to vary. Set the decay that "
                    "is to hold at the highest learning rate."
                )
            if not peak > 0.0:
                raise InvalidArgument(
                    f"{where}: the learning rate of param_groups[{index}] is 0 and so is its "
                    "initial_lr. Pass lr_max=..., the highest rate of the schedule."
                )
            self._base[index] = (float(group["weight_decay"]), peak)
        self._hooks = StepHooks(optimizer, where, self._before)

    def close(self) -> None:
        """Put the weight decays back as they were, and take the hook off; may be repeated."""
        for index, (weight_decay, _) in self._base.items():
            self._optimizer.param_groups[index]["weight_decay"] = weight_decay
        self._base = {}
        self._hooks.remove()

    def state_dict(self) -> dict[str, Any]:
        """The decays and highest rates, by param group: what an optimizer's state does not hold."""
        return {"base": {index: list(pair) for index, pair in self._base.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the decays and highest rates of an earlier run.

        Raises:
            InvalidArgument: it comes from an optimizer with other param groups.
        """
        stored = {int(k): (float(v[0]), float(v[1])) for k, v in state_dict["base"].items()}
        if stored.keys() != self._base.keys():
            raise InvalidArgument(
                "ProportionalDecay.load_state_dict expects the state of a run with the invariant "
                f"param groups {[*self._base]}, got {[*stored]}. Build the optimizer with the same "
                "split_param_groups."
            )
        self._base = stored

    def _before(self) -> None:
        for index, (weight_decay, peak) in self._base.items():
            group = self._optimizer.param_groups[index]
            # A rate that is a tensor stays one: nothing waits for the device here.
            group["weight_decay"] = weight_decay * (group["lr"] / peak)


def _peak(group: dict[str, Any]) -> float:
    if "max_lr" in group:
        return float(group["max_lr"])
    return max(float(group.get("initial_lr", 0.0)), float(group["lr"]))
