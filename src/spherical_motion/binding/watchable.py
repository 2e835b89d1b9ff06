"""Every group that can be watched: the certified ones, and each other matrix as a plain group.

This is binding's, because only binding knows which parameters an optimizer steps; `invariance`,
which certifies groups, knows the model alone and lies below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn

from spherical_motion.binding.arguments import as_optimizers
from spherical_motion.binding.coverage import first_gap
from spherical_motion.binding.names import NamedParameters
from spherical_motion.binding.stepping import Steppers
from spherical_motion.errors import InvalidArgument
from spherical_motion.invariance import inspect_model
from spherical_motion.measure.layout import is_measurable
from spherical_motion.notices import listed, notify
from spherical_motion.vocabulary.groups import InvariantGroup, Slice, module_of


def all_groups(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    example_inputs: object = None,
    *,
    granularity: Literal["layer", "filter"] = "layer",
    vectors: bool = False,
) -> tuple[InvariantGroup, ...]:
    """The certified groups of a model, and every other matrix that an optimizer steps.

    A matrix is a parameter of at least two axes: an embedding, a head, attention, a convolution
    without a norm. It becomes a group of its own with `kind="plain"` and no cells, which claims no
    symmetry: the balance law holds for it, the laws of the sphere do not. A matrix that certified
    groups cover only in part is watched whole as well; one that they cover entirely is not
    repeated. Tied weights appear once.

    Left out, with one notice, is what cannot be watched: frozen parameters, those that no
    optimizer steps (or several do), complex ones and floats of 8 bits, and certified groups with
    such a member, whose other matrices become plain.

    Args:
        model: names the parameters; `torch.compile`, DDP and DataParallel prefixes are dropped.
        optimizer: who steps them, one or several.
        example_inputs: as for `find_groups`. Left out, nothing is probed, the model never runs,
            and all groups are plain.
        granularity: of the certified groups, as for `find_groups`.
        vectors: gains, biases and single numbers (at most one axis) become plain groups too.

    Returns:
        Groups of distinct names in the order of the model's parameters, never empty. A plain
        group has its module's name (a parameter's own where a module holds several matrices).

    Raises:
        InvalidArgument: nothing can be watched; no model, or no optimizer.
        ModelError: the model cannot be probed on `example_inputs`. Leave them out, then.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> [(g.name, g.kind) for g in all_groups(model, optimizer, torch.randn(8, 1, 4, 4))]
    [('0', 'scale'), ('3', 'plain')]
    >>> [g.name for g in all_groups(model, optimizer, vectors=True)]
    ['0', '0.bias', '1.weight', '1.bias', '3', '3.bias']
    """
    optimizers = as_optimizers(optimizer, "all_groups", "optimizer")
    certified: tuple[InvariantGroup, ...] = ()
    if example_inputs is not None:
        certified = inspect_model(model, example_inputs, granularity).groups
    return with_plain(model, optimizers, certified, vectors=vectors, where="all_groups")


def with_plain(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    certified: Iterable[InvariantGroup] = (),
    *,
    vectors: bool = False,
    where: str,
    quiet: bool = False,
) -> tuple[InvariantGroup, ...]:
    """The groups of `certified` that can be watched, and a plain group for each other matrix.

    Args:
        model, optimizers, vectors: as for `all_groups`.
        certified: proven groups of this model.
        where: the caller's name, for messages.
        quiet: log no notice of what is left out.

    Raises:
        InvalidArgument: nothing can be watched; no model.
    """
    if not isinstance(model, nn.Module):
        raise InvalidArgument(
            f"{where}(model=...) expects a torch.nn.Module, got {type(model).__name__}."
        )
    named, steppers = NamedParameters(model), Steppers(optimizers)
    obstacles = {name: _obstacle(parameter, steppers) for name, parameter in named.items()}
    wanted = {name for name, p in named.items() if vectors or _is_matrix(p)}
    covering: dict[str, list[Slice]] = {}
    kept: list[InvariantGroup] = []
    left: dict[str, str] = {}
    for group in certified:
        pieces = [(named.bare_name(named[piece.parameter]), piece) for piece in group.slices]
        members = {name for name, _ in pieces}
        wanted |= members  # an unwatched bias is named too, since it costs the group
        if any(obstacles[name].why for name in members):
            continue
        if len({id(steppers.all_of(named[name])[0].optimizer) for name in members}) > 1:
            left[group.name] = "its members are stepped by several optimizers"
            continue
        kept.append(group)
        for name, piece in pieces:
            covering.setdefault(name, []).append(piece)
    left |= {name: o.why for name, o in obstacles.items() if o.why and name in wanted}
    if left:
        notify(f"{where} leaves out {_by_reason(left)}", quiet=quiet)
    alone = [
        name
        for name, parameter in named.items()
        if (vectors or _is_matrix(parameter))
        and not obstacles[name].why
        and (name not in covering or first_gap(parameter, covering[name]))
    ]
    if not kept and not alone:
        raise InvalidArgument(_nothing_to_watch(model, obstacles, left, where))
    place = {name: position for position, name in enumerate(obstacles)}
    groups = [*kept, *_plain_groups(named, alone, {group.name for group in kept})]
    groups.sort(key=lambda group: place[named.bare_name(named[group.parameters[0]])])
    return tuple(groups)


class Obstacle(NamedTuple):
    """Why a parameter cannot be watched, and what would change it; two empty texts if it can."""

    why: str = ""
    remedy: str = ""


def _obstacle(parameter: nn.Parameter, steppers: Steppers) -> Obstacle:
    owners = len(steppers.all_of(parameter))
    if not owners:
        return Obstacle(
            "not stepped by the optimizer",
            "Pass the optimizer that was made from this very model's parameters (after moving or "
            "wrapping it).",
        )
    if owners > 1:
        return Obstacle(
            f"stepped by {owners} param groups",
            "Put each parameter into one param group of one optimizer.",
        )
    if not parameter.requires_grad:
        return Obstacle("frozen", "Call requires_grad_() on what is to be trained.")
    if nn.parameter.is_lazy(parameter):
        return Obstacle(
            "without a shape until the model has run", "Run the model once before watching it."
        )
    if not is_measurable(parameter):
        why = f"{parameter.dtype} on {parameter.device.type}, which cannot be measured yet"
        return Obstacle(why, _measurable_instead(parameter))
    return Obstacle() if parameter.numel() else Obstacle("empty", "Watch a model with weights.")


def _measurable_instead(parameter: nn.Parameter) -> str:
    if not parameter.is_cpu:
        return "Move the model to the CPU, then make its optimizer."
    if parameter.is_floating_point():
        return (
            "Keep the weights in float32 and compute in low precision under torch.autocast, or let "
            "the optimizer step a float32 copy of the model and watch that copy."
        )
    return "Only dense weights in floating point of 16 to 64 bits can be measured."


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether it has two axes or more; without a shape yet, it may have."""
    return nn.parameter.is_lazy(parameter) or parameter.ndim >= 2


def _by_reason(left: Mapping[str, str]) -> str:
    """Names with the reason that they share, in parentheses."""
    alike: dict[str, list[str]] = {}
    for name, why in left.items():
        alike.setdefault(why, []).append(name)
    return "; ".join(f"{listed(names)} ({why})" for why, names in alike.items())


def _plain_groups(
    named: NamedParameters, alone: Sequence[str], taken: Iterable[str]
) -> Iterator[InvariantGroup]:
    """A group for each parameter of `alone`; no two of them, and none of `taken`, share a name."""
    names = set(taken)
    matrices = Counter(module_of(name) for name in alone if _is_matrix(named[name]))
    for full in alone:
        parameter, module = named[full], module_of(full)
        short = module and _is_matrix(parameter) and matrices[module] == 1 and module not in names
        name = module if short else full
        while name in names:
            name += " (whole)"
        names.add(name)
        whole = Slice(full, 0, 0, parameter.shape[0] if parameter.ndim else 1)
        yield InvariantGroup(name, "plain", (whole,), (), parameter.numel())


def _nothing_to_watch(
    model: nn.Module, obstacles: Mapping[str, Obstacle], left: Mapping[str, str], where: str
) -> str:
    """The message for a model of which nothing can be watched."""
    expected = f"{where}: expected an optimizer that steps a matrix of {type(model).__name__}"
    if not obstacles:
        return f"{expected}, which has no parameters."
    if any(not obstacle.why for obstacle in obstacles.values()):
        return f"{expected}, found only gains and biases. vectors=True watches these."
    found = left or {name: obstacle.why for name, obstacle in obstacles.items()}
    remedies = dict.fromkeys(obstacles[name].remedy for name in found)
    return f"{expected}, found none: {_by_reason(found)}. {' '.join(remedies)}"
