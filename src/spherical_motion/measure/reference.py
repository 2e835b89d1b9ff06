"""The inner products as they are defined: slow, obvious, and what every backend must match."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.backend import Backend, Needs, RowSet, StepSums, Tensors
from spherical_motion.measure.preconditioner_table import Preconditioners
from spherical_motion.measure.snapshot import is_narrow
from spherical_motion.vocabulary.gram import FIELDS, Gram

Settings = Mapping[str, Any]


def gram(before: torch.Tensor, after: torch.Tensor, grad: torch.Tensor | None) -> Gram:
    """Inner products of weights, step and gradient, row by row, in float64; see `measure.gram`.

    >>> w = torch.tensor([[3.0, 4.0]])
    >>> d = torch.tensor([[0.0, 1.0]])
    >>> gram(w, w + d, grad=-d).to_array()
    array([[25.,  4.,  1., -4.,  1., -1.]])
    """
    w, d = _rows(before), _rows(after) - _rows(before)
    ww, wd, dd = (w * w).sum(1), (w * d).sum(1), (d * d).sum(1)
    if grad is None:
        wg = gg = dg = torch.full_like(ww, math.nan)
    else:
        g = _rows(grad)
        wg, gg, dg = (w * g).sum(1), (g * g).sum(1), (d * g).sum(1)
    return Gram(ww=ww, wd=wd, dd=dd, wg=wg, gg=gg, dg=dg)


def pull(
    kind: str, group: Settings, state: Settings, before: torch.Tensor, grad: torch.Tensor
) -> torch.Tensor:
    """wp = <w, Px> of each row, from the param group and the state after the step.

    Args:
        kind: class of `torch.optim`.
        group, state: as `optimizer.param_groups` and `optimizer.state[parameter]` hold them.
        before: weights before the step, shape (rows, ...).
        grad: gradient of the loss that is minimized.

    >>> group = {"betas": (0.0, 0.0), "eps": 0.0, "weight_decay": 2.0, "amsgrad": False}
    >>> w = torch.tensor([[3.0, 1.0]])
    >>> state = {"step": 1, "exp_avg_sq": torch.tensor([[49.0, 4.0]])}
    >>> pull("Adam", group, state, w, grad=torch.tensor([[1.0, 0.0]]))     # x = (7, 2)
    tensor([4.], dtype=torch.float64)
    """
    x = grad.double() + _coupled_decay(kind, group) * before.double()
    return (_rows(before) * _rows(metric(kind, group, state) * x)).sum(1)


def change(
    kind: str, group: Settings, state: Settings, earlier: Settings, before: torch.Tensor
) -> torch.Tensor:
    """ws = <w, (P - P_before) b_before> of each row, from the states after and before the step."""
    p, old = (metric(kind, group, of) for of in (state, earlier))
    return (_rows(before) * _rows((p - old) * earlier["exp_avg"].double())).sum(1)


def metric(kind: str, group: Settings, state: Settings) -> torch.Tensor:
    """P of every entry in float64, with its bias corrections, straight from the definitions.

    Sources: the algorithm boxes of the documentation of `torch.optim`, and for eps, where boxes
    and code differ, the code.
    """
    t = float(state["step"])
    eps = group["eps"]
    if kind == "RMSprop":
        v = state["square_avg"].double()
        if group["centered"]:
            v = v - state["grad_avg"].double() ** 2
        return 1 / (v.sqrt() + eps)
    if kind == "Adagrad":
        return 1 / (1 + (t - 1) * group["lr_decay"]) / (state["sum"].double().sqrt() + eps)
    beta1, beta2 = (float(beta) for beta in group["betas"])
    if kind == "Adamax":
        return 1 / (1 - beta1**t) / state["exp_inf"].double()
    if kind in ("Adam", "AdamW"):
        v = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"].double()
        return 1 / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps)
    v = state["exp_avg_sq"].double()
    if kind == "NAdam":
        mu = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * group["momentum_decay"]))
        product = float(state["mu_product"]) * mu
        return 1 / (1 - product) / ((v / (1 - beta2**t)).sqrt() + eps)
    if kind == "RAdam":
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        if length <= 5:
            return torch.full_like(v, 1 / (1 - beta1**t))
        above = (length - 4) * (length - 2) * longest
        rectified = math.sqrt(above / ((longest - 4) * (longest - 2) * length))
        return rectified * math.sqrt(1 - beta2**t) / (1 - beta1**t) / (v.sqrt() + eps)
    raise InvalidArgument(f"reference.metric: {kind!r} has no formula here. Add one.")


def _coupled_decay(kind: str, group: Settings) -> float:
    decoupled = group.get("decoupled_weight_decay", kind == "AdamW")
    return 0.0 if decoupled else float(group["weight_decay"])


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """As a float64 matrix (rows, entries)."""
    return tensor.detach().double().reshape(tensor.shape[0], math.prod(tensor.shape[1:]))


class ReferenceBackend(Backend):
    """A backend of clones and of the definitions above: what every other one must agree with.

    >>> w = torch.tensor([[3.0, 4.0]])
    >>> backend = ReferenceBackend([w], [RowSet([(0, 0, 0, 1)])])
    >>> backend.keep([w])
    >>> w[0, 1] = 5.0
    >>> backend.measure(0, [w], [None])
    >>> [products[0, :3].tolist() for _, _, products, _ in backend.read()]
    [[25.0, 4.0, 1.0]]
    """

    def __init__(self, weights: Tensors, rows: Sequence[RowSet]) -> None:
        self._before = _copies(weights)
        self._slices = [np.reshape(np.asarray(r.slices, dtype=np.int64), (-1, 4)) for r in rows]
        self._products = [r.products for r in rows]
        self._read: list[StepSums] = []

    @property
    def nbytes(self) -> int:
        """Memory of the clones."""
        return sum(tensor.nbytes for tensor in self._before)

    def needs(self, which: int = 0) -> Needs:
        """The gradient; wp and ws have definitions of their own, `pull` and `change`."""
        return Needs(gradient=True, preconditioner=False, earlier=False)

    @property
    def before(self) -> Tensors:
        """The clones."""
        return self._before

    def keep(self, weights: Tensors) -> None:
        """Clone the weights."""
        self._before = _copies(weights)

    def measure(
        self,
        step: int,
        after: Tensors,
        grads: Sequence[torch.Tensor | None],
        preconditioners: Preconditioners | None = None,
        earlier: Preconditioners | None = None,
        *,
        which: int = 0,
        roll: bool = False,
    ) -> None:
        """Sum slice by slice; wp and ws are NaN."""
        out = np.full((len(self._slices[which]), self._products[which]), np.nan)
        for row, (tensor, axis, start, stop) in enumerate(self._slices[which].tolist()):
            old, new = (_slice(x[tensor], axis, start, stop) for x in (self._before, after))
            grad = grads[tensor]
            part = None if grad is None else _slice(grad, axis, start, stop)
            out[row, : len(FIELDS)] = gram(old, new, part).to_array()[0]
        if roll:
            self.keep(after)
        self._read.append(StepSums(step, which, out))

    def read(self, *, wait: bool = False) -> Iterable[StepSums]:
        """All that was measured since the last call."""
        read, self._read = self._read, []
        return read

    def close(self) -> None:
        """There is nothing to end."""


def _copies(weights: Tensors) -> list[torch.Tensor]:
    return [w.detach().float() if is_narrow(w) else w.detach().clone() for w in weights]


def _slice(tensor: torch.Tensor, axis: int, start: int, stop: int) -> torch.Tensor:
    """As one row."""
    whole = torch.atleast_1d(tensor.detach().to_dense())
    return whole.narrow(axis, start, stop - start).reshape(1, -1)
