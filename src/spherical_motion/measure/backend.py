"""What measures: keeps weights before a step, sums products after it, and gives the sums back.

A monitor knows nothing else of it, so a backend for another device is a file beside the CPU's that
passes `tests/measure/test_backends.py`, and a row in `measure.DEVICES`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike, NDArray

from spherical_motion.measure.preconditioner_table import Preconditioners
from spherical_motion.vocabulary.gram import FIELDS

Tensors = Sequence[torch.Tensor]


@dataclasses.dataclass(frozen=True, slots=True)
class RowSet:
    """One list of slices that is measured together.

    Attributes:
        slices: rows of (tensor index, axis, start, stop), shape (slices, 4).
        products: how many of `vocabulary.gram.PRODUCTS` to measure, 6 to 8.
    """

    slices: ArrayLike
    products: int = len(FIELDS)


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """What a backend must be given for some rows; what it does not need may be left out.

    Attributes:
        gradient: the gradient of each step.
        preconditioner: what the optimizer made of it (wp).
        earlier: copies of the optimizer's state before the step (ws).
    """

    gradient: bool
    preconditioner: bool
    earlier: bool


class StepSums(NamedTuple):
    """Sums that have arrived.

    Attributes:
        step: the number that was given with them.
        which: index of their `RowSet`.
        products: shape (slices, products) of these rows; holds until the next `measure`.
        is_plain: whether the six are known to be finite, and no gradient to be zero or missing.
    """

    step: int
    which: int
    products: NDArray
    is_plain: bool = False


class Backend(abc.ABC):
    """Measures the same weights step after step; it owns their copies, the sums and the read-back.

    The order of calls is `keep` before a step, then, if the step was taken, `measure` once for
    each of the rows that are wanted, then `read`. Both `keep` and `measure` may be left out: what
    is measured is the step since the last `keep`.

    A subclass is made as ``Kind(weights, rows)``: the weights as they lie now, and one or more
    `RowSet`. It allocates all memory and compiles all code then, so that none is missing in
    training.
    """

    @abc.abstractmethod
    def __init__(self, weights: Tensors, rows: Sequence[RowSet]) -> None:
        """Set up; see the class."""

    @property
    @abc.abstractmethod
    def nbytes(self) -> int:
        """Memory of its copies of the weights."""

    @abc.abstractmethod
    def needs(self, which: int = 0) -> Needs:
        """What `measure` must be given for these rows."""

    @property
    @abc.abstractmethod
    def before(self) -> Tensors:
        """The weights as kept, to be read only; valid until `measure` is told to roll.

        Weights in half precision are kept as the float32 numbers that they are.
        """

    @abc.abstractmethod
    def keep(self, weights: Tensors) -> None:
        """Have the weights as they are now.

        Args:
            weights: one for each tensor given at construction, of its shape and dtype.
        """

    @abc.abstractmethod
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
        """Sum the products of the step just taken; a device may still be at it on return.

        Args:
            step: its number, given back with the sums.
            after: the weights after the step.
            grads: loss gradients before it; None makes its products NaN.
            preconditioners, earlier: as for `CpuGram`.
            which: index of the rows to measure.
            roll: nobody needs `before` any more and the next step will be kept: a backend may
                overwrite it with `after` now, instead of copying then.
        """

    @abc.abstractmethod
    def read(self, *, wait: bool = False) -> Iterable[StepSums]:
        """Sums that have arrived since the last call, in the order in which they were asked for.

        Never makes training wait, unless `wait` says so.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End its threads; may be repeated, and a later call starts them again."""
