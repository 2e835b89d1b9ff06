"""What may watch a pass: the calls of norm layers, and the end of the forward."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from spherical_motion.invariance.running.norm_functions import Args, Function, Keywords


class Observer(Protocol):
    """Follows one forward pass and names its tensors by identity, see `graph.NormObserver`."""

    names: dict[int, str]

    def attach(self, model: nn.Module) -> None: ...
    def watching(self) -> contextlib.AbstractContextManager[object]: ...
    def norm_called(self, function: Function, args: Args, kwargs: Keywords) -> None: ...
    def hand_written_norm_called(self, result: Tensor, eps_share: float) -> None: ...
    def embedding_called(self, tokens: Tensor, table: Tensor, padding_idx: int | None) -> None: ...
    def forward_ended(self, outputs: Iterable[Tensor]) -> None: ...
