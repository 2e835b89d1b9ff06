"""Where measured sums and events go."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spherical_motion.vocabulary.events import EventKind

Array = NDArray[np.float64]

Settings = tuple[float, float, float, float | None]
"""lr, weight decay, momentum (β1) and β2 of a param group."""


class Sink(Protocol):
    """Where a station's results go; `Monitor` is one and documents the methods."""

    def settings(self, step: int, param_group: int, values: Settings) -> None: ...

    def rows(self, step: int, gram: Array, slices: NDArray[np.int32] | None) -> None: ...

    def cells(self, step: int, group: int, gram: Array) -> None: ...

    def correlation(self, step: int, group: int, rho: Array, update_sq: float) -> None: ...

    def audit(self, step: int, parameters: NDArray[np.int32], sums: Array) -> None: ...

    def audit_step(
        self,
        step: int,
        optimizer: int,
        counter: float,
        taken: float,
        grad_norm: float,
        skipped: str,
    ) -> None: ...

    def event(self, kind: EventKind, /, step: int | None = None, **data: object) -> None: ...
