"""What `load_state_dict` is given, looked at before anything is taken from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spherical_motion.errors import InvalidArgument

__all__ = ["check_state"]


def check_state(state: Any, where: str, keys: Sequence[str]) -> None:
    """Refuse a `state_dict` without the entries that are needed.

    Raises:
        InvalidArgument: it lacks one of `keys`, or is no mapping.

    >>> check_state({}, "ProportionalDecay", ["base"])
    Traceback (most recent call last):
        ...
    spherical_motion.errors.InvalidArgument: ProportionalDecay.load_state_dict expects what its
    state_dict() returned, with 'base', got a dict with the keys [].
    """
    if isinstance(state, Mapping) and all(key in state for key in keys):
        return
    found = f"a dict with the keys {[*state]}" if isinstance(state, Mapping) else repr(state)
    raise InvalidArgument(
        f"{where}.load_state_dict expects what its state_dict() returned, with "
        f"{', '.join(map(repr, keys))}, got {found}."
    )
