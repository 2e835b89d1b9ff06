"""Cut slices into tiles, which are summed one by one and then folded.

A tile's end depends on its slice alone, and the tiles of a slice are folded in a fixed order. So
the sums are the same to the last bit on any number of threads.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.layout import StridedLayout

TILE = 16_384
"""Most entries of a tile."""

MOST_RUNS = 128
"""Most runs of a tile. Each may lie on its own memory page. With more of them, the cache would lose
the pages and lines that neighbouring slices share before it comes to the neighbour."""

SHARE = 262_144
"""Entries a thread takes at a time: some 0.1 ms of work. A thread that is done takes another share,
because cores are rarely free alike: torch's own threads spin for milliseconds after each of its
parallel operations."""


@dataclasses.dataclass(frozen=True, slots=True)
class TileTable:
    """All tiles of all slices, in the order in which they lie in memory.

    A slice of a tensor without gaps consists of `outer` runs of `inner` neighbouring entries, one
    every `stride` entries; so does a tile. A whole tensor and a filter of a convolution are one
    long run, a filter of a transposed convolution has one short run for each input channel.

    Attributes:
        tiles: (tiles, 5): tensor, offset of its first entry, outer, stride, inner. In entries.
        rows: (tiles,): the row that the sums of a tile go to.
        first: (slices + 1,): the sums of slice s are in rows `first[s]:first[s + 1]`.
        tensor: (slices,): the tensor of each slice.
    """

    tiles: NDArray[np.int64]
    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    tensor: NDArray[np.int64]

    @classmethod
    def cut(cls, layouts: Sequence[StridedLayout], slices: ArrayLike) -> TileTable:
        """Tiles of `slices`, rows of (tensor, axis, start, stop), in tensors laid out like this.

        Raises:
            InvalidArgument: a slice lies outside its tensor.

        >>> import torch
        >>> two_rows = StridedLayout.of(torch.empty(2, 20_000))
        >>> TileTable.cut([two_rows], [(0, 0, 1, 2)]).tiles.tolist()
        [[0, 20000, 1, 40000, 16384], [0, 36384, 1, 40000, 3616]]
        """
        rows = _checked(layouts, slices)
        tensor, axis, start, stop = rows.T
        step, period, size = _geometry(layouts, tensor, axis)
        inner = (stop - start) * step
        outer = size // np.maximum(period, 1)

        # Long runs are cut into pieces, short runs bundled: one of the two counts is 1.
        pieces = -(-inner // TILE)
        bundle = np.clip(TILE // np.maximum(inner, 1), 1, MOST_RUNS)
        count = pieces * -(-outer // bundle)
        first = np.concatenate([[0], np.cumsum(count)])

        row = np.arange(first[-1])
        own = np.repeat(np.arange(len(rows)), count)
        bundle_number, piece_number = np.divmod(row - first[own], pieces[own])
        run = bundle_number * bundle[own]
        entry = piece_number * TILE
        offset = (start * step)[own] + run * period[own] + entry
        tiles = np.column_stack(
            [
                tensor[own],
                offset,
                np.minimum(bundle[own], outer[own] - run),
                period[own],
                np.minimum(TILE, inner[own] - entry),
            ]
        )
        in_memory = np.lexsort([offset, tensor[own]])
        return cls(np.ascontiguousarray(tiles[in_memory]), row[in_memory], first, tensor.copy())

    @property
    def entries(self) -> NDArray[np.int64]:
        """How many entries each tile holds, shape (tiles,)."""
        return self.tiles[:, 2] * self.tiles[:, 4]


def cut_shares(entries: NDArray[np.int64], start: int = 0) -> list[tuple[int, int]]:
    """Consecutive tiles (from, to) with about `SHARE` entries each, counted from `start` on.

    `entries` holds the number of entries of each tile.

    >>> cut_shares(np.full(5, 150_000), start=7)
    [(7, 9), (9, 12)]
    """
    ends = np.cumsum(entries)
    total = int(ends[-1]) if len(ends) else 0
    parts = max(1, total // SHARE)
    inside = start + np.searchsorted(ends, total * np.arange(1, parts) / parts)
    bounds = itertools.pairwise([start, *inside.tolist(), start + len(ends)])
    return [(a, b) for a, b in bounds if a < b]


def rolling(layouts: Sequence[StridedLayout], slices: ArrayLike) -> NDArray[np.bool_]:
    """For each tensor whether the slices, rows as of `TileTable.cut`, hold each entry just once.

    >>> import torch
    >>> layouts = [StridedLayout.of(torch.empty(4, 2)) for _ in range(3)]
    >>> halves = [(0, 0, 2, 4), (0, 0, 0, 2), (1, 0, 0, 3), (2, 0, 0, 4), (2, 1, 0, 1)]
    >>> rolling(layouts, halves).tolist()
    [True, False, False]
    """
    rows = _checked(layouts, slices)
    found = np.zeros(len(layouts), dtype=bool)
    for tensor, layout in enumerate(layouts):
        own = rows[rows[:, 0] == tensor]
        own = own[np.argsort(own[:, 2], kind="stable")]
        if not len(own) or len(np.unique(own[:, 1])) > 1:
            continue
        starts, stops = own[:, 2], own[:, 3]
        length = layout.shape[own[0, 1]]
        found[tensor] = starts[0] == 0 and stops[-1] == length and (starts[1:] == stops[:-1]).all()
    return found


def _checked(layouts: Sequence[StridedLayout], slices: ArrayLike) -> NDArray[np.int64]:
    try:
        rows = np.asarray(slices, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"slices must be whole numbers ({error}).") from error
    rows = rows.reshape(-1, 4) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise InvalidArgument(
            "slices must be rows of (tensor, axis, start, stop), shape (slices, 4), "
            f"got shape {rows.shape}."
        )
    for i, (tensor, axis, start, stop) in enumerate(rows.tolist()):
        if not 0 <= tensor < len(layouts):
            raise InvalidArgument(
                f"slices[{i}]: the tensor index must be in [0, {len(layouts)}), got {tensor}."
            )
        shape = tuple(layouts[tensor].shape)
        if not (0 <= axis < len(shape) and 0 <= start <= stop <= shape[axis]):
            raise InvalidArgument(
                f"slices[{i}] must lie inside tensor {tensor} of shape {shape}, got axis={axis}, "
                f"start={start}, stop={stop}. Count axes from 0; a 0-dim tensor has shape (1,)."
            )
    return rows


def _geometry(
    layouts: Sequence[StridedLayout], tensor: NDArray[np.int64], axis: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(3, slices): entries in one index of the axis, in one turn of it, in the whole tensor."""
    geometry = np.empty((3, len(tensor)), dtype=np.int64)
    for t, a in np.unique(np.stack([tensor, axis]), axis=1).T:
        shape, size = layouts[t].shape, math.prod(layouts[t].shape)
        # The stride of an axis of length 1 says nothing: its only index is the whole tensor.
        step = size if shape[a] == 1 else layouts[t].strides[a]
        geometry[:, (tensor == t) & (axis == a)] = [[step], [step * shape[a]], [size]]
    return geometry
