"""Weight decay in proportion to the learning rate, which keeps the equilibrium norm constant.

A step shrinks the weights by lr × weight_decay, and the equilibrium norm of an invariant group
depends on lr/weight_decay alone: (Lη/(2λ(1 - α)))^¼ for SGD, √(ηd/(2λ)) for AdamW, and likewise in
every other family (theory.equilibrium_norm_approx). A schedule that lowers η at a fixed λ moves
this norm, and the weights follow (1 - α)/(4ηλ) steps late, more slowly the smaller η gets: norms
end too long for their rate, and gradients, which scale as one over the norm, too large. With
λ_t = λ·η_t/η_max the equilibrium norm is constant, and the angle follows the rate at once, as η_t.

Defazio (2025), "Why gradients rapidly increase near the end of training", proposes this for AdamW
and calls it AdamC, also for layers in front of a norm only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.binding import MAX_DEFECT, check_state, invariant_param_groups
from spherical_motion.checks import number
from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import notify
from spherical_motion.optim.steering import Closing, ParamGroup, StepHooks
from spherical_motion.vocabulary.groups import InvariantGroup

_WHERE = "ProportionalDecay"

DECAY, PEAK = "initial_weight_decay", "decay_lr_max"
"""Keys of a steered param group: the decay at the highest rate, and that rate. Checkpoints keep
both, because the group's own decay changes at each step."""

PATIENCE = 100
"""Steps before a notice about a rate that has not come near the assumed peak."""


@dataclasses.dataclass
class _Base:
    """The settings of one param group at the highest rate.

    Attributes:
        weight_decay, peak: the decay at the highest rate, and that rate.
        given: whether the caller gave it.
        watched: whether it was read off the param group and no notice was given about it yet.
        steps: taken so far.
        seen: the highest rate in these steps.
        last: the step that reached it.
        group: the param group that holds its keys; loading puts another in its place.
    """

    weight_decay: float
    peak: float
    given: bool = False
    watched: bool = False
    steps: int = 0
    seen: float = 0.0
    last: int = 0
    group: ParamGroup | None = None

    def write(self, group: ParamGroup) -> None:
        """Write both keys into the param group."""
        group[DECAY], group[PEAK] = self.weight_decay, self.peak
        self.group = group

    def read_loaded(self, group: ParamGroup) -> None:
        """Take the values of a param group that was loaded from a checkpoint."""
        self.weight_decay = float(group.get(DECAY, self.weight_decay))
        if not self.given:
            self.peak = float(group.get(PEAK, self.peak))
        self.watched = False
        self.write(group)

    def doubt(self, lr: float) -> str | None:
        """Why the assumed peak cannot be right, given the rate of this step; or None."""
        self.steps += 1
        if lr > self.seen:
            self.seen, self.last = lr, self.steps
        if lr > self.peak * (1.0 + 1e-6):
            return f"the rate is {lr:.3g} at step {self.steps}"
        if self.steps < PATIENCE:
            return None
        # This may be a warm-up; but one that starts this low would take 100,000 steps.
        if self.seen < 1e-3 * self.peak:
            return f"in {self.steps} steps the rate never was above {self.seen:.3g}"
        if self.seen >= 0.5 * self.peak:
            return None
        if lr < 0.9 * self.seen:
            return f"the rate is falling and never was above {self.seen:.3g}"
        if self.steps - self.last >= 10 * PATIENCE:
            return f"the rate has not been above {self.seen:.3g} for {10 * PATIENCE} steps"
        return None


class ProportionalDecay(Closing):
    """Set weight_decay × lr/lr_max before every step, for scale-invariant param groups only.

    Works with any learning-rate scheduler and any optimizer whose decay is multiplied by the rate
    (torch's SGD, Adam, AdamW, NAdam, ...; Lion, Muon). It changes `param_group["weight_decay"]`
    only. It removes the drift of the norm under a schedule; for the approach from the start use
    `scale_to_equilibrium`. Param groups without weight decay stay as they are, with a notice.

    The highest rate must be known. Pass `lr_max` for rates that are written by hand or by LambdaLR:
    at a base rate of 1.0, as with Noam's formula, there would be almost no decay. Without it, one
    notice is given if the rate exceeds the assumed one, falls or stays without coming near it, or
    is less than a thousandth of it after 100 steps.

    To resume, load the optimizer's state, before or after making this object: the param groups hold
    what it needs ("initial_weight_decay", "decay_lr_max").

    Args:
        model: names the parameters.
        optimizer: with invariant parameters in param groups of their own (`split_param_groups`).
        groups: as `find_groups` returns them.
        lr_max: the highest rate of the schedule, at which the decay is the one that was set. Left
            out, it is read off each param group: "decay_lr_max" of an earlier one, "max_lr" of
            OneCycleLR or CyclicLR, else the larger of "initial_lr" and "lr", up to the first step.
        max_defect: groups with a larger defect count as not invariant; None takes all.

    Raises:
        InvalidArgument: no invariant param group, one that mixes, none with weight decay, or an
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
        max_defect: float | None = MAX_DEFECT,
    ) -> None:
        StepHooks.refuse_second(optimizer, _WHERE)
        lr_max = None if lr_max is None else number(_WHERE, "lr_max", lr_max, above=0.0)
        self._optimizer = optimizer
        chosen = invariant_param_groups(model, optimizer, groups, max_defect, _WHERE)
        owners = {i: optimizer.param_groups[i] for i in chosen}
        decays = {i: float(g.get(DECAY, g.get("weight_decay")) or 0.0) for i, g in owners.items()}
        self._base = {i: _base(owners[i], i, x, lr_max) for i, x in decays.items() if x > 0.0}
        without = [i for i in owners if i not in self._base]
        if not self._base:
            raise InvalidArgument(
                f"{_WHERE}: param_groups[{without[0]}]['weight_decay'] must be > 0, got "
                f"{decays[without[0]]:g}: there is no decay to vary, nor in any other invariant "
                "param group. Set the decay that is to hold at the highest learning rate."
            )
        if without:
            notify(f"{_WHERE}: no weight decay to vary in param_groups {without}; they stay so")
        self._mark()
        self._hooks = StepHooks(optimizer, _WHERE, self._before)

    def close(self) -> None:
        """Restore the weight decays and remove the hook; may be repeated."""
        for index, base in self._base.items():
            group = self._optimizer.param_groups[index]
            group["weight_decay"] = base.weight_decay
            group.pop(DECAY, None)
            group.pop(PEAK, None)
        self._base = {}
        self._hooks.remove()

    def state_dict(self) -> dict[str, Any]:
        """The decays and highest rates, by param group; the optimizer's state has them too."""
        return {"base": {i: [base.weight_decay, base.peak] for i, base in self._base.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume with the decays and highest rates of an earlier run.

        Raises:
            InvalidArgument: the state of an optimizer with other param groups; after `close`.
        """
        check_state(_WHERE, state_dict, ["base"])
        if not self._base:
            raise InvalidArgument(
                f"{_WHERE}.load_state_dict: this one was closed and no longer steers its "
                "optimizer. Make a new one, and load into that."
            )
        stored = {int(k): (float(v[0]), float(v[1])) for k, v in state_dict["base"].items()}
        if stored.keys() != self._base.keys():
            raise InvalidArgument(
                f"{_WHERE}.load_state_dict expects the state of a run with the invariant "
                f"param groups {[*self._base]}, got {[*stored]}. Build the optimizer with the same "
                "split_param_groups."
            )
        self._base = {i: _Base(*pair) for i, pair in stored.items()}
        self._mark()

    def _mark(self) -> None:
        for index, base in self._base.items():
            base.write(self._optimizer.param_groups[index])

    def _before(self) -> None:
        for index, base in self._base.items():
            group = self._optimizer.param_groups[index]
            if group is not base.group:
                base.read_loaded(group)
            if base.watched and base.steps == 0:
                group[PEAK] = base.peak = _peak(group, base.peak)
            lr = group["lr"]
            # A rate that is a tensor stays one: nothing waits for the device here.
            group["weight_decay"] = base.weight_decay * (lr / base.peak)
            if isinstance(lr, torch.Tensor) and not lr.is_cpu:
                base.watched = False
            if base.watched and (why := base.doubt(float(lr))):
                base.watched = False
                notify(
                    f"{_WHERE} takes {base.peak:g} for the highest rate of param_groups[{index}], "
                    f"but {why}, so the decay is {float(group['weight_decay']):.3g} where "
                    f"{base.weight_decay:g} was set. Pass lr_max=..., the highest rate of the "
                    "schedule."
                )


def _base(group: ParamGroup, index: int, weight_decay: float, lr_max: float | None) -> _Base:
    if lr_max is not None:
        return _Base(weight_decay, lr_max, given=True)
    if PEAK in group:
        return _Base(weight_decay, float(group[PEAK]))
    peak = _peak(group, float(group["lr"]))
    if not peak > 0.0:
        raise InvalidArgument(
            f"{_WHERE}: the learning rate of param_groups[{index}] is 0 and so is its "
            "initial_lr. Pass lr_max=..., the highest rate of the schedule."
        )
    return _Base(weight_decay, peak, watched=True)


def _peak(group: ParamGroup, lr: float) -> float:
    """The highest rate that the param group shows; `lr` is one that it has had."""
    if "max_lr" in group:
        return float(group["max_lr"])
    return max(float(group.get("initial_lr", 0.0)), lr)
