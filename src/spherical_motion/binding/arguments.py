"""Arguments that many constructors take, checked in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import SupportsFloat

import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup

MAX_DEFECT = 0.1
"""Largest defect of a group that still counts as invariant."""


def as_groups(groups: object, where: str) -> Sequence[InvariantGroup]:
    """The groups in a sequence, or those of an `Inspection`.

    Raises:
        InvalidArgument: it is something else, or has no groups.

    >>> as_groups(["0"], "Rotational")
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: Rotational(groups=...) expects invariant groups, ...
    """
    given = getattr(groups, "groups", groups)
    message = f"expects at least one group in a sequence, got {groups!r}"
    if isinstance(given, Iterable) and not isinstance(given, (str, InvariantGroup)):
        given = list(given)
        foreign = [group for group in given if not isinstance(group, InvariantGroup)]
        if given and not foreign:
            return given
        if foreign:
            message = f"expects invariant groups, got {foreign[0]!r} among them"
    raise InvalidArgument(
        f"{where}(groups=...) {message}. smd.find_groups(model, example_inputs) finds a model's "
        "groups."
    )


def as_optimizers(
    optimizers: object, where: str, name: str = "optimizers"
) -> list[torch.optim.Optimizer]:
    """A list of optimizers from one or several, given as the argument `name` of `where`.

    Raises:
        InvalidArgument: it is something else, or empty.
    """
    expected = "a torch.optim.Optimizer or several"
    given: Sequence[object] = [optimizers]
    if isinstance(optimizers, Sequence) and not isinstance(optimizers, str):
        given = optimizers
    if not given:
        raise InvalidArgument(f"{where}({name}=...) expects {expected}, got none.")
    return [check_optimizer(optimizer, where, name, expected) for optimizer in given]


def check_optimizer(
    optimizer: object,
    where: str,
    name: str = "optimizer",
    expected: str = "a torch.optim.Optimizer",
) -> torch.optim.Optimizer:
    """`optimizer`, checked to be one of torch.

    Raises:
        InvalidArgument: it is not.

    >>> check_optimizer("sgd", "Rotational")
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: Rotational(optimizer=...) expects a torch.optim.Opt...
    """
    if isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    raise InvalidArgument(
        f"{where}({name}=...) expects {expected}, got {type(optimizer).__name__}. A scheduler or "
        "wrapper holds it as `.optimizer`."
    )


def check_max_defect(where: str, max_defect: object) -> None:
    """Raise InvalidArgument unless it is None or a number >= 0; infinity accepts any defect."""
    try:
        fits = max_defect is None or (
            isinstance(max_defect, SupportsFloat) and float(max_defect) >= 0.0
        )
    except (TypeError, ValueError, RuntimeError, OverflowError):
        fits = False
    if not fits:
        raise InvalidArgument(
            f"{where}(max_defect=...) must be a number >= 0 or None, got {max_defect!r}. It is the "
            "largest |<w, g>|/(|w||g|) of a group that is taken for invariant."
        )


def why_not_invariant(group: InvariantGroup, max_defect: float | None) -> tuple[str, str] | None:
    """Why a group does not count as scale-invariant, and what to do; None if it does.

    Without `max_defect` unproven groups and those of any defect count too.
    """
    name = repr(group.name)
    if group.kind == "plain":
        return (
            f"group {name} is plain: it is watched, and not proven to be scale-invariant",
            "Steering needs the groups of smd.find_groups(model, example_inputs). Leave it out: "
            "[g for g in groups if g.kind == 'scale'].",
        )
    if group.kind != "scale":
        return (
            f"group {name} is a rescaling symmetry (kind {group.kind!r}), not an invariance",
            "Its members are multiplied by different powers of one factor, so it has no radius to "
            "steer. Leave it out: [g for g in groups if g.kind == 'scale'].",
        )
    if max_defect is None:
        return None
    if not group.proven:
        return (
            f"nobody has proven that group {name} is scale-invariant (its defect is NaN)",
            "Take it from smd.find_groups(model, example_inputs), or pass defect=0.0 if you are "
            "sure.",
        )
    if not group.defect <= max_defect:
        return (
            f"group {name} has a defect of {group.defect:.3g}, above {max_defect:g}",
            "The defect is |<w, g>|/(|w||g|). Leave the group out, or lower the norm layer's eps "
            "or raise the weights' scale and find the groups again.",
        )
    return None


def check_state(where: str, state: object, keys: Sequence[str]) -> None:
    """Raise InvalidArgument unless `state` is a mapping that holds `keys`."""
    missing = [key for key in keys if not isinstance(state, Mapping) or key not in state]
    if missing:
        raise InvalidArgument(
            f"{where}.load_state_dict: expected what {where}.state_dict() returned, with "
            f"{', '.join(map(repr, keys))}; {', '.join(map(repr, missing))} is missing. Load the "
            "state that was saved from it, not the model's or the optimizer's."
        )
