"""The backend of the CPU: a snapshot that rolls along with the weights, and `CpuGram`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from spherical_motion.measure.backend import Backend, Needs, RowSet, StepSums, Tensors
from spherical_motion.measure.cpu import CpuGram
from spherical_motion.measure.layout import StridedLayout
from spherical_motion.measure.places import Places
from spherical_motion.measure.preconditioner_table import Preconditioners
from spherical_motion.measure.snapshot import Snapshot, Widened, is_narrow
from spherical_motion.measure.writes import Writes
from spherical_motion.vocabulary.gram import FIELDS

CAREFUL = 20
"""Steps for which the weights are copied after somebody wrote them between two steps. Who writes
parts of them at each step, unseen by chance at some, is seen at nearly all."""


class CpuBackend(Backend):
    """Measures on the CPU, with one copy of the weights.

    The copy costs as much as the sums if it is made by itself. So the loop that sums a step also
    leaves the copy equal to the new weights (`roll`), and before the next step nothing is copied.
    This would take what others write between two steps for a part of the second. Hence `keep` asks
    `Writes`, whose docstring says what can slip through; if a tensor was written or moved, all are
    copied, then and for the next `CAREFUL` steps. Copied as before are: weights in half precision,
    tensors that the rows hold in part or more than once, and all that was not rolled.

    Args:
        weights: float32, float64 or half precision, on the CPU.
        rows: what is measured; only the first rolls.
        threads: as for `CpuGram`.
        rolling: False copies the weights before each step.

    Raises:
        InvalidArgument: as `CpuGram`.

    >>> w = torch.tensor([3.0, 4.0])
    >>> backend = CpuBackend([w], [RowSet([(0, 0, 0, 2)])])
    >>> backend.keep([w])
    >>> w[1] = 5.0
    >>> backend.measure(7, [w], [None], roll=True)
    >>> [(step, products[0, :3]) for step, _, products, _ in backend.read()]
    [(7, array([25.,  4.,  1.]))]
    >>> backend.before[0]
    tensor([3., 5.])
    """

    def __init__(
        self,
        weights: Tensors,
        rows: Sequence[RowSet],
        threads: int | None = None,
        *,
        rolling: bool = True,
    ) -> None:
        self._widened = Widened(weights)
        self._snapshot = Snapshot(self._widened.tensors)
        copies = self._snapshot.tensors
        self._grams = [
            CpuGram(self._widened.tensors, own.slices, threads, own.products, copies)
            for own in rows
        ]
        self._out = [np.empty((len(np.reshape(r.slices, (-1, 4))), r.products)) for r in rows]
        # Weights that are measured through copies lie elsewhere than what the kernel reads.
        narrow = np.array([is_narrow(weight) for weight in weights], dtype=bool)
        layouts = [StridedLayout.of(weight) for weight in weights]
        self._places = Places(layouts, "CpuBackend: weights") if narrow.any() else None
        rolls = self._grams[0].rolls & ~narrow
        self._copied = np.flatnonzero(~rolls).tolist()
        # A tensor that does not roll is compared in none of its words.
        nbytes = np.array([copy.nbytes for copy in copies], dtype=np.int64)
        pointers = np.array([copy.data_ptr() for copy in copies], dtype=np.int64)
        self._writes = Writes(pointers, np.where(rolls, nbytes, 0))
        self._rolling = rolling and bool(rolls.any())
        self._is_current = False
        self._careful = 0
        self._read: list[StepSums] = []

    @property
    def nbytes(self) -> int:
        """Memory of the snapshot and of the float32 copies of narrower weights."""
        return self._snapshot.nbytes + self._widened.nbytes

    def needs(self, which: int = 0) -> Needs:
        """By the number of products; the gradient always."""
        more = self._grams[which].products - len(FIELDS)
        return Needs(gradient=True, preconditioner=more > 0, earlier=more > 1)

    @property
    def before(self) -> Tensors:
        """The snapshot."""
        return self._snapshot.tensors

    def keep(self, weights: Tensors) -> None:
        """Have the weights as they are now: by a look if the snapshot has rolled, else by a copy.

        Raises:
            InvalidArgument: a weight has another shape, dtype or device, or no memory.
        """
        rolled, self._is_current = self._is_current, False
        if self._careful:
            self._careful -= 1
        if self._places is None:
            steady, addresses = (
                self._grams[0].find_weights(weights),
                self._grams[0].weight_addresses,
            )
        else:
            self._places.find(weights)
            steady, addresses = self._places.steady, self._places.addresses
        if rolled:
            if steady and not self._writes.seen(weights, addresses):
                if self._copied:
                    self._snapshot.take(weights, self._copied)
                return
            self._careful = CAREFUL
        self._snapshot.take(weights)

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
        """Sum the products; they can be read on return."""
        measured, grads = self._widened.read(after), self._widened.gradients(grads)
        roll = roll and self._rolling and not self._careful and which == 0
        self._is_current = False
        out = self._out[which]
        is_plain = self._grams[which](
            measured, None, grads, out, preconditioners, earlier, roll=roll
        )
        if roll:
            self._writes.remember(after)
            self._is_current = True
        self._read.append(StepSums(step, which, out, is_plain))

    def read(self, *, wait: bool = False) -> Iterable[StepSums]:
        """All that was measured since the last call."""
        read, self._read = self._read, []
        return read

    def close(self) -> None:
        """End the threads."""
        for gram in self._grams:
            gram.close()
