"""Run an ordinary schedule with weight decay as a growing learning rate without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from spherical_motion.binding import MAX_DEFECT, check_state, invariant_param_groups
from spherical_motion.checks import callable_or_none, number
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.optim.growth import SteeredGroup
from spherical_motion.optim.scaling import (
    has_running_statistics,
    scale_buffers_,
    statistics_factors,
)
from spherical_motion.optim.steering import Closing, StepHooks
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.groups import InvariantGroup

_WHERE = "ExponentialSchedule"


class ExponentialSchedule(Closing, LRScheduler):
    """Train without weight decay at a growing rate: the same networks as with it, at every step.

    Theorem 2.5 of Li & Arora (2020), for any learning rates, weight decays and heavy-ball momenta
    (see `growth`), exact up to rounding if the network has no norm-layer epsilon. It wraps any of
    torch's schedulers, which works in the rates of the decayed run; `step()` passes its arguments
    on. The growth follows the optimizer's steps, so the scheduler may step every epoch, and steps
    that a GradScaler skips do not count.

    Param groups with only scale-invariant parameters are steered; the others keep their rate and
    decay. Make both with `split_param_groups`. From time to time the weights of a steered group are
    divided by a power of two, their momentum multiplied by it and the running statistics of batch
    norms adapted (re-centring): nothing overflows or is rounded.

    `return_to_weight_decay()` turns it into the decayed run; `step()` then steps the wrapped
    scheduler. `close()` (or leaving a `with` block) keeps the grown rates and the absent decay:
    `step()` raises from then on, another ExponentialSchedule on them is refused, and only
    `return_to_weight_decay()` is left.

    To resume, make optimizer and schedule as at the start, then load the states of model, optimizer
    and schedule, in any order.

    The two runs differ if gradients are clipped by norm or value (they are smaller here, by P), and
    by the epsilon of norm layers, which counts less for longer weights.

    `spherical_motion.theory.ExponentialSchedule` holds the rates of a whole run as arrays; this
    class applies them.

    Args:
        model: its weights are re-centred.
        optimizer: `torch.optim.SGD` without nesterov and dampening.
        groups: as `find_groups` returns them.
        scheduler: attached to `optimizer`; None for constant settings.
        example_inputs: one batch as for `find_groups`; needed for running statistics (batch norm).
        largest: >= 2; weights are re-centred when they are this many times longer than those of
            the decayed run. The default suits float16 activations. With `math.inf` they never are,
            and a rate outside the weights' floating-point range raises.
        max_defect: groups with a larger defect count as not invariant; None takes all.
        on_event: called as `on_event("rescaled", groups=..., factor=...)` when weights are
            re-centred, for example `monitor.event`.

    Raises:
        InvalidArgument: a scheduler of another optimizer; no param group to steer, or one that
            mixes invariant parameters with others; rates that an earlier one left behind;
            dampening; a setting outside its range.
        NoTheory: an optimizer other than SGD, or nesterov.
        AlreadyAttached: something else steers this optimizer.
        OutOfDomain: decay so strong that α_t <= 0, also at a later step.

    >>> from spherical_motion import find_groups
    >>> from spherical_motion.optim import split_param_groups
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> groups = find_groups(model, torch.randn(16, 4))
    >>> split = split_param_groups(model, groups, lr=0.1, weight_decay=0.01)
    >>> optimizer = torch.optim.SGD(split, momentum=0.9)
    >>> cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    >>> schedule = ExponentialSchedule(model, optimizer, groups, cosine)
    >>> for _ in range(50):
    ...     model(torch.randn(16, 4)).square().mean().backward()
    ...     optimizer.step()
    ...     schedule.step()
    >>> invariant, other = schedule.get_last_lr()
    >>> round(other, 4), invariant > other, round(schedule.log_scales[0], 4)
    (0.05, True, 0.3432)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[InvariantGroup],
        scheduler: LRScheduler | ReduceLROnPlateau | None = None,
        *,
        example_inputs: object = None,
        largest: float = 16.0,
        max_defect: float | None = MAX_DEFECT,
        on_event: Callable[..., object] | None = None,
    ) -> None:
        StepHooks.refuse_second(optimizer, _WHERE)
        sgd = _checked_sgd(optimizer, scheduler)
        if largest != math.inf:
            largest = number(_WHERE, "largest", largest, least=2.0)
        self.largest = largest
        callable_or_none(_WHERE, "on_event", on_event, "on_event(kind, **data)")
        self.model, self.scheduler, self.on_event = model, scheduler, on_event
        self._closed = self._returned = False
        moved = invariant_param_groups(model, optimizer, groups, max_defect, _WHERE)
        self._steered = [SteeredGroup(sgd, index, own) for index, own in moved.items()]
        self._statistics = self._statistic_powers(moved, example_inputs)
        for steered in self._steered:
            # Raise before any setting changes.
            steered.rate(self.largest)
        bare = [group for group in optimizer.param_groups if "initial_lr" not in group]
        super().__init__(optimizer)
        for group in bare:  # a later scheduler must read the rates at its own start
            del group["initial_lr"]
        self._record_rates()
        self._hooks = StepHooks(optimizer, _WHERE, self._before, self._after)

    @property
    def log_scales(self) -> list[float]:
        """log P of each steered param group: log of its norm over that of the decayed run."""
        return [steered.growth.log_scale for steered in self._steered]

    def step(self, *args: object, **keywords: object) -> None:  # type: ignore[override]
        """Step the wrapped scheduler in the rates of the decayed run, then translate them.

        After `return_to_weight_decay` it only steps the wrapped scheduler.

        Args:
            args, keywords: passed to the wrapped scheduler's `step`, whatever its class takes: an
                epoch, or the metric of ReduceLROnPlateau.

        Raises:
            InvalidArgument: after `close`.
        """
        if self._closed and not self._returned:
            raise InvalidArgument(
                f"{_WHERE}.step() was called after close(): growth is no longer followed, so the "
                "next rate is not known. Call return_to_weight_decay() to go on with weight "
                "decay, or do not close before the end."
            )
        # LRScheduler.__init__ takes the first step; the wrapped scheduler has taken its own.
        if self.scheduler is not None and self._step_count > 0:
            self._step_wrapped(*args, **keywords)
        super().step()
        if not self._returned:
            for steered in self._steered:
                steered.write(steered.param_group["lr"])
        self._record_rates()

    def get_lr(self) -> list[float | torch.Tensor]:
        """The learning rates of all param groups at the coming step."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if not self._returned:
            for steered in self._steered:
                rates[steered.index] = steered.rate(self.largest)
        return rates

    def return_to_weight_decay(self) -> None:
        """Turn weights, gradients, momentum and settings into those of the decayed run; detach.

        Exact: w = w̃/P, g = Pg̃ and v = Pṽ + cw, at any place between two steps; the decayed run
        follows. Continue to step this schedule or the wrapped scheduler. Repeating it does nothing.
        Steps taken since a `close` count as steps without decay.

        Raises:
            NoTheory: state beside the momentum, whose scale is not known; nothing was changed.
        """
        if self._returned:
            return
        # First by 1: raise before any of them has changed.
        for steered in self._steered:
            steered.scale(1.0)
        for steered in self._steered:
            self._scale(steered, 1.0 / steered.growth.scale)
            steered.restore_held_decay()
        self._detach()

    def close(self) -> None:
        """Detach; weights, rates and the absent decay stay, and `step` raises from then on.

        Repeating it does nothing.
        """
        self._closed = True
        self._hooks.remove()

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers to resume from, the wrapped scheduler's state included."""
        return {
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "steered": [steered.state() for steered in self._steered],
            "returned": self._returned,
            "last_epoch": self.last_epoch,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resume from `state_dict`; load the model's and the optimizer's state too.

        Raises:
            InvalidArgument: the state of an optimizer with other param groups, or of a run with a
                scheduler where this has none (or the reverse); or this schedule is detached.
        """
        self._check_loadable(state_dict)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state_dict["scheduler"])
        for steered, stored in zip(self._steered, state_dict["steered"], strict=True):
            steered.load(stored)
        self.last_epoch = state_dict.get("last_epoch", self.last_epoch)
        # Count the steps before the checkpoint, so that torch does not warn about a missing one.
        self._step_count = self.last_epoch + 1
        if state_dict.get("returned", False):
            # The rates are the optimizer's own; loading its state brings them, before or after.
            self._detach()
            return
        for steered in self._steered:
            steered.write(steered.rate(self.largest))
        self._record_rates()

    def _check_loadable(self, state_dict: Mapping[str, Any]) -> None:
        check_state(_WHERE, state_dict, ("scheduler", "steered"))
        stored = [state["index"] for state in state_dict["steered"]]
        own = [steered.index for steered in self._steered]
        if stored != own:
            raise InvalidArgument(
                f"{_WHERE}.load_state_dict expects the state of a run that steered the param "
                f"groups {own}, got one that steered {stored}. Build the optimizer with the same "
                "split_param_groups."
            )
        if (state_dict["scheduler"] is None) != (self.scheduler is None):
            mine, its = ("without", "with") if self.scheduler is None else ("with", "without")
            raise InvalidArgument(
                f"{_WHERE}.load_state_dict expects the state of a run {mine} a scheduler, got one "
                f"{its}. Make it with the same kind of scheduler."
            )
        if self._closed or self._returned:
            raise InvalidArgument(
                f"{_WHERE}.load_state_dict: this schedule no longer steers its optimizer. Make a "
                "new one, and load into that."
            )

    def _detach(self) -> None:
        """Remove the hooks; write the settings of the decayed run into the param groups."""
        self._hooks.remove()
        self._returned = True
        for steered in self._steered:
            steered.give_back()
        self._record_rates()

    def _step_wrapped(self, *args: object, **keywords: object) -> None:
        step: Callable[..., None] = getattr(self.scheduler, "step")  # noqa: B009 its kinds differ
        if self._returned:
            step(*args, **keywords)
            return
        for steered in self._steered:
            steered.show_decayed()
        try:
            step(*args, **keywords)
        finally:
            for steered in self._steered:
                steered.read_decayed()

    def _record_rates(self) -> None:
        """Let `get_last_lr` show the current rates, and `last_epoch` the wrapped scheduler's."""
        self.last_epoch = getattr(self.scheduler, "last_epoch", self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _statistic_powers(
        self, moved: Mapping[int, Sequence[InvariantGroup]], example_inputs: object
    ) -> dict[int, dict[str, torch.Tensor]]:
        """By param group, buffer name → the power of the weights' scale by which it scales."""
        if math.isinf(self.largest) or not has_running_statistics(self.model):
            return {}
        if example_inputs is None:
            raise InvalidArgument(
                f"{_WHERE}: this model has running statistics (batch norm), which must follow when "
                "weights are re-centred, or evaluation would be wrong for a while. Pass "
                "example_inputs=..., one batch as for find_groups."
            )
        powers = {}
        for index, own in moved.items():
            found = statistics_factors(self.model, own, [2.0] * len(own), example_inputs)
            powers[index] = {name: factor.log2().round() for name, factor in found.items()}
        return powers

    def _before(self) -> None:
        for steered in self._steered:
            steered.check_untouched()
            if getattr(self.optimizer, "found_inf", None) is not None:
                raise InvalidArgument(
                    f"{_WHERE}: a fused optimizer skips a GradScaler's non-finite steps on the "
                    "device, where they cannot be counted without a sync. Use fused=False."
                )
            bits = steered.growth.excess_bits(self.largest) if self.largest < math.inf else 0
            if bits:
                self._scale(steered, 2.0**-bits)
                steered.growth = steered.growth.recentred(bits)
                if self.on_event is not None:
                    self.on_event(EventKind.RESCALED, groups=steered.names, factor=2.0**-bits)
            steered.write(steered.rate(self.largest))

    def _after(self) -> None:
        for steered in self._steered:
            steered.follow_step()

    def _scale(self, steered: SteeredGroup, factor: float) -> None:
        """Multiply weights by `factor`, and the state and statistics to match."""
        steered.scale(factor)
        powers = self._statistics.get(steered.index, {})
        scale_buffers_(self.model, {name: factor**power for name, power in powers.items()})


def _checked_sgd(optimizer: torch.optim.Optimizer, scheduler: object) -> torch.optim.SGD:
    """Raise unless the optimizer is an SGD and the scheduler is attached to it."""
    if not isinstance(optimizer, torch.optim.SGD):
        raise NoTheory(
            f"{_WHERE}: the equivalence is a theorem about SGD with momentum and L2 weight "
            f"decay (Li & Arora, 2020, 2.5), not about {type(optimizer).__name__}. Use "
            "torch.optim.SGD, or keep weight decay."
        )
    if scheduler is not None and getattr(scheduler, "optimizer", None) is not optimizer:
        raise InvalidArgument(
            f"{_WHERE}(scheduler=...) expects a scheduler of the optimizer it is given, got a "
            f"{type(scheduler).__name__} attached to another one (or to none). Make it from "
            "the same optimizer."
        )
    return optimizer
