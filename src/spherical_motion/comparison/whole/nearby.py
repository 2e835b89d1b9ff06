"""The motions of single groups, for drawing: read with those that are likely to be next."""

from __future__ import annotations

from spherical_motion.comparison.motion import Motion, motion_of
from spherical_motion.records import Records
from spherical_motion.vocabulary.gram import PRODUCTS

NEARBY = 128 << 20
"""Bytes that the products of groups read together may take."""


class NearbyMotions:
    """Motions of a run by the group's number; no more than a few groups are kept at a time.

    Who asks for one group gets that group read. Who asks for the next one, too, goes through the
    run, and the groups behind it are read with it. A run that is small is kept whole.

    Args:
        records: the run.
        limit: bytes that the products of groups read together may take.
    """

    def __init__(self, records: Records, limit: int = NEARBY) -> None:
        slices = max(map(len, records.info.members), default=1)
        each = max(len(records.steps), 1) * len(PRODUCTS) * 8 * slices
        self._records, self._most = records, max(limit // each, 1)
        self._first, self._block, self._last = 0, records, -1
        self._count = len(records.groups) if self._most >= len(records.groups) else 0

    def of(self, index: int) -> Motion:
        """The motion of a group."""
        if not self._first <= index < self._first + self._count:
            self._read(index, self._most if index == self._last + 1 else 1)
        self._last = index
        return motion_of(self._block, index - self._first)

    def _read(self, index: int, count: int) -> None:
        names = self._records.groups[index : index + count]
        self._first, self._count = index, len(names)
        self._block = self._records.select(names)
