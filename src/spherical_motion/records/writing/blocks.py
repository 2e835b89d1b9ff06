"""Copies of what a training loop gives, checked against the facts of the run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import shown
from spherical_motion.records.info import RunInfo
from spherical_motion.records.pending import (
    AuditBlock,
    AuditStepRow,
    CellBlock,
    CorrelationRow,
    RowBlock,
    SettingsRow,
    copied,
    step_number,
)
from spherical_motion.records.schema import AUDIT_SUMS, SETTINGS
from spherical_motion.vocabulary.gram import FIELDS

MOST_OPTIMIZER = 2**31 - 1
"""The largest number of an optimizer that a table holds."""


class Copier:
    """Makes blocks of input; all methods copy, and raise InvalidArgument for what does not fit.

    Args:
        info: the facts of the run.
    """

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._all_slices = np.arange(len(info.slices), dtype=np.int32)

    def rows(self, step: int, gram: ArrayLike, slices: ArrayLike | None) -> RowBlock:
        """The rows of one step; see `RunWriter.rows`, as for the others."""
        which = self._all_slices
        if slices is not None:
            which = _numbers("slices", slices, len(self._all_slices))
        shape = (len(which), self._info.products)
        return RowBlock(step_number(step), copied("gram", gram, shape), which)

    def settings(self, step: int, param_group: int, values: Sequence[float | None]) -> SettingsRow:
        """The settings of one param group."""
        known = len(self._info.param_groups)
        if not 0 <= param_group < known:
            raise InvalidArgument(f"param_group {param_group}; there are {known}")
        given = [math.nan if value is None else value for value in values]
        return SettingsRow(
            step_number(step), int(param_group), copied("values", given, (len(SETTINGS),))
        )

    def cells(self, step: int, group: int, gram: ArrayLike) -> CellBlock:
        """The cells of one group."""
        cells = len(self._info.groups[self._group(group)].cells)
        return CellBlock(step_number(step), int(group), copied("gram", gram, (cells, len(FIELDS))))

    def correlation(
        self, step: int, group: int, rho: ArrayLike, update_sq: float
    ) -> CorrelationRow:
        """How the updates of one group resemble each other."""
        lags = copied("rho", rho, (np.size(rho),))
        return CorrelationRow(step_number(step), self._group(group), lags, float(update_sq))

    def audit(self, step: int, parameters: ArrayLike, sums: ArrayLike) -> AuditBlock:
        """What an audited step has of some parameters."""
        which = _numbers("parameters", parameters, len(self._info.parameters))
        return AuditBlock(
            step_number(step), copied("sums", sums, (len(which), len(AUDIT_SUMS))), which
        )

    def audit_step(
        self, step: int, optimizer: int, facts: tuple[float, float, float], skipped: str
    ) -> AuditStepRow:
        """An audited step; `facts` are counter, taken and grad_norm."""
        if not 0 <= int(optimizer) <= MOST_OPTIMIZER:
            raise InvalidArgument(f"optimizer {optimizer}; expected 0 to {MOST_OPTIMIZER}")
        # The reason may be the text of an error of unknown origin.
        return AuditStepRow(
            step_number(step), int(optimizer), copied("values", facts, (3,)), shown(skipped)
        )

    def _group(self, group: int) -> int:
        known = len(self._info.groups)
        if not 0 <= group < known:
            raise InvalidArgument(f"group {group}; there are {known}")
        return int(group)


def _numbers(name: str, given: ArrayLike, known: int) -> NDArray[np.int32]:
    """Numbers of slices or parameters, one a row, all below `known`."""
    which = np.array(given, dtype=np.int32)
    if which.ndim != 1:
        raise InvalidArgument(f"{name} of shape {which.shape}; expected one number a row")
    if len(which) and not 0 <= which.min() <= which.max() < known:
        raise InvalidArgument(f"{name} from {which.min()} to {which.max()}; there are {known}")
    return which
