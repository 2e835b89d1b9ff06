"""Weights that start where weight decay would have taken them.

At the default initialisation the norm of a group has little to do with the settings, and it takes
(1 - α)/(4ηλ) steps, times a logarithm, until it does: until then each step turns a group by another
angle than the settings say, and layers by different ones. What the network computes does not depend
on the norms, so they may be set. Where they come to rest follows from the settings and, for SGD,
from the size of the gradient, which a few batches tell.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spherical_motion.binding import MAX_DEFECT, Members, bind, class_name
from spherical_motion.errors import InvalidArgument, ModelError, NoTheory, OutOfDomain
from spherical_motion.invariance import undisturbed
from spherical_motion.optim.arguments import check_callable, number
from spherical_motion.optim.hooks import StepHooks
from spherical_motion.optim.running_statistics import scale_buffers_, statistics_factors
from spherical_motion.optim.scaling import scale_members_
from spherical_motion.theory import GroupFacts, family_of
from spherical_motion.vocabulary import HyperParameters, InvariantGroup

__all__ = ["EquilibriumStart", "scale_to_equilibrium"]

_WHERE = "scale_to_equilibrium"
SEED = 0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EquilibriumStart:
    """What `scale_to_equilibrium` measured and did; prints as a table.

    Attributes:
        names: of the groups; all arrays have their order, shape (groups,), float64.
        before: norms as they were.
        after: norms as they are now.
        unit_grad_sq: mean of |g̃|² = |w|²|g|² over the batches.
        defect: |<w, g>|/(|w||g|) over the batches, of sums.
        left: name → why a group was left as it was.
    """

    names: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray
    unit_grad_sq: np.ndarray
    defect: np.ndarray
    left: dict[str, str]

    @property
    def factors(self) -> np.ndarray:
        """What each group was multiplied by; 1 where it was left as it was."""
        return np.divide(
            self.after, self.before, out=np.ones_like(self.after), where=self.before > 0
        )

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
    batches: Iterable[Any],
    loss: Callable[[Any], Tensor],
    *,
    lr: float | None = None,
    example_inputs: Any = None,
    powers: Mapping[str, int] | None = None,
    max_defect: float | None = MAX_DEFECT,
    on_event: Callable[..., Any] | None = None,
    unit_grad_sq: float | None = None,
    overlap: float | None = None,
    numel: float | None = None,
    unit_grad_rms: float | None = None,
    correlation: float | None = None,
    update_sq: float | None = None,
) -> EquilibriumStart:
    """Put every group at its equilibrium norm, without changing the function and before training.

    The norm is `theory.equilibrium_norm` for the optimizer's family at the settings of the param
    group, with what it needs to know of the gradient measured on `batches`: for SGD the mean of
    |g̃|², noise between batches included and gradients of different steps taken for uncorrelated;
    for Adam with L2 the RMS of each entry; for AdamW and Lion nothing but the number of entries.
    The gradient will not stay what it is at the start; a factor 2 in its square is 19% of SGD's
    norm.

    A group without weight decay has no equilibrium and is left as it is, as is one whose norm or
    gradient is zero; both are in `EquilibriumStart.left`, and printed to stderr.

    Nothing is trained. Buffers, random generators and modes are as before. Gradients and state
    that are there already are scaled along, as gradients at the new weights would be. Whatever is
    refused is refused before any weight has changed.

    Args:
        model: in the mode it trains in.
        optimizer: its param groups hold the settings to aim for.
        groups: as `find_groups` returns them. Of those that share entries the largest is taken,
            and the others are left out, which is printed.
        batches: what `loss` takes, one at a time; 10 are plenty, each is one forward and backward.
        loss: `loss(batch)` gives the scalar that training minimises, at the model's weights.
        lr: the learning rate to aim for instead of the current one: the highest of a schedule that
            warms up.
        example_inputs: one batch as for `find_groups`; if given, running statistics of norm layers
            follow, so that eval mode computes the same. At the very start they mean nothing yet.
        powers: by name of the state tensor, for optimizers whose state is not known, should there
            be any already; see `optim.state.state_powers`.
        max_defect: groups with a larger one, by their certificate or on these batches, are
            refused; None takes all.
        on_event: called as `on_event("rescaled", groups=..., factors=...)`; say `monitor.event`.
        unit_grad_sq ... update_sq: as in `theory.equilibrium_norm`, known from elsewhere and used
            instead of what would be measured; Muon needs `correlation` and `update_sq`.

    Raises:
        InvalidArgument: a group that is not invariant or not stepped by this optimizer, no batch,
            a loss that is not a scalar, not finite or not of the weights.
        ModelError: a gradient that is not finite, or a defect on these batches.
        OutOfDomain: no equilibrium: no group has weight decay, or lr × weight_decay is too large.
        NoTheory: an optimizer without a formula, or state that is not known how to scale.
        AlreadyAttached: something steers this optimizer already.

    >>> from spherical_motion import find_groups
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    >>> groups = find_groups(model, torch.randn(16, 4))
    >>> data = [torch.randn(16, 4) for _ in range(3)]
    >>> start = scale_to_equilibrium(
    ...     model, optimizer, groups, data, lambda x: model(x).square().mean())
    >>> round(float(start.after[0]), 3)              # √(32·1e-3/(2·0.1))
    0.4
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    StepHooks.refuse_second(optimizer, _WHERE)
    check_callable(_WHERE, "on_event", on_event, "on_event(kind, **data)")
    if lr is not None and not float(number(_WHERE, "lr", lr)) > 0.0:
        raise InvalidArgument(f"{_WHERE}(lr=...) must be > 0, got {lr}.")
    members = bind(model, groups, optimizer, where=_WHERE, max_defect=max_defect)
    # By 1: a state that is refused is refused now, and nothing changes.
    ones = torch.ones(len(members), dtype=torch.float64, device=members.device)
    scale_members_(optimizer, members, ones, powers)
    settings = _settings(optimizer, members, lr)
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
    with _as_it_was(model):
        seen = _measure(members, batches, loss, roots)
    before = members.norms().cpu().numpy()
    _check_finite(members, before, seen)
    found_sq = seen.square * before**2
    lengths = before * np.sqrt(seen.square)
    defect = np.divide(np.abs(seen.along), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    if max_defect is not None:
        _check_defect(members, defect, max_defect, model)
    after = before.copy()
    for i, group in enumerate(members.groups):
        if group.name in left:
            continue
        if not lengths[i] > 0.0:
            left[group.name] = "left as it is: its " + ("norm" if not before[i] else "gradient")
            left[group.name] += " is zero"
            continue
        measured = {"unit_grad_sq": found_sq[i], "numel": group.numel}
        if roots:
            measured["unit_grad_rms"] = before[i] * seen.root[i] / group.numel
        unknown = {name: x for name, x in measured.items() if getattr(facts, name) is None}
        after[i] = _norm(group, settings[i], dataclasses.replace(facts, **unknown))
    result = EquilibriumStart(members.names, before, after, found_sq, defect, left)
    _apply(model, optimizer, members, result.factors, example_inputs, powers)
    _say(left)
    if on_event is not None:
        on_event("rescaled", groups=list(members.names), factors=result.factors.tolist())
    return result


@dataclasses.dataclass
class _Seen:
    """Per group, means over batches of |g|² and <w, g>, and the sum over entries of √mean g²."""

    square: np.ndarray
    along: np.ndarray
    root: np.ndarray


def _settings(
    optimizer: torch.optim.Optimizer, members: Members, lr: float | None
) -> list[HyperParameters]:
    """What each group is aimed for; read once a param group, of which there are few."""
    read: dict[int, HyperParameters] = {}
    for i, name in enumerate(members.names):
        param_group = members.owner(i)
        if id(param_group) in read:
            continue
        hp = HyperParameters.from_param_group(class_name(optimizer), param_group)
        rate, decay = float(param_group["lr"]), param_group.get("weight_decay")
        if hp.lr != rate:  # what is outside its range is not told
            raise InvalidArgument(
                f"{_WHERE}: group {name!r} is stepped with a setting outside its range: "
                f"lr={rate:g}, weight_decay={decay}, momentum={param_group.get('momentum')}, "
                f"betas={param_group.get('betas')}. Mend it in the optimizer's param group."
            )
        if lr is None and rate == 0.0 and hp.weight_decay > 0.0:
            raise InvalidArgument(
                f"{_WHERE}: the learning rate is 0 now, where nothing is in equilibrium (group "
                f"{name!r}). Pass lr=..., the highest rate of the schedule."
            )
        read[id(param_group)] = hp if lr is None else dataclasses.replace(hp, lr=float(lr))
    return [read[id(members.owner(i))] for i in range(len(members))]


def _needs_roots(hp: HyperParameters) -> bool:
    try:
        return "unit_grad_rms" in family_of(hp).needs
    except NoTheory:  # `_norm` says so, with the group's name
        return False


def _norm(group: InvariantGroup, hp: HyperParameters, facts: GroupFacts) -> float:
    """`theory.equilibrium_norm`; where it refuses, the message names the group."""
    try:
        return family_of(hp).norm(hp, facts)
    except (InvalidArgument, NoTheory) as error:
        raise type(error)(
            f"{_WHERE}: group {group.name!r} at lr={hp.lr:g}, weight_decay={hp.weight_decay:g}: "
            f"{error}"
        ) from error


def _say(left: Mapping[str, str]) -> None:
    if not left:
        return
    shown = [f"{name!r} ({why})" for name, why in list(left.items())[:3]]
    more = f", and {len(left) - 3} more" if len(left) > 3 else ""
    print(f"spherical-motion: {_WHERE}: {'; '.join(shown)}{more}", file=sys.stderr)


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Buffers, modules and random generators come back as they were."""
    kept = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with undisturbed(model, SEED):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


def _measure(
    members: Members, batches: Iterable[Any], loss: Callable[[Any], Tensor], roots: bool
) -> _Seen:
    parameters = members.parameters
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        raise InvalidArgument(f"{_WHERE}: every member is frozen. Unfreeze what is to be trained.")
    zeros = torch.zeros(len(members), dtype=torch.float64, device=members.device)
    square, along, count = zeros.clone(), zeros.clone(), 0
    squares = [torch.zeros_like(p, dtype=torch.float64) if roots else None for p in parameters]
    for batch in batches:
        with torch.enable_grad():
            value = loss(batch)
        _check_loss(value, count)
        found = iter(torch.autograd.grad(value.reshape(()), trained, allow_unused=True))
        grads = [next(found) if p.requires_grad else None for p in parameters]
        square += members.sums(grads, grads)
        along += members.sums([p.detach() for p in parameters], grads)
        for total, grad in zip(squares, grads, strict=True):
            if total is not None and grad is not None:
                total += grad.double().square()
        count += 1
    if not count:
        raise InvalidArgument(
            f"{_WHERE}(batches=...) is empty. A generator that was used up? Pass a few batches."
        )
    ones = [torch.ones_like(p) for p in parameters] if roots else []
    means = [None if s is None else (s / count).sqrt() for s in squares]
    root = members.sums(ones, means) if roots else zeros
    return _Seen((square / count).cpu().numpy(), (along / count).cpu().numpy(), root.cpu().numpy())


def _check_finite(members: Members, norms: np.ndarray, seen: _Seen) -> None:
    for what, values in (("norm", norms), ("gradient", seen.square), ("gradient", seen.along)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            more = f" (and of {bad.size - 1} more)" if bad.size > 1 else ""
            raise ModelError(
                f"{_WHERE}: the {what} of group {members.names[bad[0]]!r}{more} must be finite, "
                f"got {values[bad[0]]} in its square, though the loss is finite. "
                + (
                    "The weights have diverged already."
                    if what == "norm"
                    else "Look for a root or a division at 0 in the model "
                    "(torch.autograd.set_detect_anomaly), or an overflow at low precision."
                )
            )


def _check_loss(value: Any, batch: int) -> None:
    if not isinstance(value, Tensor):
        found = f"a {type(value).__name__}"
    elif value.numel() != 1:
        found = f"shape {tuple(value.shape)}"
    elif not value.isfinite():
        found = f"{value.item()}"
    elif not value.requires_grad:
        raise InvalidArgument(
            f"{_WHERE}(loss=...) must return a tensor that depends on the weights, got one "
            f"without a graph on batch {batch}. Leave out .detach(), .item() and no_grad()."
        )
    else:
        return
    raise InvalidArgument(
        f"{_WHERE}(loss=...) must return a finite scalar tensor, got {found} on batch {batch}. "
        "Average over the batch; check the inputs."
    )


def _check_defect(
    members: Members, defect: np.ndarray, max_defect: float, model: nn.Module
) -> None:
    worst = int(np.argmax(defect))
    if not defect[worst] <= max_defect:
        raise ModelError(
            f"{_WHERE}: on these batches group {members.names[worst]!r} is not scale-invariant, "
            f"its defect |<w, g>|/(|w||g|) is {defect[worst]:.3g}, expected <= {max_defect:g}. "
            + (
                "The loss may hold a penalty on the weights; leave it out here."
                if model.training
                else "The model is in eval mode, where batch norms use fixed statistics: call "
                "model.train()."
            )
        )


def _apply(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    members: Members,
    factors: np.ndarray,
    example_inputs: Any,
    powers: Mapping[str, int] | None,
) -> None:
    if not all(math.isfinite(f) and f > 0.0 for f in factors.tolist()):
        raise InvalidArgument(f"{_WHERE}: a factor is not finite and > 0: {factors.tolist()}.")
    statistics: Mapping[str, Tensor] = {}
    if example_inputs is not None:
        # Before the weights move: it compares the model with itself, rescaled.
        statistics = statistics_factors(model, members.groups, factors.tolist(), example_inputs)
    scale_members_(optimizer, members, torch.from_numpy(factors).to(members.device), powers)
    scale_buffers_(model, statistics)
