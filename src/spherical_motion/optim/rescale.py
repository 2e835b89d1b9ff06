"""Weights put where they will come to rest, the moment the settings change.

After a drop of the learning rate the weights are too long for it: each step turns them by less
than the equilibrium angle until weight decay has shrunk them, which takes (1 - α)·ln k/(4ηλ)
steps and often longer than the training that is left. What a network with normalization layers
computes does not depend on those norms, so they can be set at once (wan2020, section 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn

from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.optim.hooks import StepHooks
from spherical_motion.optim.members import MAX_DEFECT, Members, bind
from spherical_motion.optim.running_statistics import (
    PROBE,
    Following,
    has_running_statistics,
    scale_buffers_,
    statistics_following,
    statistics_shifts,
)
from spherical_motion.optim.scaling import scale_pieces_
from spherical_motion.optim.settings import SettingsWatch
from spherical_motion.optim.state import merged_pieces, state_powers
from spherical_motion.theory import equilibrium_norm
from spherical_motion.vocabulary import HyperParameters, InvariantGroup

__all__ = ["RescaleOnDecay", "equilibrium_norm_ratio"]

THRESHOLD = 1.1
"""Of the equilibrium norm: for SGD a learning rate that fell by 1.46, for AdamW by 1.21."""

UNIT = {"unit_grad_sq": 1.0, "numel": 1.0, "unit_grad_rms": 1.0, "correlation": 1.0}


def equilibrium_norm_ratio(old: HyperParameters, new: HyperParameters) -> float:
    """‖w*‖ at the new settings over ‖w*‖ at the old ones; what the gradient is cancels.

    For a learning rate divided by k: SGD k^(-1/4), with momentum, Nesterov, L2 or decoupled decay
    alike; AdamW and Lion k^(-1/2); Adam with L2 k^(-1/3), all up to O(ηλ).

    Raises:
        NoTheory: no closed form for this optimizer.
        OutOfDomain: no equilibrium at one of the settings.

    >>> from dataclasses import replace
    >>> hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9)
    >>> round(equilibrium_norm_ratio(hp, replace(hp, lr=1e-4)), 4)
    0.3164
    """
    given: dict[str, Any] = {**UNIT, "update_sq": 1.0}
    return equilibrium_norm(new, **given) / equilibrium_norm(old, **given)


class RescaleOnDecay:
    """Rescales invariant groups whenever lr, weight decay or momentum changes.

    Watches the settings at each `optimizer.step()`, through an official pre hook, so any
    scheduler may drive them. When they have changed, every group that the param group steps is
    multiplied by c = ‖w*‖_new/‖w*‖_old (`equilibrium_norm_ratio`), all members alike, joint biases
    too; the gradients about to be used and running sums of them by 1/c, running sums of squares by
    1/c² (`STATE_POWERS`); running means and variances that follow the weights by c and c². The
    network computes the same function, in training and in eval mode, and a group that was in
    equilibrium is in equilibrium at the new settings, at once (wan2020, section 4.1).

    Rescaling is exact up to rounding and the norm layers' ε, whose share grows as weights shrink.

    Warm-up: no equilibrium was reached under the tiny rates it goes through, so with
    `skip_warmup` settings that have only raised the norm so far are followed without rescaling;
    everything from the first fall on is. While lr or weight decay is 0 there is no equilibrium
    and nothing is done; what changed meanwhile is made up for at the first step with one.

    What it is not: an improvement promised. Its authors report ImageNet accuracy unchanged (76.25
    to 76.27) and COCO box AP worse (39.25 to 38.38). Averages of weights over steps (EMA, SWA)
    mix scales across a rescaling: restart them there.

    Args:
        model: names the parameters.
        optimizer: steps them; its state is rescaled too.
        groups: what to rescale, from `find_groups`.
        example_inputs: needed where the model keeps running statistics, to measure which of them
            follow the weights; as for `find_groups`. They are kept, and run through the model at
            each rescaling, only if a bias in front of a batch norm makes that necessary.
        threshold: rescale only once ‖w*‖ has moved by more than this factor since the last
            rescaling, so that a cosine does not rescale at each step; 1 follows every change.
        skip_warmup: see above.
        factor: `factor(old, new)`, used instead of the closed form; for optimizers without one.
        powers: by name of the state tensor, for optimizers whose state is not known; see
            `optim.state.state_powers`.
        on_event: called as on_event("rescaled", groups=..., factor=..., lr=..., ...); pass
            `monitor.event`. A monitor's copies are taken after a rescaling, whichever was
            attached first.
        max_defect: largest |<w, g>|/(‖w‖‖g‖) of a group that is accepted; None for any.

    Raises:
        InvalidArgument: see the message; nothing was attached.
        NoTheory: no closed form or no state powers for this optimizer.
        AlreadyAttached: the optimizer is rescaled or rotated already.

    >>> from spherical_motion.invariance import find_groups
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8))
    >>> x = torch.randn(16, 4)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    >>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)
    >>> rescale = RescaleOnDecay(model, optimizer, find_groups(model, x), example_inputs=x)
    >>> norms = []
    >>> for _ in range(2):
    ...     model(x).square().mean().backward()
    ...     optimizer.step()
    ...     scheduler.step()
    ...     norms.append(float(model[0].weight.detach().norm()))
    >>> round(norms[1] / norms[0], 2)                                       # 10 ** -0.25
    0.56
    >>> rescale.close()
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[InvariantGroup],
        example_inputs: Any = None,
        *,
        threshold: float = THRESHOLD,
        skip_warmup: bool = True,
        factor: Callable[[HyperParameters, HyperParameters], float] | None = None,
        powers: Mapping[str, int] | None = None,
        on_event: Callable[..., None] | None = None,
        max_defect: float | None = MAX_DEFECT,
    ) -> None:
        name = type(self).__name__
        StepHooks.refuse_second(optimizer, name)
        if not (math.isfinite(threshold) and threshold >= 1.0):
            raise InvalidArgument(
                f"{name}(threshold=...) must be finite and >= 1, got {threshold!r}. It is a factor "
                "of the equilibrium norm; use 1 to follow every change."
            )
        self.members: Members = bind(model, groups, optimizer, where=name, max_defect=max_defect)
        self.threshold, self.skip_warmup = float(threshold), bool(skip_warmup)
        self._model, self._optimizer = model, optimizer
        self._factor, self._on_event = factor, on_event
        self._powers = state_powers(optimizer, powers)
        self._watch = SettingsWatch(optimizer, self.members, name)
        self._pieces = [merged_pieces(self.members, own) for own in self._watch.groups_of]
        self._statistics = self._probe(example_inputs)
        shifted = any(found.shifted for found in self._statistics)
        self._example_inputs = example_inputs if shifted else None
        self._reference: list[HyperParameters | None] = [None] * len(self._watch)
        self._fallen = [False] * len(self._watch)
        self._check_theory()
        self._look()
        self._hooks = StepHooks(optimizer, name, self._look)

    def close(self) -> None:
        """Take the hook off; weights stay as they are. Repeating it does nothing."""
        self._hooks.remove()

    def __enter__(self) -> RescaleOnDecay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<RescaleOnDecay of {len(self.members.groups)} groups, threshold {self.threshold:g}>"
        )

    def state_dict(self) -> dict[str, Any]:
        """The settings that each param group's weights are scaled for; plain numbers."""
        fields = ("optimizer", "lr", "weight_decay", "momentum", "beta2", "nesterov", "dampening")
        return {
            "reference": [
                hp and {f: getattr(hp, f) for f in (*fields, "decoupled")} for hp in self._reference
            ],
            "fallen": list(self._fallen),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; model and optimizer are loaded by themselves.

        Raises:
            InvalidArgument: it was taken with another number of param groups.
        """
        reference, fallen = list(state["reference"]), list(state["fallen"])
        if len(reference) != len(self._reference):
            raise InvalidArgument(
                f"RescaleOnDecay.load_state_dict: expected {len(self._reference)} param groups "
                f"with invariant members, got {len(reference)}. Rebuild it with the groups and the "
                "optimizer it was saved with."
            )
        self._reference = [hp and HyperParameters(**hp) for hp in reference]
        self._fallen = fallen
        self._watch.forget()

    def _look(self) -> None:
        """Compare the settings with those the weights are scaled for; rescale where needed."""
        for index, new in self._watch.changed():
            if new.lr == 0.0 or new.weight_decay == 0.0:
                continue
            old = self._reference[index]
            if old is None:
                self._reference[index] = new
                continue
            c = self._ratio(old, new)
            if c > 1.0 and self.skip_warmup and not self._fallen[index]:
                self._reference[index] = new
                continue
            self._fallen[index] |= c < 1.0
            if c != 1.0 and abs(math.log(c)) >= math.log(self.threshold):
                self._rescale(index, c)
                self._reference[index] = new
                self._tell(index, c, old, new)

    def _ratio(self, old: HyperParameters, new: HyperParameters) -> float:
        c = (self._factor or equilibrium_norm_ratio)(old, new)
        if not (math.isfinite(c) and c > 0.0):
            raise OutOfDomain(
                f"RescaleOnDecay: the factor from lr={old.lr:g}, weight_decay={old.weight_decay:g} "
                f"to lr={new.lr:g}, weight_decay={new.weight_decay:g} must be finite and > 0, got "
                f"{c!r}. Check factor=..."
            )
        return c

    def _rescale(self, index: int, c: float) -> None:
        scale_pieces_(self._optimizer, self._pieces[index], c, self._powers)
        self._scale_statistics(index, c)

    def _tell(self, index: int, c: float, old: HyperParameters, new: HyperParameters) -> None:
        if self._on_event is not None:
            self._on_event(
                "rescaled",
                groups=[group.name for group in self._groups(index)],
                factor=c,
                lr=new.lr,
                weight_decay=new.weight_decay,
                momentum=new.momentum,
                lr_before=old.lr,
                weight_decay_before=old.weight_decay,
                momentum_before=old.momentum,
            )

    def _probe(self, example_inputs: Any) -> list[Following]:
        """How running statistics follow each param group's weights when these are doubled."""
        if not has_running_statistics(self._model):
            return [Following({}, ())] * len(self._watch)
        if example_inputs is None:
            raise InvalidArgument(
                "RescaleOnDecay(example_inputs=...) is needed: the model keeps running statistics, "
                "which must follow the weights for eval mode to compute the same, and which of "
                "them do is measured. Pass a batch as to find_groups."
            )
        return [
            statistics_following(self._model, own, [PROBE] * len(own), example_inputs)
            for own in map(self._groups, range(len(self._watch)))
        ]

    def _groups(self, index: int) -> list[InvariantGroup]:
        return [self.members.groups[i] for i in self._watch.groups_of[index]]

    def _scale_statistics(self, index: int, c: float) -> None:
        found = self._statistics[index]
        shifts = statistics_shifts(self._model, self._groups(index), found, self._example_inputs)
        # The powers are whole numbers, known exactly.
        powers = {n: (p.log2() / math.log2(PROBE)).round() for n, p in found.factors.items()}
        scale_buffers_(self._model, {n: c**power for n, power in powers.items()}, shifts)

    def _check_theory(self) -> None:
        for hp in self._watch.settings():
            if self._factor is not None or hp.lr == 0.0 or hp.weight_decay == 0.0:
                continue
            try:
                equilibrium_norm_ratio(hp, hp)
            except NoTheory as error:
                raise NoTheory(
                    f"RescaleOnDecay: {error} Pass factor=callable(old, new) that returns what to "
                    "multiply the weights by."
                ) from None
