"""Turn each step of an optimizer into a rotation by exactly the equilibrium angle.

Under weight decay the norm of an invariant group settles where each step turns it by Δ*, whatever
the gradient's size. A fixed norm and a prescribed angle skip the transient, in which some layers
turn too fast and others too slowly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spherical_motion.binding import MAX_DEFECT, Members, bind, check_state
from spherical_motion.checks import callable_or_none, number
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.optim.engine import LOST, CpuRotation, TorchRotation
from spherical_motion.optim.steering import Closing, SettingsWatch, SgdStep, StepHooks
from spherical_motion.theory import equilibrium_angle, family_of
from spherical_motion.vocabulary import HyperParameters, InvariantGroup


class Rotational(Closing):
    """Keeps every group's norm and lets each step turn it by the equilibrium angle.

    The wrapped optimizer steps as always. Then each group is turned by Δ* from its earlier weights,
    in the direction of the tangential part of the step, on the radius it had at the start. Δ* is
    `theory.equilibrium_angle` at the param group's lr, weight decay and momentum of that step, so
    schedulers work as usual. Parameters in no group keep the optimizer's step.

    The angle is exact to 1e-6 rad in float32, and closer in large groups: storing n rounded weights
    shifts it by about 1e-7/√n rad, which at 3e-3 rad is 1e-6 of the angle from a thousand entries
    on. In float64 it is exact to 1e-9 of the angle.

    At the edges:

    * lr or weight decay 0 (a warm-up's first step): Δ* is 0, the group does not move;
    * no gradient, or a step that the GradScaler skipped: the group does not change;
    * a zero gradient, or a group of one entry: no direction to turn to, the group does not move or
      decay;
    * a group of norm 0: the optimizer moves it until it has a norm, which then stays;
    * a step that is not finite: stays as it is, so that it is seen.

    `step(closure)` works. The pull of weight decay is radial and has no effect; with momentum and
    L2 decay the buffer also holds earlier pulls, in directions the weights have since left, as in
    ordinary training. Running statistics need no change. A monitor records the rotated weights,
    whichever was attached first.

    Memory: one copy of the weights, allocated here. With `torch.optim.SGD` with momentum on the CPU
    the step is read off its buffer, and nothing is copied.

    Args:
        model: names the parameters.
        optimizer: its steps are turned.
        groups: the groups to turn, from `find_groups`, by layer or by filter; or an `Inspection`.
        correlation: c = 1 + 2Σρ_k of its steps, for Muon and other optimizers with decoupled decay.
        angle: `angle(settings, group)` in radians, in [0, π), used instead of the closed form.
        max_defect: largest |<w, g>|/(‖w‖‖g‖) of a group that is accepted; None for any.

    Raises:
        InvalidArgument: see the message; nothing was attached.
        NoTheory: no angle follows from this optimizer's settings alone; pass
            `correlation` or `angle`.
        OutOfDomain: no equilibrium at these settings, here or, under a schedule, at a step.
        AlreadyAttached: the optimizer is rotated or rescaled already.

    >>> from spherical_motion.invariance import find_groups
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8))
    >>> x = torch.randn(16, 4)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    >>> before = model[0].weight.detach().clone()
    >>> with Rotational(model, optimizer, find_groups(model, x)) as rotational:
    ...     model(x)[:, 0].exp().sum().backward()
    ...     optimizer.step()
    ...     rotational.angles()["0"]
    0.0447250...
    >>> angle = torch.atan2((model[0].weight - before).norm() / 2, before.norm()) * 2
    >>> round(float(angle.detach()), 4)                                       # radians
    0.0447
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[InvariantGroup],
        *,
        correlation: float | None = None,
        angle: Callable[[HyperParameters, InvariantGroup], float] | None = None,
        max_defect: float | None = MAX_DEFECT,
    ) -> None:
        name = type(self).__name__
        StepHooks.refuse_second(optimizer, name)
        self.members: Members = bind(model, groups, optimizer, where=name, max_defect=max_defect)
        for rows in self.members.rows:
            if rows.parameter.dtype not in LOST:
                raise InvalidArgument(
                    f"{name}: parameter {rows.name!r} must be float32 or float64, got "
                    f"{rows.parameter.dtype}, in which a small rotation is lost to rounding. Keep "
                    "float32 weights and use torch.autocast."
                )
        callable_or_none(name, "angle", angle, "angle(settings, group)")
        if correlation is not None:
            number(name, "correlation", correlation)
            if angle is not None:
                raise InvalidArgument(f"{name} takes correlation=... or angle=..., not both.")
        self._correlation, self._angle = correlation, angle
        self._name = type(optimizer).__name__
        self._watch = SettingsWatch(optimizer, self.members, name)
        for index, hp in enumerate(self._watch.settings()):
            self._check(index, hp)
        self._before: list[Tensor] = []
        self._places: list[tuple[object, ...]] = []
        self._armed = self._reading = self._stale = self._own_radii = False
        self._step = SgdStep(optimizer, self.members)
        self._lay_out(self.members.norms())
        self._hooks = StepHooks(optimizer, name, self._before_step, self._turn, self._was_loaded)

    def angles(self) -> dict[str, float]:
        """The last prescribed angle of each group by name, radians; waits for the device."""
        return dict(zip(self.members.names, self._angles.tolist(), strict=True))

    def close(self) -> None:
        """Remove the hooks; the optimizer steps as before. Repeating it does nothing."""
        self._hooks.remove()
        self._rotate.close()

    def __repr__(self) -> str:
        return f"<Rotational of {len(self.members)} groups>"

    def state_dict(self) -> dict[str, Any]:
        """The radii; save model and optimizer besides.

        If only the optimizer is loaded, the radii become the norms of the weights at the next step.
        """
        return {"names": list(self.members.names), "radius": self._radius.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume with the radii of `state_dict`.

        Raises:
            InvalidArgument: the state of other groups.
        """
        check_state("Rotational", state, ("names", "radius"))
        saved, own = list(state["names"]), list(self.members.names)
        if saved != own:
            raise InvalidArgument(
                f"Rotational.load_state_dict: expected the radii of {len(own)} groups {own[:3]}..."
                f", got those of {len(saved)}: {saved[:3]}... Use the groups it was saved with."
            )
        self._radius.copy_(state["radius"])
        self._own_radii, self._stale = True, False

    def _was_loaded(self) -> None:
        """Renew the radii before the next step, by which the weights are loaded too."""
        self._stale = not self._own_radii

    def _check(self, index: int, hp: HyperParameters) -> None:
        """Raise unless Δ* is known for every group; a learning rate may be 0, as in a warm-up."""
        own = [self.members.groups[i] for i in self._watch.groups_of[index]]
        if self._angle is None and hp.weight_decay == 0.0:
            names = ", ".join(repr(group.name) for group in own[:3])
            raise InvalidArgument(
                "Rotational: weight_decay must be > 0 in every param group that steps a group, got "
                f"0 for {hp.optimizer} at lr={hp.lr:g}, which steps {names}"
                f"{', ...' if len(own) > 3 else ''} ({len(own)} of {len(self.members)}): without "
                "decay there is no equilibrium and no angle to turn by. Give the optimizer the "
                "weight decay you would train with (its pull itself has no effect here), leave "
                "those groups out, or pass angle=callable(settings, group)."
            )
        if self._correlation is not None and _follows_from_settings(hp):
            raise InvalidArgument(
                f"Rotational(correlation=...) is of no use for {self._name}: the angle follows "
                "from its settings. Leave it out."
            )
        for group in own if self._angle is not None else own[:1]:
            self._target(hp, group)

    def _target(self, hp: HyperParameters, group: InvariantGroup) -> float:
        if self._angle is not None:
            return self._own_angle(hp, group)
        if hp.lr == 0.0 or hp.weight_decay == 0.0:
            return 0.0  # the limit; and nothing moves
        try:
            return equilibrium_angle(hp, correlation=self._correlation)
        except OutOfDomain:
            raise
        except NoTheory as error:
            why = f"{error} Or"
        except InvalidArgument:
            why = (
                "its equilibrium angle follows from more than the settings "
                f"({family_of(hp).name}: it takes the size of each group's gradient). Use "
                "torch.optim.AdamW, or"
            )
        raise NoTheory(f"Rotational, {self._name}: {why} pass angle=callable(settings, group).")

    def _own_angle(self, hp: HyperParameters, group: InvariantGroup) -> float:
        assert self._angle is not None
        value = self._angle(hp, group)
        try:
            angle = float(value)
        except (TypeError, ValueError):
            angle = math.nan
        if not 0.0 <= angle < math.pi:
            raise OutOfDomain(
                f"Rotational(angle=...) must return radians in [0, π), got {value!r} for group "
                f"{group.name!r} at lr={hp.lr:g}, weight_decay={hp.weight_decay:g}."
            )
        return angle

    def _lay_out(self, radius: Tensor) -> None:
        """Allocate memory for the weights in their current layout."""
        members = self.members
        device = members.device
        losses = [LOST[own[0].parameter.dtype] for own in members.pieces]
        lost = torch.tensor(losses, dtype=torch.float64, device=device)
        turns = torch.tensor([group.numel > 1 for group in members.groups], device=device)
        backend = CpuRotation if CpuRotation.fits(members) else TorchRotation
        self._rotate = backend(members, turns, lost)
        self._before = [torch.empty_like(p.detach()) for p in members.parameters]
        self._places = self._where()
        self._radius = radius.to(device)
        self._angles = torch.zeros(len(members), dtype=torch.float64, device=device)
        self._own = [torch.tensor(own, device=device) for own in self._watch.groups_of]
        self._watch.forget()

    def _where(self) -> list[tuple[object, ...]]:
        return [(p.device, p.dtype, p.stride()) for p in self.members.parameters]

    @torch.no_grad()
    def _before_step(self) -> None:
        if self._where() != self._places:
            self._rotate.close()
            self._lay_out(self._radius)
        if self._stale:
            self._radius.copy_(self.members.norms())
            self._stale = False
        self._armed = True
        on_cpu = isinstance(self._rotate, CpuRotation)
        self._reading = on_cpu and self._step.can_be_read(self._hooks.has_closure)
        if not self._reading:
            # One call for all tensors; torch has no public name for it.
            weights = [p.detach() for p in self.members.parameters]
            torch._foreach_copy_(self._before, weights)  # pyright: ignore[reportPrivateImportUsage]

    def _turn(self) -> None:
        if not self._armed:
            return
        self._armed = False
        for index, hp in self._watch.changed():
            if self._angle is None:
                value = self._target(hp, self.members.groups[0])
                self._angles.index_fill_(0, self._own[index], value)
            else:
                for i in self._watch.groups_of[index]:
                    self._angles[i] = self._target(hp, self.members.groups[i])
        if self._reading and isinstance(self._rotate, CpuRotation):
            buffers, factors = self._step.read()
            self._rotate(buffers, self._angles, self._radius, factors)
        else:
            self._rotate(self._before, self._angles, self._radius)


def _follows_from_settings(hp: HyperParameters) -> bool:
    try:
        return "correlation" not in family_of(hp).needs
    except NoTheory:
        return False
