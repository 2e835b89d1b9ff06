"""Whether an optimizer took a step, when no hook after it was called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

Marks = tuple[tuple[object, int | float], ...]


class Traces:
    """What a step leaves on the weights and in the optimizer's state, noted before it.

    Of the state, only that of one parameter with a gradient is looked at: counters and averages
    change with each of its steps and, unlike weights, with nothing else. Nothing is read from a
    device before `tell_of_step`. torch's fused SGD leaves no trace but new values, so of one of
    its weights, the smallest, a copy is kept.

    Args:
        optimizer: whose step it is.
        parameters: some that it steps, at least one.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> adam = torch.optim.Adam([weight])
    >>> weight.grad = torch.ones(2)
    >>> traces = Traces(adam, [weight])
    >>> traces.tell_of_step()
    False
    >>> adam.step()
    >>> traces.tell_of_step()
    True
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]
    ) -> None:
        self._optimizer, self._parameters = optimizer, parameters
        self._versions = _versions(parameters)
        stepped = (i for i, p in enumerate(parameters) if p.grad is not None)
        self._place = next(stepped, 0)
        self._marks = self._marks_now()
        self._copy = self._copied() if self._is_silent() else None

    def tell_of_step(self) -> bool:
        """Whether the optimizer has taken a step since."""
        if self._copy is not None:
            return not torch.equal(self._copy[1], self._copy[0].detach())
        versions, marks = _versions(self._parameters), self._marks_now()
        written = versions != self._versions
        own = versions[self._place] != self._versions[self._place]
        replaced = [mark for mark, _ in self._marks] != [mark for mark, _ in marks]
        if self._marks and not replaced:
            # Where its state is as before, its weight was written by something else, if at all.
            return marks != self._marks or (written and not own)
        # A state that is new or in other tensors: made by the step, or loaded.
        return written or (bool(marks) and not self._marks)

    def _is_silent(self) -> bool:
        fused = any(group.get("fused") for group in self._optimizer.param_groups)
        return fused and "step" not in self._state and self._optimizer.defaults.get("betas") is None

    def _copied(self) -> tuple[torch.Tensor, torch.Tensor]:
        stepped = [p for p in self._parameters if p.grad is not None] or self._parameters
        smallest = min(stepped, key=torch.Tensor.numel)
        return smallest, smallest.detach().clone()

    @property
    def _state(self) -> Mapping[str, object]:
        # Not state[parameter], which would make an entry where there is none.
        return self._optimizer.state.get(self._parameters[self._place], {})

    def _marks_now(self) -> Marks:
        found: list[tuple[object, int | float]] = []
        for name, value in self._state.items():
            if isinstance(value, torch.Tensor):
                found.append((id(value), _version(value)))
            elif isinstance(value, int | float):
                found.append((name, value))
        return tuple(found)


def _versions(tensors: Sequence[torch.Tensor]) -> list[int]:
    return [_version(tensor) for tensor in tensors]


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was written in place; 0 if torch does not count it."""
    return 0 if tensor.is_inference() else tensor._version
