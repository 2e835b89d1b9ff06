"""Rescale weights to their new equilibrium norm as soon as the settings change.

After a drop of the learning rate by k the weights are too long: each step turns them by less than
the equilibrium angle until weight decay has shrunk them, which takes (1 - α)·ln k/(4ηλ) steps,
often more than the training has left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.binding import MAX_DEFECT, Members, bind, check_state
from spherical_motion.checks import callable_or_none, number
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.notices import notify
from spherical_motion.optim.scaling import (
    MARK,
    Factor,
    Rescaler,
    ScaledFor,
    limited,
    lowest_products,
    state_powers,
)
from spherical_motion.optim.steering import Closing, SettingsWatch, StepHooks
from spherical_motion.theory import family_of
from spherical_motion.vocabulary import HyperParameters, InvariantGroup
from spherical_motion.vocabulary.events import EventKind

THRESHOLD = 1.1
"""Factor of the equilibrium norm: for SGD a learning rate that fell by 1.46, for AdamW by 1.21."""

MAX_DEFECT_AFTER = 0.01
"""At such defects the outputs of a small network with two batch norms change by 3%."""


def equilibrium_norm_ratio(old: HyperParameters, new: HyperParameters) -> float:
    """‖w*‖ at the new settings over ‖w*‖ at the old ones; the gradient cancels.

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
    return family_of(new).norm_ratio(new, old, family_of(old))


class RescaleOnDecay(Closing):
    """Rescales invariant groups whenever lr, weight decay or momentum changes.

    Watches the settings at each `optimizer.step()`, so any scheduler may drive them. When those of
    a param group change, every group in it is multiplied by c = ‖w*‖_new/‖w*‖_old
    (`equilibrium_norm_ratio`), joint biases too; pending gradients and running sums of gradients by
    1/c, running sums of squares by 1/c² (`STATE_POWERS`); running means and variances that follow
    the weights by c and c². The network computes the same function, in training and in eval mode,
    and a group that was in equilibrium is so at the new settings, at once (wan2020, section 4.1).

    Rescaling is exact up to rounding and the norm layers' ε, whose share grows as weights shrink:
    a group's defect scales as c^-2, or as c^-4 where a gain and the weights behind it are both
    rescaled in front of one norm. So a group is not shortened beyond the point where its defect,
    extrapolated from its certificate, would reach `max_defect_after`; it then turns more slowly.
    When the settings rise again it is lengthened by as much less. This gives one notice, and an
    event "rescaling_limited" each time.

    Resuming: the optimizer's param groups hold the settings that the weights are scaled for, under
    "rescaled_for"; a new tool and a loaded optimizer start from them. A checkpoint without them
    counts as trained at the settings it holds.

    Warm-up: tiny rates reach no equilibrium, so with `skip_warmup` nothing is rescaled before the
    equilibrium norm falls for the first time. While lr or weight decay is 0 there is no equilibrium
    and nothing is done; the first step with one makes up for all changes since.

    This promises no better result: its authors report ImageNet accuracy unchanged (76.25 to 76.27)
    and COCO box AP worse (39.25 to 38.38). Averages of weights over steps (EMA, SWA) mix scales
    across a rescaling: restart them there.

    Args:
        model: names the parameters.
        optimizer: steps them; its state is rescaled too.
        groups: the groups to rescale, from `find_groups`; or an `Inspection`.
        example_inputs: as for `find_groups`; needed if the model has buffers of real numbers, to
            measure which of them follow the weights. They are kept, and run through the model at
            a rescaling with a limited group or a bias in front of a batch norm.
        threshold: rescale only when ‖w*‖ has moved by more than this factor since the last
            rescaling, so that a cosine does not rescale at each step; 1 follows every change.
        skip_warmup: see above.
        factor: `factor(old, new)`, used instead of the closed form; for optimizers without one.
        powers: by name of the state tensor, for optimizers whose state is not known; see
            `optim.scaling.state_powers`.
        on_event: called as on_event("rescaled", groups=..., factor=..., lr=..., ...); pass
            `monitor.event`. Monitors copy the weights after a rescaling.
        max_defect: largest |<w, g>|/(‖w‖‖g‖) of a group that is accepted; None for any.
        max_defect_after: largest extrapolated defect that a rescaling may cause; None for any.

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
        example_inputs: object = None,
        *,
        threshold: float = THRESHOLD,
        skip_warmup: bool = True,
        factor: Factor | None = None,
        powers: Mapping[str, int] | None = None,
        on_event: Callable[..., object] | None = None,
        max_defect: float | None = MAX_DEFECT,
        max_defect_after: float | None = MAX_DEFECT_AFTER,
    ) -> None:
        name = type(self).__name__
        StepHooks.refuse_second(optimizer, name)
        remedy = "It is a factor of the equilibrium norm; use 1 to follow every change."
        self.threshold = number(name, "threshold", threshold, least=1.0, remedy=remedy)
        if max_defect_after is not None:
            remedy = "It is the largest defect that shortening may give a group; None allows any."
            number(name, "max_defect_after", max_defect_after, above=0.0, remedy=remedy)
        callable_or_none(name, "factor", factor, "factor(old, new)")
        callable_or_none(name, "on_event", on_event, "on_event(kind, **data)")
        self.members: Members = bind(model, groups, optimizer, where=name, max_defect=max_defect)
        self.skip_warmup, self.max_defect_after = bool(skip_warmup), max_defect_after
        self._optimizer, self._factor, self._on_event = optimizer, factor, on_event
        powers = state_powers(optimizer, powers)
        self._watch = SettingsWatch(optimizer, self.members, name)
        _check_theory(optimizer, self._watch.settings(), factor)
        _check_decay(self._watch.settings(), self.members, self._watch.groups_of)
        self._rescaler = Rescaler(
            model, optimizer, self.members, self._watch.groups_of, example_inputs, powers
        )
        self._floors = [
            lowest_products(own, self._rescaler.power(index), max_defect_after)
            for index, own in enumerate(self._rescaler.groups)
        ]
        if not any(map(any, self._floors)):
            self._rescaler.release_inputs()
        self._scaled_for = [ScaledFor() for _ in range(len(self._watch))]
        self._loaded = self._warned = False
        self._read_marks()
        self._hooks = StepHooks(optimizer, name, self._follow, loaded=self._read_marks)

    def close(self) -> None:
        """Remove the hooks; weights stay as they are. Repeating it does nothing."""
        if self._hooks.attached:
            for group in self._watch.param_groups():
                group.pop(MARK, None)
        self._hooks.remove()

    def __repr__(self) -> str:
        return f"<RescaleOnDecay of {len(self.members)} groups, threshold {self.threshold:g}>"

    def state_dict(self) -> dict[str, Any]:
        """The settings that each param group's weights are scaled for; plain numbers."""
        marks = [own.mark() for own in self._scaled_for]
        keys = {"reference": "settings", "fallen": "fallen", "scaled": "scaled"}
        kept = {name: [mark[key] for mark in marks] for name, key in keys.items()}
        return {**kept, "floors": [list(own) for own in self._floors]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`; load model and optimizer besides.

        Raises:
            InvalidArgument: the state of other groups or of another class.
        """
        check_state("RescaleOnDecay", state, ("reference", "fallen"))
        reference, fallen = list(state["reference"]), list(state["fallen"])
        if not len(reference) == len(fallen) == len(self._scaled_for):
            raise InvalidArgument(
                f"RescaleOnDecay.load_state_dict: expected {len(self._scaled_for)} param groups "
                f"with invariant members, got {len(reference)}. Rebuild it with the groups and the "
                "optimizer it was saved with."
            )
        floors = [list(own) for own in state.get("floors", self._floors)]
        if [len(own) for own in floors] != [len(own) for own in self._floors]:
            raise InvalidArgument(
                f"RescaleOnDecay.load_state_dict: expected {len(self.members)} groups, got "
                f"{sum(map(len, floors))}. Rebuild it with the groups it was saved with."
            )
        products = state.get("scaled", [1.0] * len(reference))
        kept = zip(reference, fallen, products, strict=True)
        marks = [{"settings": own[0], "fallen": own[1], "scaled": own[2]} for own in kept]
        self._scaled_for, self._floors = [ScaledFor.from_mark(mark) for mark in marks], floors
        self._loaded = True
        self._watch.forget()
        for index in range(len(reference)):
            self._write_mark(index)

    def _write_mark(self, index: int) -> None:
        """Write the mark into the param group, so that checkpoints hold it."""
        self._watch.param_groups()[index][MARK] = self._scaled_for[index].mark()

    def _read_marks(self) -> None:
        """Start from the marks in the optimizer's param groups."""
        settings = self._watch.settings()
        for index, group in enumerate(self._watch.param_groups()):
            if MARK in group:
                self._scaled_for[index] = ScaledFor.from_mark(group[MARK])
            elif not self._loaded:
                self._scaled_for[index] = ScaledFor.at(settings[index])
            else:
                continue
            self._write_mark(index)
        self._watch.forget()

    def _follow(self) -> None:
        """Rescale the weights of param groups whose settings changed enough."""
        for index, new in self._watch.changed():
            own = self._scaled_for[index]
            factor = own.due(new, self._ratio, self.threshold, self.skip_warmup)
            if factor is not None:
                assert own.settings is not None
                self._rescale(index, factor, own.settings, new)
                own.settings = new
            self._write_mark(index)

    def _ratio(self, old: HyperParameters, new: HyperParameters) -> float:
        ratio = (self._factor or equilibrium_norm_ratio)(old, new)
        if not (isinstance(ratio, (int, float)) and math.isfinite(ratio) and ratio > 0.0):
            raise OutOfDomain(
                f"RescaleOnDecay: the factor from lr={old.lr:g}, weight_decay={old.weight_decay:g} "
                f"to lr={new.lr:g}, weight_decay={new.weight_decay:g} must be finite and > 0, got "
                f"{ratio!r}. Check factor=..."
            )
        return float(ratio)

    def _rescale(
        self, index: int, factor: float, old: HyperParameters, new: HyperParameters
    ) -> None:
        own, floors = self._scaled_for[index], self._floors[index]
        names = [group.name for group in self._rescaler.groups[index]]
        before, after = own.product, own.product * factor
        factors = limited(floors, before, after, factor)
        short = [i for i, floor in enumerate(floors) if floor > min(before, after)]
        if not short:
            self._rescaler.scale_alike(index, factor)
        elif any(each != 1.0 for each in factors):
            self._rescaler.scale_each(index, factors)
        own.product = after
        if whole := [name for i, name in enumerate(names) if i not in short]:
            self._record(EventKind.RESCALED, old, new, groups=whole, factor=factor)
        if short:
            limits = {"wanted": factor, "max_defect_after": self.max_defect_after}
            left = [names[i] for i in short]
            some = [factors[i] for i in short]
            self._record(EventKind.RESCALING_LIMITED, old, new, groups=left, factors=some, **limits)
            if not self._warned:
                self._warned = True
                more = f" and {len(left) - 1} more" if len(left) > 1 else ""
                notify(
                    f"RescaleOnDecay leaves group {left[0]!r}{more} longer than a factor of "
                    f"{factor:.3g} would make it: its defect would grow above max_defect_after="
                    f"{self.max_defect_after:g}, where the epsilon of its norm layer changes what "
                    "the network computes. Lower that eps, or start from longer weights."
                )

    def _record(
        self, kind: EventKind, old: HyperParameters, new: HyperParameters, **data: object
    ) -> None:
        if self._on_event is not None:
            keys = ("lr", "weight_decay", "momentum")
            data |= {key: getattr(new, key) for key in keys}
            data |= {f"{key}_before": getattr(old, key) for key in keys}
            self._on_event(kind, **data)


def _check_theory(
    optimizer: torch.optim.Optimizer, settings: Sequence[HyperParameters], factor: Factor | None
) -> None:
    """Raise NoTheory where neither the theory nor the user knows a factor."""
    for hp in settings:
        try:
            if factor is None and hp.lr != 0.0 and hp.weight_decay != 0.0:
                equilibrium_norm_ratio(hp, hp)
        except NoTheory as error:
            raise NoTheory(
                f"RescaleOnDecay, {type(optimizer).__name__}: {error} Pass "
                "factor=callable(old, new) that returns what to multiply the weights by."
            ) from None


def _check_decay(
    settings: Sequence[HyperParameters], members: Members, groups_of: Sequence[Sequence[int]]
) -> None:
    """Refuse an optimizer without decay; give notice of groups that stay as they are."""
    idle = [i for i, hp in enumerate(settings) if hp.weight_decay == 0.0]
    names = [members.names[number] for i in idle for number in groups_of[i]]
    if not names:
        return
    shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
    if len(idle) == len(settings) and any(hp.lr > 0.0 for hp in settings):
        raise InvalidArgument(
            "RescaleOnDecay: weight_decay must be > 0 in a param group that steps a group, got "
            f"0 for all ({shown}): without decay no norm comes to rest and nothing would be "
            "rescaled. Give the optimizer weight decay, or leave RescaleOnDecay out."
        )
    notify(
        f"RescaleOnDecay leaves {shown} as they are ({len(names)} of "
        f"{len(members)} groups) while their param groups have weight_decay 0"
    )
