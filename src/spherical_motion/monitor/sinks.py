"""Where measured sums and events go."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Sink(Protocol):
    """Where a station's results go; the monitor is one."""

    def rows(
        self,
        step: int,
        gram: NDArray[np.float64],
        settings: NDArray[np.float64],
        slices: NDArray[np.int32],
    ) -> None:
        """Take the sums of one step."""
        ...

    def cells(self, step: int, group: int, gram: NDArray[np.float64]) -> None:
        """Take the sums of one group's cells."""
        ...

    def event(self, kind: str, /, step: int | None = None, **data: object) -> None:
        """Record that something happened."""
        ...
