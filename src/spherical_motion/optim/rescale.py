"""Weights put where they will come to rest, the moment the settings change.

After a drop of the learning rate the weights are too long for it: each step turns them by less
than the equilibrium angle until weight decay has shrunk them, which takes (1 - α)·ln k/(4ηλ)
steps and often longer than the training that is left. What a network with normalization layers
computes does not depend on those norms, so they can be set at once (wan2020, section 4.1).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.binding import MAX_DEFECT, Members, bind, check_state
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.optim.arguments import check_callable, number
from spherical_motion.optim.hooks import Closing, StepHooks
from spherical_motion.optim.running_statistics import (
    PROBE,
    Following,
    has_running_statistics,
    scale_buffers_,
    statistics_following,
    statistics_shifts,
)
from spherical_motion.optim.scaling import scale_members_, scale_pieces_
from spherical_motion.optim.settings import SettingsWatch
from spherical_motion.optim.state import merged_pieces, state_powers
from spherical_motion.theory import family_of
from spherical_motion.vocabulary import HyperParameters, InvariantGroup

__all__ = ["RescaleOnDecay", "equilibrium_norm_ratio"]

THRESHOLD = 1.1
"""Of the equilibrium norm: for SGD a learning rate that fell by 1.46, for AdamW by 1.21."""

MARK = "rescaled_for"
"""Key of a param group: the settings its weights are scaled for, so that checkpoints know."""

MAX_DEFECT_AFTER = 0.01
"""Outputs of a small network with two batch norms change by 3% when defects have grown to this."""


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
    return family_of(new).unit_norm(new) / family_of(old).unit_norm(old)


class RescaleOnDecay(Closing):
    """Rescales invariant groups whenever lr, weight decay or momentum changes.

    Watches the settings at each `optimizer.step()`, through an official pre hook, so any
    scheduler may drive them. When they have changed, every group that the param group steps is
    multiplied by c = ‖w*‖_new/‖w*‖_old (`equilibrium_norm_ratio`), all members alike, joint biases
    too; the gradients about to be used and running sums of them by 1/c, running sums of squares by
    1/c² (`STATE_POWERS`); running means and variances that follow the weights by c and c². The
    network computes the same function, in training and in eval mode, and a group that was in
    equilibrium is in equilibrium at the new settings, at once (wan2020, section 4.1).

    Rescaling is exact up to rounding and the norm layers' ε, whose share grows as weights shrink:
    a group's defect goes as c^-2, and as c^-4 where a gain and the weights behind it are both
    rescaled in front of one norm. So no group is shortened further than to where its defect, taken
    to be its certificate's at the weights as they are now, would reach `max_defect_after`; a longer
    group is no loss but turns more slowly. When the settings rise again it is lengthened by as much
    less. It is said once on stderr, and each time as an event "rescaling_limited".

    Resuming: what the weights are scaled for is kept in the optimizer's param groups too, under
    "rescaled_for", and is read when this is made or the optimizer is loaded. A checkpoint without
    it was trained at the settings it holds.

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
        groups: what to rescale, from `find_groups`; or an `Inspection`.
        example_inputs: needed where the model has buffers of real numbers, to measure which of them
            are running statistics that follow the weights; as for `find_groups`. They are kept,
            and run through the model at a rescaling where a bias in front of a batch norm or a
            limited group makes that necessary.
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
        max_defect_after: largest that a rescaling may bring about, extrapolated as said above;
            None for any.

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
        max_defect_after: float | None = MAX_DEFECT_AFTER,
    ) -> None:
        name = type(self).__name__
        StepHooks.refuse_second(optimizer, name)
        if not number(name, "threshold", threshold) >= 1.0:
            raise InvalidArgument(
                f"{name}(threshold=...) must be finite and >= 1, got {threshold!r}. It is a factor "
                "of the equilibrium norm; use 1 to follow every change."
            )
        if (
            max_defect_after is not None
            and not number(name, "max_defect_after", max_defect_after) > 0
        ):
            raise InvalidArgument(
                f"{name}(max_defect_after=...) must be > 0 or None, got {max_defect_after!r}. "
                "It is the largest defect that shortening a group may give it; None allows any."
            )
        check_callable(name, "factor", factor, "factor(old, new)")
        check_callable(name, "on_event", on_event, "on_event(kind, **data)")
        self.members: Members = bind(model, groups, optimizer, where=name, max_defect=max_defect)
        self.threshold, self.skip_warmup = float(threshold), bool(skip_warmup)
        self.max_defect_after = max_defect_after
        self._model, self._optimizer = model, optimizer
        self._factor, self._on_event = factor, on_event
        self._powers = state_powers(optimizer, powers)
        self._watch = SettingsWatch(optimizer, self.members, name)
        self._check_theory()
        self._check_decay()
        self._pieces = [merged_pieces(self.members, own) for own in self._watch.groups_of]
        self._statistics = self._probe(example_inputs)
        self._floors = [
            self._floors_of(index, own) for index, own in enumerate(self._each_groups())
        ]
        needed = any(found.shifted for found in self._statistics) or any(map(any, self._floors))
        self._example_inputs = example_inputs if needed else None
        self._reference: list[HyperParameters | None] = [None] * len(self._watch)
        self._fallen = [False] * len(self._watch)
        self._scaled = [1.0] * len(self._watch)
        self._loaded = self._warned = False
        self._read_marks()
        self._hooks = StepHooks(optimizer, name, self._look, loaded=self._read_marks)

    def close(self) -> None:
        """Take the hooks off; weights stay as they are. Repeating it does nothing."""
        if self._hooks.attached:
            for group in self._watch.param_groups():
                group.pop(MARK, None)
        self._hooks.remove()

    def __repr__(self) -> str:
        return (
            f"<RescaleOnDecay of {len(self.members.groups)} groups, threshold {self.threshold:g}>"
        )

    def state_dict(self) -> dict[str, Any]:
        """The settings that each param group's weights are scaled for; plain numbers."""
        return {
            "reference": [hp and _as_dict(hp) for hp in self._reference],
            "fallen": list(self._fallen),
            "scaled": list(self._scaled),
            "floors": [list(own) for own in self._floors],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; model and optimizer are loaded by themselves.

        Raises:
            InvalidArgument: it was taken with other groups, or is no state of this class.
        """
        check_state("RescaleOnDecay", state, ("reference", "fallen"))
        reference, fallen = list(state["reference"]), list(state["fallen"])
        if not len(reference) == len(fallen) == len(self._reference):
            raise InvalidArgument(
                f"RescaleOnDecay.load_state_dict: expected {len(self._reference)} param groups "
                f"with invariant members, got {len(reference)}. Rebuild it with the groups and the "
                "optimizer it was saved with."
            )
        floors = [list(own) for own in state.get("floors", self._floors)]
        if [len(own) for own in floors] != [len(own) for own in self._floors]:
            raise InvalidArgument(
                f"RescaleOnDecay.load_state_dict: expected {len(self.members)} groups, got "
                f"{sum(map(len, floors))}. Rebuild it with the groups it was saved with."
            )
        self._reference = [hp and HyperParameters(**hp) for hp in reference]
        self._fallen, self._floors = fallen, floors
        self._scaled = list(state.get("scaled", [1.0] * len(reference)))
        self._loaded = True
        self._watch.forget()
        for index in range(len(reference)):
            self._mark(index)

    def _mark(self, index: int) -> None:
        """Write into the param group what its weights are scaled for: checkpoints take it along."""
        hp = self._reference[index]
        self._watch.param_groups()[index][MARK] = {
            "settings": hp and _as_dict(hp),
            "fallen": self._fallen[index],
            "scaled": self._scaled[index],
        }

    def _read_marks(self) -> None:
        """Start where the optimizer that was given or loaded left off, whoever rescaled there."""
        settings = self._watch.settings()
        for index, group in enumerate(self._watch.param_groups()):
            mark: dict[str, Any] | None = group.get(MARK)
            if mark is None and self._loaded:
                continue
            if mark is None:
                here = settings[index]
                still = here.lr == 0.0 or here.weight_decay == 0.0
                mark = {"settings": None if still else _as_dict(here)}
            kept: dict[str, Any] | None = mark["settings"]
            self._reference[index] = HyperParameters(**kept) if kept else None
            self._fallen[index] = mark.get("fallen", False)
            self._scaled[index] = mark.get("scaled", 1.0)
            self._mark(index)
        self._watch.forget()

    def _look(self) -> None:
        """Compare the settings with those the weights are scaled for; rescale where needed."""
        for index, new in self._watch.changed():
            if new.lr == 0.0 or new.weight_decay == 0.0:
                continue
            old = self._reference[index]
            c = 1.0 if old is None else self._ratio(old, new)
            if old is None or (c > 1.0 and self.skip_warmup and not self._fallen[index]):
                self._reference[index] = new
            else:
                self._fallen[index] |= c < 1.0
                if c != 1.0 and abs(math.log(c)) >= math.log(self.threshold):
                    self._rescale(index, c, old, new)
                    self._reference[index] = new
            self._mark(index)

    def _ratio(self, old: HyperParameters, new: HyperParameters) -> float:
        c = (self._factor or equilibrium_norm_ratio)(old, new)
        if not (isinstance(c, (int, float)) and math.isfinite(c) and c > 0.0):
            raise OutOfDomain(
                f"RescaleOnDecay: the factor from lr={old.lr:g}, weight_decay={old.weight_decay:g} "
                f"to lr={new.lr:g}, weight_decay={new.weight_decay:g} must be finite and > 0, got "
                f"{c!r}. Check factor=..."
            )
        return float(c)

    def _floors_of(self, index: int, groups: list[InvariantGroup]) -> list[float]:
        """Per group, the product of factors below which its defect is too large; at most 1."""
        if self.max_defect_after is None:
            return [0.0] * len(groups)
        root = 1.0 / self._power(index)
        shares = [group.defect / self.max_defect_after for group in groups]
        return [min(1.0, share**root) if share > 0.0 else 0.0 for share in shares]

    def _power(self, index: int) -> float:
        """Variances in front of norm layers go as this power of the factor: 2, or more in a chain.

        A gain and the weights behind it, both rescaled, feed one norm: of its σ² + ε, σ² goes as
        the 4th power. The running variances tell; where there are none, 2 is assumed.
        """
        found = self._statistics[index].factors.values()
        return max([2.0, *(float(p.max().log2()) / math.log2(PROBE) for p in found)])

    def _rescale(self, index: int, c: float, old: HyperParameters, new: HyperParameters) -> None:
        before, after = self._scaled[index], self._scaled[index] * c
        least = min(before, after)
        factors = [c if f <= least else max(f, after) / max(f, before) for f in self._floors[index]]
        short = [i for i, floor in enumerate(self._floors[index]) if floor > least]
        if not short:
            self._rescale_alike(index, c)
        elif any(factor != 1.0 for factor in factors):
            self._rescale_each(index, factors)
        self._scaled[index] = after
        names = [group.name for group in self._groups(index)]
        whole = [name for name, f in zip(names, self._floors[index], strict=True) if f <= least]
        if whole:
            self._tell("rescaled", old, new, groups=whole, factor=c)
        if short:
            self._tell(
                "rescaling_limited",
                old,
                new,
                groups=[names[i] for i in short],
                factors=[factors[i] for i in short],
                wanted=c,
                max_defect_after=self.max_defect_after,
            )
            self._warn([names[i] for i in short], c)

    def _rescale_alike(self, index: int, c: float) -> None:
        found = self._statistics[index]
        shifts = statistics_shifts(self._model, self._groups(index), found, self._example_inputs)
        scale_pieces_(self._optimizer, self._pieces[index], c, self._powers)
        # The powers are whole numbers, known exactly.
        powers = {n: (p.log2() / math.log2(PROBE)).round() for n, p in found.factors.items()}
        scale_buffers_(self._model, {n: c**power for n, power in powers.items()}, shifts)

    def _rescale_each(self, index: int, factors: list[float]) -> None:
        found, groups = self._statistics[index], self._groups(index)
        moved, shifts = {}, {}
        if found.factors:
            # Where groups follow each other factors multiply: no power of one number any more.
            moved = statistics_following(self._model, groups, factors, self._example_inputs).factors
            shifts = statistics_shifts(self._model, groups, found, self._example_inputs)
        spread = torch.ones(len(self.members), dtype=torch.float64)
        spread[self._watch.groups_of[index]] = torch.tensor(factors, dtype=torch.float64)
        spread = spread.to(self.members.device)
        scale_members_(self._optimizer, self.members, spread, self._powers)
        scale_buffers_(self._model, moved, shifts)

    def _warn(self, names: list[str], c: float) -> None:
        if self._warned:
            return
        self._warned = True
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        print(
            f"spherical-motion: RescaleOnDecay leaves group {names[0]!r}{more} longer than a "
            f"factor of {c:.3g} would make it: its defect would grow above "
            f"max_defect_after={self.max_defect_after:g}, where the epsilon of its norm layer "
            "changes what the network computes. Lower that eps, or start from longer weights.",
            file=sys.stderr,
        )

    def _tell(self, kind: str, old: HyperParameters, new: HyperParameters, **what: Any) -> None:
        if self._on_event is not None:
            self._on_event(
                kind,
                **what,
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
            name = next(n for n, b in self._model.named_buffers() if b.is_floating_point())
            raise InvalidArgument(
                "RescaleOnDecay(example_inputs=...) is needed: the model has buffers (first "
                f"{name!r}), which may be running statistics. Those must follow the weights for "
                "eval mode to compute the same, and which do is measured. Pass a batch as to "
                "find_groups."
            )
        return [
            statistics_following(self._model, own, [PROBE] * len(own), example_inputs)
            for own in self._each_groups()
        ]

    def _each_groups(self) -> list[list[InvariantGroup]]:
        return [self._groups(index) for index in range(len(self._watch))]

    def _groups(self, index: int) -> list[InvariantGroup]:
        return [self.members.groups[i] for i in self._watch.groups_of[index]]

    def _check_theory(self) -> None:
        for hp in self._watch.settings():
            if self._factor is not None or hp.lr == 0.0 or hp.weight_decay == 0.0:
                continue
            try:
                equilibrium_norm_ratio(hp, hp)
            except NoTheory as error:
                raise NoTheory(
                    f"RescaleOnDecay, {type(self._optimizer).__name__}: {error} Pass "
                    "factor=callable(old, new) that returns what to multiply the weights by."
                ) from None

    def _check_decay(self) -> None:
        """Refuse what could only do nothing; say where it will."""
        settings = self._watch.settings()
        idle = [i for i, hp in enumerate(settings) if hp.weight_decay == 0.0]
        names = [group.name for i in idle for group in self._groups(i)]
        if not names:
            return
        listed = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        if len(idle) == len(settings) and any(hp.lr > 0.0 for hp in settings):
            raise InvalidArgument(
                "RescaleOnDecay: weight_decay must be > 0 in a param group that steps a group, got "
                f"0 for all ({listed}): without decay no norm comes to rest and nothing would be "
                "rescaled. Give the optimizer weight decay, or leave RescaleOnDecay out."
            )
        print(
            f"spherical-motion: RescaleOnDecay leaves {listed} as they are ({len(names)} of "
            f"{len(self.members)} groups) while their param groups have weight_decay 0",
            file=sys.stderr,
        )


def _as_dict(hp: HyperParameters) -> dict[str, Any]:
    fields = ("optimizer", "lr", "weight_decay", "momentum", "beta2", "nesterov", "dampening")
    return {field: getattr(hp, field) for field in (*fields, "decoupled")}
