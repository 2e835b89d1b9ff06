"""Measure the size of each group's gradient on a few batches, and check that it is invariant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spherical_motion.binding import Members
from spherical_motion.errors import InvalidArgument, ModelError
from spherical_motion.invariance import undisturbed

Batch = TypeVar("Batch")
SEED = 0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GradientSizes:
    """Means over batches, each shape (groups,), float64.

    Attributes:
        square: of |g|².
        along: of <w, g>.
        root: the sum over entries of the root of the mean of g²; zeros unless asked for.
    """

    square: NDArray[np.float64]
    along: NDArray[np.float64]
    root: NDArray[np.float64]


def gradient_sizes(
    where: str,
    model: nn.Module,
    members: Members,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    roots: bool,
) -> GradientSizes:
    """Gradients of `loss` on each batch; buffers, modules and random generators stay as they are.

    `roots` asks for `GradientSizes.root`, which takes a float64 copy of the weights. Raises
    InvalidArgument without a batch, with all members frozen, or for a loss that is no finite scalar
    of the weights.
    """
    kept = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with undisturbed(model, SEED):
            gradients = _gradients(where, members, batches, loss)
            return _means(members, gradients, roots, where)
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


def _gradients(
    where: str, members: Members, batches: Iterable[Batch], loss: Callable[[Batch], Tensor]
) -> Iterator[list[Tensor | None]]:
    """The gradients of the members' parameters on each batch."""
    trained = [p for p in members.parameters if p.requires_grad]
    if not trained:
        raise InvalidArgument(f"{where}: every member is frozen. Unfreeze what is to be trained.")
    for number, batch in enumerate(batches):
        with torch.enable_grad():
            value = loss(batch)
        _check_loss(where, value, number)
        found = iter(torch.autograd.grad(value.reshape(()), trained, allow_unused=True))
        yield [next(found) if p.requires_grad else None for p in members.parameters]


def _means(
    members: Members, gradients: Iterable[list[Tensor | None]], roots: bool, where: str
) -> GradientSizes:
    parameters = members.parameters
    zeros = torch.zeros(len(members), dtype=torch.float64, device=members.device)
    square, along, count = zeros.clone(), zeros.clone(), 0
    squares = [torch.zeros_like(p, dtype=torch.float64) if roots else None for p in parameters]
    for grads in gradients:
        square += members.sums(grads, grads)
        along += members.sums([p.detach() for p in parameters], grads)
        for total, grad in zip(squares, grads, strict=True):
            if total is not None and grad is not None:
                total += grad.double().square()
        count += 1
    if not count:
        raise InvalidArgument(
            f"{where}(batches=...) is empty; a generator may have been used up. Pass a few batches."
        )
    ones = [torch.ones_like(p) for p in parameters] if roots else []
    means = [None if s is None else (s / count).sqrt() for s in squares]
    root = members.sums(ones, means) if roots else zeros
    return GradientSizes(*(x.cpu().numpy() for x in (square / count, along / count, root)))


def _check_loss(where: str, value: object, batch: int) -> None:
    if not isinstance(value, Tensor):
        found = f"a {type(value).__name__}"
    elif value.numel() != 1:
        found = f"shape {tuple(value.shape)}"
    elif not value.isfinite():
        found = f"{value.item()}"
    elif not value.requires_grad:
        raise InvalidArgument(
            f"{where}(loss=...) must return a tensor that depends on the weights, got one "
            f"without a graph on batch {batch}. Leave out .detach(), .item() and no_grad()."
        )
    else:
        return
    raise InvalidArgument(
        f"{where}(loss=...) must return a finite scalar tensor, got {found} on batch {batch}. "
        "Average over the batch; check the inputs."
    )


def check_finite(
    where: str, members: Members, norms: NDArray[np.float64], sizes: GradientSizes
) -> None:
    """Raise ModelError for a norm or a gradient that is not finite."""
    for what, values in (("norm", norms), ("gradient", sizes.square), ("gradient", sizes.along)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            more = f" (and of {bad.size - 1} more)" if bad.size > 1 else ""
            remedy = (
                "Look for a root or a division at 0 in the model "
                "(torch.autograd.set_detect_anomaly), or an overflow at low precision."
            )
            raise ModelError(
                f"{where}: the {what} of group {members.names[bad[0]]!r}{more} must be finite, got "
                f"{values[bad[0]]} in its square, though the loss is finite. "
                f"{remedy if what == 'gradient' else 'The weights have diverged already.'}"
            )


def check_defect(
    where: str, members: Members, defect: NDArray[np.float64], max_defect: float, model: nn.Module
) -> None:
    """Raise ModelError unless every group is invariant on these batches."""
    worst = int(np.argmax(defect))
    remedy = (
        "The model is in eval mode, where batch norms use fixed statistics: call model.train()."
    )
    if model.training:
        remedy = "The loss may hold a penalty on the weights; leave it out here."
    if not defect[worst] <= max_defect:
        raise ModelError(
            f"{where}: on these batches group {members.names[worst]!r} is not scale-invariant, "
            f"its defect |<w, g>|/(|w||g|) is {defect[worst]:.3g}, expected <= {max_defect:g}. "
            f"{remedy}"
        )
