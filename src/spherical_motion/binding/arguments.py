"""Arguments that many constructors take, checked in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup

__all__ = ["as_groups", "check_max_defect", "check_state"]


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
