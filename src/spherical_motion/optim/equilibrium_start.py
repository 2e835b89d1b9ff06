"""Start the weights at the norms that weight decay would lead to.

At the default initialisation the norm of a group has little to do with the settings. It approaches
equilibrium in (1 - α)/(4ηλ) steps, times a logarithm; until then the angle of a step differs from
the one that the settings imply, and between layers. The network's function does not depend on the
norms, so they may be set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spherical_motion.binding import MAX_DEFECT, Members, bind, class_name
from spherical_motion.checks import callable_or_none, number
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.notices import listed, notify
from spherical_motion.optim.scaling import scale_buffers_, scale_members_, statistics_factors
from spherical_motion.optim.scaling.gradients import check_defect, check_finite, gradient_sizes
from spherical_motion.optim.steering import StepHooks
from spherical_motion.theory import GroupFacts, family_of
from spherical_motion.vocabulary import HyperParameters, InvariantGroup
from spherical_motion.vocabulary.events import EventKind

_WHERE = "scale_to_equilibrium"

Batch = TypeVar("Batch")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EquilibriumStart:
    """The measurements and results of `scale_to_equilibrium`; prints as a table.

    Attributes:
        names: of the groups; all arrays have their order, shape (groups,), float64.
        before, after: norms before and after the call.
        unit_grad_sq: mean of |g̃|² = |w|²|g|² over the batches.
        defect: |<w, g>|/(|w||g|) over the batches, of sums.
        left: name → why a group was left as it was.
    """

    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    unit_grad_sq: NDArray[np.float64]
    defect: NDArray[np.float64]
    left: dict[str, str]

    @property
    def factors(self) -> NDArray[np.float64]:
        """The factor of each group; 1 where it was left as it was."""
        ones = np.ones_like(self.after)
        return np.divide(self.after, self.before, out=ones, where=self.before > 0)

    def __str__(self) -> str:
        width = max(5, *(len(name) for name in self.names))
        lines = [f"{'group':<{width}}  {'norm before':>11}  {'after':>10}  {'factor':>9}"]
        for row in zip(self.names, self.before, self.after, self.factors, strict=True):
            lines.append(f"{row[0]:<{width}}  {row[1]:11.4g}  {row[2]:10.4g}  {row[3]:9.4g}")
        return "\n".join([*lines, *(f"{name}: {why}" for name, why in self.left.items())])


def scale_to_equilibrium(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[InvariantGroup],
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    *,
    lr: float | None = None,
    example_inputs: object = None,
    powers: Mapping[str, int] | None = None,
    max_defect: float | None = MAX_DEFECT,
    on_event: Callable[..., object] | None = None,
    unit_grad_sq: float | None = None,
    overlap: float | None = None,
    numel: float | None = None,
    unit_grad_rms: float | None = None,
    correlation: float | None = None,
    update_sq: float | None = None,
) -> EquilibriumStart:
    """Put every group at its equilibrium norm before training, without changing the function.

    The norm is `theory.equilibrium_norm` at the param group's settings, with the gradient measured
    on `batches`: for SGD the mean of |g̃|², noise between batches included and correlation between
    steps neglected; for Adam with L2 the RMS of each entry; for AdamW and Lion only the number of
    entries. The gradient will change; a factor 2 in its square is 19% of SGD's norm.

    A group without weight decay, norm or gradient is left as it is; `EquilibriumStart.left` and a
    notice name it. Nothing is trained. Buffers, random generators and modes are as before. Existing
    gradients and state are scaled to fit. An error leaves all weights unchanged.

    Args:
        model: in the mode it trains in.
        optimizer: its param groups hold the settings to aim for.
        groups: as `find_groups` returns them. Of groups that share entries the largest is taken;
            a notice names the others.
        batches: what `loss` takes, one at a time; 10 are plenty, each is one forward and backward.
        loss: `loss(batch)` gives the scalar that training minimises, at the model's weights.
        lr: the learning rate to aim for instead of the current one: a schedule's highest.
        example_inputs: one batch as for `find_groups`; if given, running statistics of norm layers
            follow, so that eval mode computes the same. At the very start they mean nothing yet.
        powers: for existing state of unknown optimizers; see `optim.scaling.state_powers`.
        max_defect: groups with a larger one, by their certificate or on these batches, are
            refused; None takes all.
        on_event: called as `on_event("rescaled", groups=..., factors=...)`; say `monitor.event`.
        unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq: as for
            `theory.equilibrium_norm`, used instead of measurements; Muon needs the last two.

    Raises:
        InvalidArgument: a group that is not invariant or not stepped by this optimizer, no batch,
            a loss that is not a scalar, not finite or not of the weights.
        ModelError: a gradient that is not finite, or a defect on these batches.
        OutOfDomain: no equilibrium: no group has weight decay, or lr × weight_decay is too large.
        NoTheory: an optimizer without a formula, or state that is not known how to scale.
        AlreadyAttached: another tool steers this optimizer.

    >>> from spherical_motion import find_groups
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    >>> groups = find_groups(model, torch.randn(16, 4))
    >>> loss = lambda x: model(x).square().mean()
    >>> start = scale_to_equilibrium(model, optimizer, groups, [torch.randn(16, 4)], loss)
    >>> round(float(start.after[0]), 3)              # √(32·1e-3/(2·0.1))
    0.4
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    StepHooks.refuse_second(optimizer, _WHERE)
    callable_or_none(_WHERE, "on_event", on_event, "on_event(kind, **data)")
    lr = None if lr is None else number(_WHERE, "lr", lr, above=0.0)
    members = bind(model, groups, optimizer, where=_WHERE, max_defect=max_defect)
    # By 1, so that unknown state raises before anything changes.
    scale_members_(optimizer, members, torch.ones(len(members), device=members.device), powers)
    settings = _settings(optimizer, members, lr)
    start = _measure(model, members, settings, batches, loss, facts, max_defect)
    _apply(model, optimizer, members, start.factors, example_inputs, powers)
    if start.left:
        notify(f"{_WHERE}: {listed([f'{name!r} ({why})' for name, why in start.left.items()])}")
    if on_event is not None:
        on_event(EventKind.RESCALED, groups=list(members.names), factors=start.factors.tolist())
    return start


def _measure(
    model: nn.Module,
    members: Members,
    settings: Sequence[HyperParameters],
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    facts: GroupFacts,
    max_defect: float | None,
) -> EquilibriumStart:
    """Measure the gradients and compute the norms to aim for."""
    left = {
        group.name: "left as it is: its weight decay is 0, so it has no equilibrium"
        for group, hp in zip(members.groups, settings, strict=True)
        if hp.weight_decay == 0.0
    }
    if len(left) == len(members):
        raise OutOfDomain(
            f"{_WHERE}: an equilibrium needs 0 < lr × weight_decay, and no group has any weight "
            f"decay (first {members.names[0]!r}). Set weight_decay in the param groups that step "
            "them."
        )
    roots = any(_needs_roots(hp) for hp in settings)
    sizes = gradient_sizes(_WHERE, model, members, batches, loss, roots)
    before = members.norms().cpu().numpy()
    check_finite(_WHERE, members, before, sizes)
    unit_grad_sq = sizes.square * before**2
    lengths = before * np.sqrt(sizes.square)
    defect = np.divide(np.abs(sizes.along), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    if max_defect is not None:
        check_defect(_WHERE, members, defect, max_defect, model)
    after = before.copy()
    for i, group in enumerate(members.groups):
        if group.name in left:
            continue
        if not lengths[i] > 0.0:
            what = "gradient" if before[i] else "norm"
            left[group.name] = f"left as it is: its {what} is zero"
            continue
        measured = {"unit_grad_sq": unit_grad_sq[i], "numel": group.numel}
        if roots:
            measured["unit_grad_rms"] = before[i] * sizes.root[i] / group.numel
        unknown = {name: x for name, x in measured.items() if getattr(facts, name) is None}
        after[i] = _norm(group, settings[i], dataclasses.replace(facts, **unknown))
    return EquilibriumStart(members.names, before, after, unit_grad_sq, defect, left)


def _settings(
    optimizer: torch.optim.Optimizer, members: Members, lr: float | None
) -> list[HyperParameters]:
    """The settings to aim for, by group; read once a param group."""
    read: dict[int, HyperParameters] = {}
    for i, name in enumerate(members.names):
        param_group = members.owner(i)
        if id(param_group) in read:
            continue
        hp = HyperParameters.from_param_group(class_name(optimizer), param_group)
        rate, decay = float(param_group["lr"]), param_group.get("weight_decay")
        if hp.lr != rate:  # `HyperParameters` leaves out settings outside their range
            raise InvalidArgument(
                f"{_WHERE}: group {name!r} is stepped with a setting outside its range: "
                f"lr={rate:g}, weight_decay={decay}, momentum={param_group.get('momentum')}, "
                f"betas={param_group.get('betas')}. Correct it in the optimizer's param group."
            )
        if lr is None and rate == 0.0 and hp.weight_decay > 0.0:
            raise InvalidArgument(
                f"{_WHERE}: the learning rate is 0 now, where nothing is in equilibrium (group "
                f"{name!r}). Pass lr=..., the highest rate of the schedule."
            )
        read[id(param_group)] = hp if lr is None else dataclasses.replace(hp, lr=lr)
    return [read[id(members.owner(i))] for i in range(len(members))]


def _needs_roots(hp: HyperParameters) -> bool:
    try:
        family = family_of(hp)
        return "unit_grad_rms" in (family.drive, *family.needs)
    except NoTheory:  # `_norm` raises it again, with the group's name
        return False


def _norm(group: InvariantGroup, hp: HyperParameters, facts: GroupFacts) -> float:
    """`theory.equilibrium_norm`; the message of an error names the group."""
    try:
        return family_of(hp).norm(hp, facts)
    except (InvalidArgument, NoTheory) as error:
        raise type(error)(
            f"{_WHERE}: group {group.name!r} at lr={hp.lr:g}, weight_decay={hp.weight_decay:g}: "
            f"{error}"
        ) from error


def _apply(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    members: Members,
    factors: NDArray[np.float64],
    example_inputs: object,
    powers: Mapping[str, int] | None,
) -> None:
    if not all(math.isfinite(f) and f > 0.0 for f in factors.tolist()):
        raise InvalidArgument(f"{_WHERE}: a factor is not finite and > 0: {factors.tolist()}.")
    statistics: Mapping[str, Tensor] = {}
    if example_inputs is not None:
        # Before the weights change, because it compares the model with itself, rescaled.
        statistics = statistics_factors(model, members.groups, factors.tolist(), example_inputs)
    scale_members_(optimizer, members, torch.from_numpy(factors).to(members.device), powers)
    scale_buffers_(model, statistics)
