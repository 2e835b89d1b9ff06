"""What may watch a pass: the calls of norm layers, and the end of the forward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

__all__ = ["Observer"]


class Observer(Protocol):
    """Follows one forward pass, see `graph.NormObserver`.

    Attributes:
        names: parameter name by identity of the tensor that stands in for it.
    """

    names: dict[int, str]

    def attach(self, model: nn.Module) -> None:
        """Hook the modules; whoever runs the model removes the hooks."""

    def watching(self) -> contextlib.AbstractContextManager[object]:
        """A mode in which the model runs."""
        ...

    def norm_called(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """A norm function was called."""

    def hand_written_norm_called(self, result: Tensor, eps_share: float) -> None:
        """A forward pass divided by the root of `result`, to which it had added an ε."""

    def embedding_called(self, tokens: Tensor, table: Tensor, padding_idx: int | None) -> None:
        """Rows of a table were looked up."""

    def forward_ended(self, outputs: Iterable[Tensor]) -> None:
        """The forward is over, the backward comes next."""
