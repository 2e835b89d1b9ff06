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

_after_step: weakref.WeakKeyDictionary[torch.optim.Optimizer, str] = weakref.WeakKeyDictionary()


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


def hold(
    optimizer: torch.optim.Optimizer, role: Role, holder: str, *, after_step: bool = False
) -> None:
    """Enter `holder`, a noun without its article, until `release`.

    `after_step` says that it changes weights after the optimizer's own step.
    """
    _holders.setdefault(optimizer, {})[role] = holder
    if after_step:
        _after_step[optimizer] = holder


def release(optimizer: torch.optim.Optimizer, role: Role) -> None:
    """Remove the holder of a role; it may be gone already."""
    gone = _holders.get(optimizer, {}).pop(role, None)
    if gone is not None and _after_step.get(optimizer) == gone:
        del _after_step[optimizer]


def steers_after_step(optimizer: torch.optim.Optimizer) -> str | None:
    """The holder that changes weights after the optimizer's own step, if there is one."""
    return _after_step.get(optimizer)
