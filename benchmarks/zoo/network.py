"""One entry of the zoo: how to build a network, what to feed it, and what is true of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from zoo.truth import Truth

__all__ = ["Network", "images", "token_ids"]


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """A network of the zoo.

    Attributes:
        name: as printed.
        build: makes the model, in the mode in which it is probed.
        inputs: makes the example inputs.
        derive: writes the truth, from the architecture alone.
        note: how it differs from the published network, and on which inputs it is probed.
        fast: whether the default tests hold the search against it.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    derive: Callable[[Truth], None]
    note: str
    fast: bool = False

    def made(self) -> tuple[nn.Module, Any]:
        """The model and its inputs, the same at every call."""
        state = torch.get_rng_state()
        torch.manual_seed(0)
        try:
            return self.build(), self.inputs()
        finally:
            torch.set_rng_state(state)

    def truth(self, model: nn.Module) -> Truth:
        """What is invariant in `model`, which `build` made."""
        truth = Truth({name: tuple(p.shape) or (1,) for name, p in model.named_parameters()})
        self.derive(truth)
        return truth


def images(batch: int, side: int, channels: int = 3) -> Callable[[], torch.Tensor]:
    """A batch of square images of standard normal pixels."""
    return lambda: torch.randn(batch, channels, side, side)


def token_ids(batch: int, length: int, vocabulary: int, first: int = 0) -> Callable[[], Any]:
    """Token ids in which each of first..vocabulary-1 occurs; batch · length must suffice."""

    def make() -> torch.Tensor:
        ids = first + torch.arange(batch * length) % (vocabulary - first)
        return ids[torch.randperm(batch * length)].reshape(batch, length)

    return make
