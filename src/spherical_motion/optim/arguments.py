"""Arguments that several constructors here take, checked in the same words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup

__all__ = ["as_groups", "check_callable", "check_max_defect", "check_state", "number"]


def as_groups(groups: Any, where: str) -> Sequence[InvariantGroup]:
    """A sequence of groups from what was given for it; of an `Inspection`, its groups.

    Raises:
        InvalidArgument: something else, or none.

    >>> as_groups(["0"], "Rotational")
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: Rotational(groups=...) expects invariant groups, ...
    """
    given = getattr(groups, "groups", groups)
    if isinstance(given, Iterable) and not isinstance(given, (str, InvariantGroup)):
        given = list(given)
        foreign = [group for group in given if not isinstance(group, InvariantGroup)]
        if given and not foreign:
            return given
        if foreign:
            raise InvalidArgument(
                f"{where}(groups=...) expects invariant groups, got {foreign[0]!r} among them. "
                "smd.find_groups(model, example_inputs) finds a model's groups."
            )
    raise InvalidArgument(
        f"{where}(groups=...) expects at least one group in a sequence, got {groups!r}. "
        "smd.find_groups(model, example_inputs) finds a model's groups."
    )


def number(where: str, name: str, value: Any) -> Any:
    """`value`, checked to be a finite real number; tensors of one element count as one.

    Raises:
        InvalidArgument: it is not.

    >>> number("AdamG", "lr", 0.1)
    0.1
    """
    # A tensor elsewhere than on the CPU would have to be waited for.
    waits = isinstance(value, torch.Tensor) and not value.is_cpu
    try:
        finite = waits or (not isinstance(value, (str, bytes)) and math.isfinite(float(value)))
    except (TypeError, ValueError, RuntimeError):
        finite = False
    if not finite:
        raise InvalidArgument(f"{where}({name}=...) must be a finite number, got {value!r}.")
    return value


def check_max_defect(where: str, max_defect: Any) -> None:
    """Raise InvalidArgument unless it is None or a number >= 0; infinity accepts any defect."""
    try:
        fits = max_defect is None or (not isinstance(max_defect, str) and float(max_defect) >= 0.0)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InvalidArgument(
            f"{where}(max_defect=...) must be a number >= 0 or None, got {max_defect!r}. It is the "
            "largest |<w, g>|/(|w||g|) of a group that is taken for invariant."
        )


def check_state(where: str, state: Any, keys: Sequence[str]) -> None:
    """Raise InvalidArgument unless `state` is a mapping that holds `keys`."""
    missing = [key for key in keys if not isinstance(state, Mapping) or key not in state]
    if missing:
        raise InvalidArgument(
            f"{where}.load_state_dict: expected what {where}.state_dict() returned, with "
            f"{', '.join(map(repr, keys))}; {', '.join(map(repr, missing))} is missing. Load the "
            "state that was saved from it, not the model's or the optimizer's."
        )


def check_callable(where: str, name: str, value: Any, signature: str) -> None:
    """Raise InvalidArgument unless `value` is None or can be called."""
    if value is not None and not callable(value):
        raise InvalidArgument(
            f"{where}({name}=...) must be callable as {signature}, got {value!r}."
        )
