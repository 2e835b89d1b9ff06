"""Where the tensors of a list lie in memory, checked anew at each call and in little time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

import numpy as np
import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.layout import StridedLayout, place_all

POINTER, STRIDE = torch.Tensor.data_ptr, torch.Tensor.stride
NUMEL, STORAGE = torch.Tensor.numel, torch.Tensor.untyped_storage
DTYPE, ROOM = attrgetter("dtype"), torch.UntypedStorage.nbytes


class Places:
    """Looks up where tensors begin, and re-lays those that do not lie as they should.

    Weights and gradients may move, change their layout or lose their memory between two calls, so
    everything is looked at each time. What makes it cheap is that each property is read for all
    tensors in one loop inside of Python, some 60 ns each, and compared with what was accepted
    before. Only where something differs are the tensors looked at one by one. (The shape is not
    compared: its number of entries and the strides are. A device shows in the address.)

    Args:
        layouts: how each tensor must lie.
        name: of the list, for messages.

    Attributes:
        addresses: (tensors,), of the last call.
        steady: whether in the last call all tensors lay in place, and where they had lain in the
            call before.

    >>> w = torch.zeros(2, 3)
    >>> places = Places([StridedLayout.of(w)], "weights")
    >>> places.find([w])[0] is w, places.find([w.t().contiguous().t()])[0].stride()
    (True, (3, 1))
    """

    def __init__(self, layouts: Sequence[StridedLayout], name: str) -> None:
        self._layouts, self._name = layouts, name
        self.addresses = np.zeros(len(layouts), dtype=np.int64)
        self.steady = False
        self._listed: list[int] = []
        self._accepted: tuple[list[object], ...] | None = None

    def find(self, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Write down the addresses; returns what lies there, which must be kept alive.

        Raises:
            InvalidArgument: another number, dtype, shape or device, or memory that was freed.
        """
        if self.fits(tensors):
            return tensors
        found = self._place(tensors)
        self._write_down(list(map(POINTER, found)))
        return found

    def fits(self, tensors: Sequence[torch.Tensor | None]) -> bool:
        """Write down the addresses if nothing must be re-laid, and say so. Never raises."""
        if self._accepted is None:
            return False
        try:
            if self._accepted != _properties(tensors):  # pyright: ignore[reportArgumentType]
                return False
            self._write_down(list(map(POINTER, tensors)))  # pyright: ignore[reportArgumentType]
        except Exception:  # None has no dtype, a sparse tensor no strides
            return False
        return True

    def lie_still(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether tensors that fitted a moment ago have the addresses and the memory of then."""
        return (
            self._accepted is not None
            and list(map(POINTER, tensors)) == self._listed
            and list(map(ROOM, map(STORAGE, tensors))) == self._accepted[-1]
        )

    def holds(self, tensors: Sequence[torch.Tensor]) -> bool:
        """As `find`; whether all tensors lie as they should, so that nothing was re-laid."""
        self.find(tensors)
        return self._accepted is not None

    def _write_down(self, addresses: list[int]) -> None:
        self.steady = self._accepted is not None and addresses == self._listed
        if addresses != self._listed:
            self.addresses[:] = addresses
            self._listed = addresses

    def _place(self, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        self._accepted = None
        if len(tensors) != len(self._layouts):
            raise InvalidArgument(
                f"{self._name} must hold one entry for each of the {len(self._layouts)} tensors "
                f"given at construction, got {len(tensors)}."
            )
        for i, (layout, tensor) in enumerate(zip(self._layouts, tensors, strict=True)):
            if tensor.layout is torch.strided and tensor.is_cpu:
                _check_room(f"{self._name}[{i}]", tensor, layout)
        placed = place_all(self._layouts, self._name, tensors)
        whole = zip(placed, tensors, strict=True)
        if all(mine is given or given.ndim == 0 for mine, given in whole):
            self._accepted = _properties(tensors)
        return placed


def _properties(tensors: Sequence[torch.Tensor]) -> tuple[list[object], ...]:
    """What decides whether tensors can be read where they lie."""
    return (
        list(map(DTYPE, tensors)),
        list(map(NUMEL, tensors)),
        list(map(STRIDE, tensors)),
        list(map(ROOM, map(STORAGE, tensors))),
    )


def _check_room(name: str, tensor: torch.Tensor, layout: StridedLayout) -> None:
    """Raise InvalidArgument if a tensor reaches beyond its memory: that was freed, or shrunk."""
    if not tensor.numel():
        return
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    reach = 1 + tensor.storage_offset() + sum((n - 1) * stride for n, stride in pairs)
    held, needed = tensor.untyped_storage().nbytes(), reach * tensor.element_size()
    if held < needed:
        raise InvalidArgument(
            f"{name} needs {needed:,} bytes of memory for its {math.prod(layout.shape):,} entries, "
            f"and its storage has {held:,}: it was freed or moved elsewhere. Measure while the "
            "weights are in memory."
        )
