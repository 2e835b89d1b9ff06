"""The norm of all gradients together, which clipping compares with its limit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spherical_motion.binding import stepped_parameters

EXACT = (torch.float32, torch.float64)


def global_norm(optimizers: Sequence[torch.optim.Optimizer]) -> float:
    """Norm of the gradients of every parameter that the optimizers hold; NaN if none has one.

    Summed up as `torch.nn.utils.clip_grad_norm_` does, so that gradients which it has clipped have
    its limit up to 1e-6.

    >>> w = torch.ones(2, requires_grad=True)
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> global_norm([torch.optim.SGD([w])])
    5.0
    """
    grads = list(_gradients(optimizers))
    exact = [grad for grad in grads if grad.dtype in EXACT]
    rough = [grad for grad in grads if grad.dtype not in EXACT]
    if not grads:
        return math.nan
    with torch.no_grad():
        # Of half precision the norm itself would be rounded to a part in 256.
        norms = [float(torch.linalg.vector_norm(grad, dtype=torch.float32)) for grad in rough]
        if exact:
            norms.append(float(torch.nn.utils.get_total_norm(exact)))
    return math.hypot(*norms)


def _gradients(optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[Tensor]:
    held = itertools.chain.from_iterable(map(stepped_parameters, optimizers))
    for parameter in {id(parameter): parameter for parameter in held}.values():
        grad = parameter.grad
        if grad is not None:
            yield grad.coalesce().values() if grad.is_sparse else grad
