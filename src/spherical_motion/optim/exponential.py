"""An ordinary schedule with weight decay, run as a growing learning rate without it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from spherical_motion.binding import MAX_DEFECT, Piece, check_state, invariant_param_groups
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.optim.arguments import check_callable, number
from spherical_motion.optim.growing import Growth
from spherical_motion.optim.hooks import Closing, StepHooks
from spherical_motion.optim.running_statistics import (
    has_running_statistics,
    scale_buffers_,
    statistics_factors,
)
from spherical_motion.optim.scaling import scale_pieces_
from spherical_motion.vocabulary.groups import InvariantGroup, Slice

__all__ = ["ExponentialSchedule"]

_WHERE = "ExponentialSchedule"

MARK = "decayed_lr"
"""In a steered param group: the rate of the decayed run. Says that the others are not its own."""


@dataclasses.dataclass
class _Steered:
    """One param group: what the decayed run would be told, and how far ahead its weights are."""

    index: int
    lr: float
    weight_decay: float
    growth: Growth = dataclasses.field(default_factory=Growth)
    told: float = math.nan
    """The rate last written into the param group."""


class ExponentialSchedule(Closing, LRScheduler):
    """Train without weight decay at a growing rate: the same networks as with it, at every step.

    Theorem 2.5 of Li & Arora (2020), for any learning rates, weight decays and heavy-ball momenta
    (see `growing`), exact up to rounding if the network has no norm-layer epsilon. It wraps an
    ordinary scheduler, any of torch's, which goes on thinking in the rates of the decayed run;
    `step()` passes its arguments on. The growth itself follows the optimizer's steps, so the
    scheduler may be stepped every epoch, and steps that a GradScaler skips do not count.

    Param groups whose parameters are all scale-invariant are steered; the others keep their rate
    and decay. Make both with `split_param_groups`. Every so often the weights of a steered group
    are divided by a power of two, their momentum multiplied by it and the running statistics of
    batch norms adapted: nothing overflows, and as nothing is rounded the run stays the same.

    It ends in one of two ways. `return_to_weight_decay()` makes the decayed run out of it, and
    `step()` goes on as the wrapped scheduler's. `close()` (or leaving a `with` block) leaves the
    grown rates and the absent decay where they are, which are nobody's schedule: `step()` raises
    from then on, and another ExponentialSchedule on them is refused. Only
    `return_to_weight_decay()` leads on from there.

    To resume, make optimizer and schedule as at the start, then load the model's, the optimizer's
    and this one's state, in any order.

    What the equivalence does not survive: gradients clipped by norm or value (they are smaller
    here, by P), and the epsilon of norm layers, which counts less for longer weights.

    Not `spherical_motion.theory.ExponentialSchedule`, which holds the rates of a whole run as
    arrays; this is the object that applies them.

    Args:
        model: its weights are re-centred.
        optimizer: `torch.optim.SGD` without nesterov and dampening.
        groups: as `find_groups` returns them.
        scheduler: attached to `optimizer`; None for constant settings.
        example_inputs: needed if the model has running statistics (batch norm); one batch, as for
            `find_groups`.
        largest: >= 2; weights are re-centred when they are this many times longer than those of
            the decayed run. Small enough by default for float16 activations. `math.inf` never
            does it, and raises when the rate leaves the weights' floating-point range.
        max_defect: groups with a larger defect count as not invariant; None takes all.
        on_event: called as `on_event("rescaled", groups=..., factor=...)` when weights are
            re-centred, say with `monitor.event`.

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
        scheduler: Any = None,
        *,
        example_inputs: Any = None,
        largest: float = 16.0,
        max_defect: float | None = MAX_DEFECT,
        on_event: Callable[..., Any] | None = None,
    ) -> None:
        # Not LRScheduler.__init__: that would take a step of its own and patch optimizer.step.
        StepHooks.refuse_second(optimizer, _WHERE)
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
        if largest != math.inf and not number(_WHERE, "largest", largest) >= 2.0:
            raise InvalidArgument(f"{_WHERE}(largest=...) must be >= 2, got {largest}.")
        self.largest = float(largest)
        check_callable(_WHERE, "on_event", on_event, "on_event(kind, **data)")
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.on_event = on_event
        self._closed = self._returned = False
        moved = invariant_param_groups(model, optimizer, groups, max_defect, _WHERE)
        self._steered = [self._taken_over(index) for index in moved]
        self._names = {index: [group.name for group in own] for index, own in moved.items()}
        self._statistics = self._statistic_powers(moved, example_inputs)
        try:
            for steered in self._steered:
                self._tell(steered)
        except Exception:
            self._give_back()
            raise
        self.base_lrs = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self._hooks = StepHooks(optimizer, _WHERE, self._before, self._after)
        self._note()

    @property
    def log_scales(self) -> list[float]:
        """log P of each steered param group: its weights over those of the decayed run, in logs."""
        return [steered.growth.log_scale for steered in self._steered]

    def step(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Step the wrapped scheduler in the rates of the decayed run, then translate.

        After `return_to_weight_decay` the rates are those of the decayed run, and it only steps
        the wrapped scheduler.

        Raises:
            InvalidArgument: after `close`.
        """
        if self._returned:
            if self.scheduler is not None:
                self.scheduler.step(*args, **kwargs)
            self._note()
            return
        if self._closed:
            raise InvalidArgument(
                f"{_WHERE}.step() was called after close(): growth is no longer followed, so the "
                "next rate is not known. Call return_to_weight_decay() to go on with weight "
                "decay, or do not close before the end."
            )
        if self.scheduler is not None:
            with _Decayed(self):
                self.scheduler.step(*args, **kwargs)
        for steered in self._steered:
            self._tell(steered)
        self._note()

    def get_lr(self) -> list[float | torch.Tensor]:
        """The learning rates of all param groups, as they are now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def return_to_weight_decay(self) -> None:
        """Turn weights, gradients, momentum and settings into those of the decayed run; let go.

        The exact way back, w = w̃/P, g = Pg̃ and v = Pṽ + cw, at any place between two steps: what
        follows is the decayed run. Go on stepping this schedule or the wrapped scheduler, as you
        like. Repeating it does nothing. Steps taken since a `close` count as steps without decay.

        Raises:
            NoTheory: state beside the momentum, whose scale is not known; nothing was changed.
        """
        if self._returned:
            return
        # By 1 first: what would be refused in one of them is refused before any has changed.
        for steered in self._steered:
            scale_pieces_(self.optimizer, self._pieces(steered), 1.0)
        for steered in self._steered:
            scale, held = steered.growth.scale, steered.growth.held
            self._scale(steered, 1.0 / scale)
            with torch.no_grad():
                for parameter in self._parameters(steered):
                    buffer = self.optimizer.state[parameter].get("momentum_buffer")
                    if buffer is not None:
                        buffer.add_(parameter, alpha=held)
        self._let_go()

    def close(self) -> None:
        """Let go: the hooks come off, and weights, rates and the absent decay stay as they are.

        `step` raises from then on; see the class. Repeating it does nothing.
        """
        self._closed = True
        self._hooks.remove()

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on, the wrapped scheduler's state included; plain numbers."""
        return {
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "steered": [dataclasses.asdict(steered) for steered in self._steered],
            "returned": self._returned,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; load the model's and the optimizer's state too.

        Raises:
            InvalidArgument: it comes from an optimizer with other param groups, or from a run with
                a scheduler where this has none (or the reverse); or this one has let go.
        """
        check_state(_WHERE, state_dict, ("scheduler", "steered"))
        stored = state_dict["steered"]
        indices, own = [s["index"] for s in stored], [s.index for s in self._steered]
        if indices != own:
            raise InvalidArgument(
                f"{_WHERE}.load_state_dict expects the state of a run that steered the param "
                f"groups {own}, got one that steered {indices}. Build the optimizer with the same "
                "split_param_groups."
            )
        if (state_dict["scheduler"] is None) != (self.scheduler is None):
            raise InvalidArgument(
                f"{_WHERE}.load_state_dict expects the state of a run "
                f"{'without' if self.scheduler is None else 'with'} a scheduler, got one "
                f"{'without' if self.scheduler is not None else 'with'}. Make it with the same "
                "kind of scheduler."
            )
        if self._closed or self._returned:
            raise InvalidArgument(
                f"{_WHERE}.load_state_dict: this schedule has let go of its optimizer. Make a new "
                "one, and load into that."
            )
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state_dict["scheduler"])
        self._steered = [_Steered(**{**s, "growth": Growth(**s["growth"])}) for s in stored]
        if state_dict.get("returned", False):
            # Its rates are the optimizer's own again, which the optimizer's state brings; if that
            # is loaded already they are there.
            self._let_go()
            return
        for steered in self._steered:
            self._tell(steered)
        self._note()

    def _let_go(self) -> None:
        """Hooks off, and the settings of the decayed run in the param groups."""
        self._hooks.remove()
        self._returned = True
        self._give_back()
        self._note()

    def _give_back(self) -> None:
        for steered in self._steered:
            group = self.optimizer.param_groups[steered.index]
            if group.pop(MARK, None) is not None:
                group["lr"], group["weight_decay"] = steered.lr, steered.weight_decay

    def _taken_over(self, index: int) -> _Steered:
        group = self.optimizer.param_groups[index]
        if MARK in group:
            raise InvalidArgument(
                f"{_WHERE}: param_groups[{index}] holds the rate {group['lr']:g} and the absent "
                f"decay of an earlier {_WHERE} (its run with decay would be at lr "
                f"{group[MARK]:g}), and grown from there they would be nobody's. Call "
                "return_to_weight_decay() of the earlier one first; to resume, make this one "
                "before optimizer.load_state_dict, and load its own state too."
            )
        if isinstance(group["lr"], torch.Tensor):
            raise InvalidArgument(
                f"{_WHERE}: param_groups[{index}]['lr'] must be a float, got a tensor. The "
                "rate is computed on the host at every step; pass lr=float(...)."
            )
        return _Steered(index, float(group["lr"]), float(group["weight_decay"]))

    def _statistic_powers(
        self, moved: dict[int, list[InvariantGroup]], example_inputs: Any
    ) -> dict[int, dict[str, torch.Tensor]]:
        """By param group, buffer name → the power of the weights' scale that it goes with."""
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

    def _parameters(self, steered: _Steered) -> list[nn.Parameter]:
        # By index: load_state_dict replaces the dicts of param_groups.
        return self.optimizer.param_groups[steered.index]["params"]

    def _pieces(self, steered: _Steered) -> list[Piece]:
        return [
            Piece(p, Slice(name, 0, 0, len(torch.atleast_1d(p))), None, name)
            for i, p in enumerate(self._parameters(steered))
            for name in [f"param_groups[{steered.index}]['params'][{i}]"]
        ]

    def _settings(self, steered: _Steered) -> tuple[float, float, float]:
        group = self.optimizer.param_groups[steered.index]
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
        return steered.lr, steered.weight_decay, float(group["momentum"])

    def _tell(self, steered: _Steered) -> None:
        """Write the rate of the coming step into the param group."""
        group = self.optimizer.param_groups[steered.index]
        settings = self._settings(steered)
        rate, after = steered.growth.rate(*settings), steered.growth.after(*settings)
        finest = min((torch.finfo(p.dtype).max for p in group["params"]), default=math.inf)
        # A weight and its growth share the range; half of its exponents for each.
        if not (rate < finest and after.scale < math.sqrt(finest)):
            raise OutOfDomain(
                f"{_WHERE}: at log P = {after.log_scale:.1f} the rate {rate:.3g} or the weights "
                f"leave the range of their dtype (up to {finest:.3g}). "
                + (
                    "Pass a finite largest=..., so that they are re-centred."
                    if math.isinf(self.largest)
                    else f"Re-centring cannot cure a single step that grows the weights "
                    f"{after.scale / steered.growth.scale:.3g} times: lower lr × weight_decay, or "
                    "keep the weights in float32."
                )
            )
        group["lr"], group["weight_decay"], steered.told = rate, 0.0, rate
        group[MARK] = steered.lr

    def _before(self) -> None:
        for steered in self._steered:
            group = self.optimizer.param_groups[steered.index]
            if group["lr"] != steered.told or group["weight_decay"] != 0.0:
                raise InvalidArgument(
                    f"{_WHERE}: param_groups[{steered.index}] was changed from outside: expected "
                    f"lr={steered.told:g} and weight_decay=0, got lr={group['lr']:g} and "
                    f"weight_decay={group['weight_decay']:g}. Step this schedule, not the wrapped "
                    "scheduler; after loading the optimizer's state load this one's too."
                )
            if getattr(self.optimizer, "found_inf", None) is not None:
                raise InvalidArgument(
                    f"{_WHERE}: a fused optimizer skips a GradScaler's non-finite steps on the "
                    "device, where they cannot be counted without a sync. Use fused=False."
                )
            bits = steered.growth.excess_bits(self.largest) if self.largest < math.inf else 0
            if bits:
                self._recentre(steered, bits)
            self._tell(steered)

    def _after(self) -> None:
        for steered in self._steered:
            parameters = self._parameters(steered)
            skipped = [p for p in parameters if p.grad is None]
            if len(skipped) == len(parameters):
                continue
            settings, before = self._settings(steered), steered.growth
            steered.growth = before.after(*settings)
            if skipped:
                self._catch_up(skipped, before, steered.growth)

    def _recentre(self, steered: _Steered, bits: int) -> None:
        factor = 2.0**-bits
        self._scale(steered, factor)
        steered.growth = steered.growth.recentred(bits)
        if self.on_event is not None:
            self.on_event("rescaled", groups=self._names[steered.index], factor=factor)

    def _scale(self, steered: _Steered, factor: float) -> None:
        """Weights × factor, and what was gathered at them; a pending gradient too."""
        scale_pieces_(self.optimizer, self._pieces(steered), factor)
        self._scale_statistics(steered, factor)

    @torch.no_grad()
    def _catch_up(self, skipped: list[nn.Parameter], before: Growth, after: Growth) -> None:
        """Parameters without a gradient took no step, so the decayed run's w and v stayed.

        Their P and c are the group's all the same: w̃ = Pw and ṽ = (v - cw)/P at the new ones.
        """
        growth = math.exp(after.relative - before.relative)
        for parameter in skipped:
            parameter.mul_(growth)
            state = self.optimizer.state[parameter]
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = torch.zeros_like(parameter)
            drop = (after.held - before.held) / after.scale**2
            buffer.div_(growth).add_(parameter, alpha=-drop)

    def _scale_statistics(self, steered: _Steered, factor: float) -> None:
        powers = self._statistics.get(steered.index, {})
        scale_buffers_(self.model, {name: factor**power for name, power in powers.items()})

    def _note(self) -> None:
        self.last_epoch = getattr(self.scheduler, "last_epoch", 0)
        self._last_lr = self.get_lr()


class _Decayed:
    """Within it the param groups hold the settings of the decayed run, which are read back."""

    def __init__(self, schedule: ExponentialSchedule) -> None:
        self.optimizer, self.steered = schedule.optimizer, schedule._steered

    def __enter__(self) -> None:
        for steered in self.steered:
            group = self.optimizer.param_groups[steered.index]
            group["lr"], group["weight_decay"] = steered.lr, steered.weight_decay

    def __exit__(self, *exception: object) -> None:
        for steered in self.steered:
            group = self.optimizer.param_groups[steered.index]
            steered.lr, steered.weight_decay = float(group["lr"]), float(group["weight_decay"])
            group["lr"], group["weight_decay"] = steered.told, 0.0
