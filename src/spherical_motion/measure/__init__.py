"""Measure the inner products of a step; nothing else is ever measured.

In: weights before and after a step, its gradient, and what its optimizer made of it. Out: a `Gram`
of arrays, one number a row or slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure import reference
from spherical_motion.measure.backend import Backend, Needs, RowSet, StepSums
from spherical_motion.measure.cpu import CpuGram
from spherical_motion.measure.cpu_backend import CpuBackend
from spherical_motion.measure.layout import check_measurable
from spherical_motion.measure.preconditioner import Preconditioner
from spherical_motion.vocabulary.gram import FIELDS, Gram

__all__ = [
    "BACKENDS",
    "DEVICES",
    "Backend",
    "CpuBackend",
    "CpuGram",
    "StepSums",
    "Needs",
    "Preconditioner",
    "RowSet",
    "backend_of",
    "gram",
]

BACKENDS = ("auto", "reference", "cpu")
"""What `gram(backend=...)` accepts. "auto" is "cpu" for tensors on the CPU."""

DEVICES: dict[str, type[Backend]] = {"cpu": CpuBackend}
"""The backend that measures weights on each kind of device."""


def backend_of(weights: Sequence[torch.Tensor], rows: Sequence[RowSet]) -> Backend:
    """The backend for these weights, set up for these rows.

    Args:
        weights: all on one kind of device.
        rows: what it will be asked to measure.

    Raises:
        InvalidArgument: weights on several kinds of device, or on one that has no backend.

    >>> w = torch.ones(3)
    >>> type(backend_of([w], [RowSet([(0, 0, 0, 3)])])).__name__
    'CpuBackend'
    """
    kinds = {weight.device.type for weight in weights} or {"cpu"}
    if len(kinds) > 1 or not kinds <= set(DEVICES):
        raise InvalidArgument(
            f"backend_of: weights must lie on one kind of device of {', '.join(DEVICES)}, got "
            f"{', '.join(sorted(kinds))}. Watch those of other devices with a monitor of their own."
        )
    return DEVICES[kinds.pop()](weights, rows)


def gram(
    before: torch.Tensor, after: torch.Tensor, grad: torch.Tensor | None, backend: str = "auto"
) -> Gram:
    """The six inner products of weights, step and gradient, row by row.

    Made for occasional use; `CpuGram` measures the same tensors step after step.

    Args:
        before: weights before the step, shape (rows, ...), float32 or float64; all axes after the
            first belong to the row.
        after: weights after the step, same shape and dtype.
        grad: loss gradient at `before`, without weight decay, same shape and dtype. None: the
            three products with it are NaN.
        backend: "auto", "cpu" (compiled, on threads) or "reference" (plain float64 torch).

    Returns:
        A Gram of (rows,) arrays.

    Raises:
        InvalidArgument: shapes or dtypes differ, an unknown backend, a dtype or device that
            cannot be measured.

    >>> from spherical_motion import sphere
    >>> w = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> moved = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    >>> sphere.angle(gram(w, moved, grad=None))              # radians: a turn, then a shrinking
    array([0.78539816, 0.        ])
    """
    if backend not in BACKENDS:
        raise InvalidArgument(
            f"gram(backend=...) must be one of {', '.join(BACKENDS)}, got {backend!r}."
        )
    tensors = {"before": before, "after": after} | ({} if grad is None else {"grad": grad})
    for name, tensor in tensors.items():
        check_measurable(f"gram({name}=...)", tensor)
        if tensor.ndim == 0 or tensor.shape != before.shape or tensor.dtype != before.dtype:
            raise InvalidArgument(
                f"gram({name}=...) expects shape (rows, ...) and the shape and dtype of before, "
                f"{tuple(before.shape)} {before.dtype}, got {tuple(tensor.shape)} {tensor.dtype}. "
                "Reshape a single row with [None]."
            )
    if backend == "reference":
        return reference.gram(before, after, grad)

    rows = np.arange(before.shape[0])
    slices = np.stack([0 * rows, 0 * rows, rows, rows + 1], axis=1)
    out = np.empty((len(rows), len(FIELDS)))
    with CpuGram([before], slices) as measure:
        measure([after], [before], [grad], out)
    return Gram.from_array(out)
