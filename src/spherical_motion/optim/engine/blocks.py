"""Steps on the CPU that go through memory once: a block of groups is summed, then moved from cache.

A step first needs sums over each group, then writes each group. Done for all groups at once, both
halves read everything from memory. Here the threads work on one block of groups together, and move
first what they summed last.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.binding import Members
from spherical_motion.measure.layout import DTYPES, StridedLayout
from spherical_motion.measure.loops import FIELDS, Compiled, fold_tiles
from spherical_motion.measure.team import Team
from spherical_motion.measure.tiles import SHARE, TileTable, cut_shares
from spherical_motion.optim.engine.passes import Vectors

Work = Callable[[int, int], object]
"""Work on tiles or groups `start:stop`."""


class _Share(NamedTuple):
    block: int
    start: int
    stop: int


class CpuBlocks:
    """Groups in blocks, cut into tiles that compiled loops work on.

    Each tile is summed into its own row and the rows are added in a fixed order, so the number of
    threads changes no bit.

    Attributes:
        tile_sums: (tiles, FIELDS), filled by the first half of a step.
        sums: (groups, FIELDS), the same by group.
        factors: (groups, FIELDS), read by the second half of a step.
    """

    @staticmethod
    def fits(members: Members) -> bool:
        """Whether all parameters are of a kind that the loops can read in place."""
        return all(
            p.is_cpu and p.dtype in DTYPES and p.layout == torch.strided and _is_dense(p)
            for p in members.parameters
        )

    def __init__(self, members: Members) -> None:
        tensors = [p.detach() for p in members.parameters]
        self._layouts = [StridedLayout.of(tensor) for tensor in tensors]
        self._sizes = np.array([t.element_size() for t in tensors], dtype=np.int64)
        self._scales = np.ones(len(tensors))
        number = {id(p): i for i, p in enumerate(members.parameters)}
        slices = [
            (number[id(piece.parameter)], piece.slice.axis, piece.slice.start, piece.slice.stop)
            for own in members.pieces
            for piece in own
        ]
        table = TileTable.cut(self._layouts, slices)
        # Slices are in the order of the groups, and rows of sums in the order of the slices.
        ends = np.cumsum([0, *(len(own) for own in members.pieces)])
        self._first_row = np.ascontiguousarray(table.first[ends])
        group_of_tile = np.searchsorted(self._first_row, table.rows, side="right") - 1
        of_group = np.bincount(group_of_tile, table.entries, len(members)).astype(np.int64)
        block_of_group = _bundled(of_group)
        # Block after block, in each in the order of memory.
        order = np.argsort(block_of_group[group_of_tile], kind="stable")
        self._tiles = np.ascontiguousarray(table.tiles[order])
        self._rows = np.ascontiguousarray(table.rows[order])
        self._group_of_tile = np.ascontiguousarray(group_of_tile[order])
        self.tile_sums = np.zeros((len(order), FIELDS))
        self.sums = np.zeros((len(members), FIELDS))
        self.factors = np.zeros((len(members), FIELDS))
        blocks = block_of_group[-1] + 1
        self._groups = np.searchsorted(block_of_group, np.arange(blocks + 1)).tolist()
        edges = np.searchsorted(block_of_group[self._group_of_tile], np.arange(blocks + 1)).tolist()
        self._shares = [
            [_Share(block, *share) for share in cut_shares(table.entries[order][a:b], a)]
            for block, (a, b) in enumerate(itertools.pairwise(edges))
            if a < b
        ]
        self._team = Team("spherical-motion-step")

    def place(self, tensors: Vectors) -> list[Tensor]:
        """The tensors, one for each parameter, laid out like it; copied where they are not."""
        return [
            layout.place("gradient or state", tensor.detach())
            for layout, tensor in zip(self._layouts, tensors, strict=True)
        ]

    def work(
        self,
        loop: Compiled,
        vectors: Sequence[Vectors],
        scales: NDArray[np.float64] | None = None,
        *,
        sums: bool,
    ) -> Work:
        """A `tile_loop` with its arguments; it keeps `vectors` alive, as it knows their addresses.

        `vectors` are laid out like the parameters; `scales` holds a number for each parameter, or
        ones. With `sums` the loop fills `tile_sums`, else it reads the `factors` of groups.
        """
        addresses = np.array([[t.data_ptr() for t in each] for each in vectors], dtype=np.int64)
        scales = self._scales if scales is None else scales
        own = (self._rows, self.tile_sums) if sums else (self._group_of_tile, self.factors)
        run = functools.partial(loop, addresses, self._sizes, scales, self._tiles, *own)
        return functools.partial(_keeping, vectors, run)

    def sum(self, work: Work) -> None:
        """Let `work` fill `tile_sums`, then fold them into `sums`."""
        self._run(work, self._fold, None)

    def move(self, work: Work) -> None:
        """Let `work` move all tiles by the `factors`."""
        self._run(work, None, None)

    def step(self, sum_tiles: Work, turn: Work, move_tiles: Work) -> None:
        """Block by block: sum its tiles, let `turn` fill `factors` of its groups, move its tiles.

        Several threads call all three at a time, for different tiles and groups.
        """

        def between(start: int, stop: int) -> None:
            self._fold(start, stop)
            turn(start, stop)

        self._run(sum_tiles, between, move_tiles)

    def close(self) -> None:
        """End the threads; a later step starts them again."""
        self._team.close()

    def _fold(self, start: int, stop: int) -> None:
        fold_tiles(self.tile_sums, self._first_row[start : stop + 1], self.sums[start:stop])

    def _run(self, first: Work, between: Work | None, second: Work | None) -> None:
        """Do the work of all blocks on as many threads as torch uses.

        `first` works on the tiles of each share, `between` on the groups of a block when all of its
        shares are done, then `second` on the shares of that block.
        """
        queue = deque((share, False) for own in self._shares for share in own)
        left = [len(own) for own in self._shares]
        unfinished = len(left)
        changed = Condition()

        def drain() -> None:
            while True:
                with changed:
                    # A block that is being finished may leave more to do.
                    while second is not None and not queue and unfinished:
                        changed.wait()
                    if not queue:
                        return
                    share, summed = queue.popleft()
                try:
                    if summed and second is not None:
                        second(share.start, share.stop)
                    else:
                        first(share.start, share.stop)
                        finish(share.block)
                except BaseException:
                    give_up()
                    raise

        def finish(block: int) -> None:
            nonlocal unfinished
            with changed:
                left[block] -= 1
                if left[block]:
                    return
            if between is not None:
                between(*self._groups[block : block + 2])
            with changed:
                unfinished -= 1
                if second is not None:
                    # In front and backwards: what was summed last is still in the cache.
                    queue.extendleft((share, True) for share in self._shares[block])
                changed.notify_all()

        def give_up() -> None:
            nonlocal unfinished
            with changed:
                queue.clear()
                unfinished = 0
                changed.notify_all()

        self._team.run(drain, min(torch.get_num_threads(), len(queue)))


def _keeping(vectors: object, work: Work, start: int, stop: int) -> None:
    """Do the work and keep `vectors` alive, even if the calling thread was interrupted."""
    work(start, stop)


def _is_dense(tensor: Tensor) -> bool:
    layout = StridedLayout.of(tensor.detach())
    return layout.place("", tensor.detach()).data_ptr() == tensor.data_ptr()


def _bundled(entries: NDArray[np.int64]) -> NDArray[np.int64]:
    """The block of each group: neighbours share one until they hold `SHARE` entries."""
    before = np.cumsum(entries) - entries
    _, block = np.unique(before // SHARE, return_inverse=True)
    return block
