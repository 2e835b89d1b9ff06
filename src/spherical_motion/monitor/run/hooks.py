"""Hooks on the steps of optimizers that may be taken off at any time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from torch.utils.hooks import RemovableHandle

from spherical_motion.monitor.tracing import untraced

Act = Callable[..., None]


class HookEntry:
    """An entry in a module's or optimizer's table of hooks, which finalizers may remove as well.

    The handles of torch refer to the table weakly, and Python has cleared weak references when a
    finalizer runs.

    >>> import torch
    >>> module = torch.nn.Identity()
    >>> entry = HookEntry(module.register_forward_hook(print))
    >>> entry.remove()
    >>> len(module._forward_hooks)
    0
    """

    def __init__(self, handle: RemovableHandle) -> None:
        self._id = handle.id
        found = (handle.hooks_dict_ref, *getattr(handle, "extra_dict_ref", ()))
        self._tables: list[Any] = [t for reference in found if (t := reference()) is not None]

    def move_to_front(self) -> None:
        """Let it be called before the others."""
        self._tables[0].move_to_end(self._id, last=False)

    def remove(self) -> None:
        """Remove it; it may be gone already."""
        for table in self._tables:
            table.pop(self._id, None)


_left: list[HookEntry] = []
"""Entries of hooks that could not be taken off when they ended; they do nothing."""


class StepHook:
    """A hook on steps, which may be taken off from within a step too, as when the monitor fails.

    torch walks through its table of hooks while it calls them, and raises if one is removed then.
    A hook that is taken off within a step holds nothing and does nothing from then on; its entry
    in the table goes when the next hook comes or goes outside of steps.

    Args:
        register: torch's function that registers a hook and returns its handle.
        act: is called with the hook's arguments.
        first: call it before all hooks that are registered already.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> hook = StepHook(optimizer.register_step_post_hook, lambda *_: print("stepped"))
    >>> optimizer.step()
    stepped
    >>> hook.remove()
    >>> optimizer.step()
    """

    def __init__(
        self, register: Callable[[Any], RemovableHandle], act: Act, *, first: bool = False
    ) -> None:
        held = [act]
        sweep()

        def hook(*arguments: object) -> None:
            for act in held:
                act(*arguments)

        self._held = held
        self._entry = HookEntry(register(untraced(hook)))
        if first:
            self._entry.move_to_front()

    def remove(self) -> None:
        """Take it off; may be repeated."""
        self.drop()
        sweep()

    def drop(self) -> None:
        """Let it do nothing from now on; finalizers, which run anywhere, must change no table."""
        self._held.clear()
        leave([self._entry])


def leave(entries: Iterable[HookEntry]) -> None:
    """Let the next `sweep` remove these entries, which do nothing any more."""
    _left.extend(entries)


def sweep() -> None:
    """Remove the entries that were left, unless a step is under way."""
    if not step_is_under_way():
        while _left:
            _left.pop().remove()


def step_is_under_way() -> bool:
    """Whether the calling thread is inside a step of an optimizer, with its hooks."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_qualname == "Optimizer.profile_hook_step.<locals>.wrapper":
            return True
        frame = frame.f_back
    return False
