"""Hooks on `optimizer.step` that run before all others, for one steering tool at a time.

They run first because a monitor that copied the weights before a rescaling would record the
rescaling as part of the step.
"""

from __future__ import annotations

import abc
import weakref
from collections.abc import Callable
from typing import Any, Self

import torch
from torch.utils.hooks import RemovableHandle

from spherical_motion.binding import Role, check_optimizer, hold, refuse_second, release


class Closing(abc.ABC):
    """A tool that acts until it is closed, by `close()` or by leaving a `with` block."""

    @abc.abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StepHooks:
    """A pre hook and a post hook of an optimizer, moved in front of those registered already.

    `before` and `after` run around each step, before earlier hooks; `loaded` runs after
    `optimizer.load_state_dict`. `owner` is the class name of the tool, for messages.

    Attributes:
        has_closure: whether the current step was given a closure.

    Raises:
        AlreadyAttached: another tool acts on this optimizer.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        owner: str,
        before: Callable[[], None],
        after: Callable[[], None] | None = None,
        loaded: Callable[[], None] | None = None,
    ) -> None:
        self.refuse_second(optimizer, owner)
        self._optimizer = weakref.ref(optimizer)
        self.has_closure = False

        def hook(_: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # torch passes the optimizer itself as the first argument.
            self.has_closure = any(given is not None for given in (*args[1:], *kwargs.values()))
            before()

        self._handles = [_first(optimizer.register_step_pre_hook(hook))]
        if loaded is not None:
            self._handles.append(optimizer.register_load_state_dict_post_hook(lambda _: loaded()))
        if after is not None:
            self._handles.append(_first(optimizer.register_step_post_hook(lambda *_: after())))
        hold(optimizer, Role.STEER, owner, after_step=after is not None)

    @staticmethod
    def refuse_second(optimizer: object, owner: str) -> None:
        """Raise unless `optimizer` is a torch optimizer that no tool steers yet."""
        refuse_second(check_optimizer(optimizer, owner), Role.STEER, owner)

    @property
    def attached(self) -> bool:
        """Whether the hooks are still on."""
        return bool(self._handles)

    def remove(self) -> None:
        """Take the hooks off; may be repeated."""
        for handle in self._handles:
            handle.remove()
        optimizer = self._optimizer()
        if self._handles and optimizer is not None:
            release(optimizer, Role.STEER)
        self._handles = []


def _first(handle: RemovableHandle) -> RemovableHandle:
    """Move a hook to the front of its optimizer's, as `prepend=True` does for a module's hooks."""
    hooks: Any = handle.hooks_dict_ref()
    hooks.move_to_end(handle.id, last=False)
    return handle
