"""Hear the norm calls of a forward pass that runs as it always does."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from spherical_motion.invariance.running.eps_share import share_of_eps
from spherical_motion.invariance.running.literal_eps import LiteralEps
from spherical_motion.invariance.running.norm_functions import (
    NORMS,
    Args,
    Function,
    Keywords,
    uses_own_statistics,
)


class NormListener(TorchFunctionMode):
    """Calls `heard` for each norm call made while it is entered, and changes nothing.

    Norms of torch are heard, and norms written by hand that add an ε of up to 1e-3: the same calls,
    in the same order, as `NormFed.call` counts.

    Args:
        heard: takes whether the call used its input's own statistics, and the part of ε in what it
            divided by, None if unknown.

    >>> calls = []
    >>> with NormListener(lambda own, share: calls.append((own, float(share)))):
    ...     _ = torch.nn.LayerNorm(2, eps=1.0)(torch.tensor([1.0, -1.0]))
    >>> calls
    [(True, 0.5)]
    """

    def __init__(self, heard: Callable[[bool, Tensor | None], None]) -> None:
        super().__init__()
        self._heard = heard
        self._literals = LiteralEps(None)

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Keywords | None = None
    ) -> object:
        given = dict(kwargs or {})
        self._listen(func, args, given)
        result = func(*args, **given)
        with torch.no_grad():
            self._remember(func, args, given, result)
        return result

    def _listen(self, func: Function, args: Args, kwargs: Keywords) -> None:
        share: Tensor | None = None
        try:
            with torch.no_grad():
                if func in NORMS:
                    own = uses_own_statistics(func, args, kwargs)
                    share = share_of_eps(func, args, kwargs)
                elif found := self._literals.divisor(func, args):
                    own = True
                    share = None if math.isnan(found[1]) else torch.tensor(found[1])
                else:
                    return
        except Exception:  # what cannot be measured must not stop the model that runs
            own = True
        self._heard(own, share)

    def _remember(self, func: Function, args: Args, kwargs: dict[str, object], out: object) -> None:
        try:
            self._literals.remember(func, args, kwargs, out)
        except Exception:  # as above
            return
