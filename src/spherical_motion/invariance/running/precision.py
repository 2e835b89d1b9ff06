"""The thresholds of each working precision: what counts as zero."""

from __future__ import annotations

import dataclasses

import torch

from spherical_motion.errors import InvalidArgument


@dataclasses.dataclass(frozen=True, slots=True)
class Precision:
    """What depends on the floating-point type of a probe.

    Attributes:
        dtype: what weights, buffers, inputs and casts inside the model are widened to.
        probes: number of random points; each makes chance agreement rarer.
        norm_eps: replaces the norm layers' ε. Not smaller: a constant channel is divided by its
            root, which must not lift rounding errors to the size of signals.
        zero: |Σt| counts as zero up to this times √Σ(ww·gg). In float64 true groups stay below
            4e-9 and false ones above 7e-3.
        change: largest relative change of an output that still counts as rounding.
        dead: a row has no gradient where ‖w‖‖g‖ is below this times that of a typical row.
    """

    dtype: torch.dtype
    probes: int
    norm_eps: float
    zero: float
    change: float
    dead: float


_KNOWN = {
    torch.float64: Precision(
        torch.float64, probes=3, norm_eps=1e-18, zero=1e-8, change=1e-6, dead=1e-12
    ),
    torch.float32: Precision(
        torch.float32, probes=4, norm_eps=1e-10, zero=1e-5, change=1e-4, dead=1e-5
    ),
}


def precision_of(dtype: torch.dtype) -> Precision:
    """The thresholds for `dtype`; raises InvalidArgument unless it is float64 or float32."""
    if dtype not in _KNOWN:
        raise InvalidArgument(
            f"find_groups(dtype=...) must be torch.float64 or torch.float32, got {dtype!r}. "
            "Use float64; float32 halves the memory and separates less sharply."
        )
    return _KNOWN[dtype]
