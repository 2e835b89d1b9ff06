"""Who holds an optimizer: one monitor and one steering tool at a time."""

from __future__ import annotations

import enum
import weakref

import torch

from spherical_motion.errors import AlreadyAttached


class Role(enum.Enum):
    """What the holder of an optimizer does; two of one role exclude each other."""

    WATCH = "watches"
    STEER = "acts on"


_holders: weakref.WeakKeyDictionary[torch.optim.Optimizer, dict[Role, str]] = (
    weakref.WeakKeyDictionary()
)


def refuse_second(optimizer: torch.optim.Optimizer, role: Role, where: str) -> None:
    """Raise AlreadyAttached if something holds the optimizer in this role.

    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> hold(optimizer, Role.STEER, "Rotational")
    >>> refuse_second(optimizer, Role.WATCH, "Monitor")
    >>> refuse_second(optimizer, Role.STEER, "RescaleOnDecay")
    Traceback (most recent call last):
        ...
    spherical_motion.errors.AlreadyAttached: RescaleOnDecay: a Rotational acts on this SGD ...
    """
    holder = _holders.get(optimizer, {}).get(role)
    if holder is not None:
        article = "an" if holder[0] in "AEIOU" else "a"
        raise AlreadyAttached(
            f"{where}: {article} {holder} {role.value} this {type(optimizer).__name__} already, "
            "and only one may. Close that one first: .close()."
        )


def hold(optimizer: torch.optim.Optimizer, role: Role, holder: str) -> None:
    """Enter `holder`, a noun without its article, until `release`."""
    _holders.setdefault(optimizer, {})[role] = holder


def release(optimizer: torch.optim.Optimizer, role: Role) -> None:
    """Remove the holder of a role; it may be gone already."""
    _holders.get(optimizer, {}).pop(role, None)
