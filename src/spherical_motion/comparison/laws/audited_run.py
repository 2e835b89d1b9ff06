"""The audited steps of a whole run, sorted out once for all its groups."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.laws.clipped_entries import Limits, shared_limits
from spherical_motion.comparison.laws.global_norm import clipped_steps
from spherical_motion.records import AuditSeries, AuditStepSeries, Records
from spherical_motion.records.info import NormLayer
from spherical_motion.vocabulary import Stage

FIRST_STEPS = 20
"""So many steps at the beginning of a run are its first ones, whose gradients are large."""

FEWEST_AUDITED = 3
"""A stage with fewer audited steps takes the clipping of the whole run."""

CONSTANT_GRADIENTS = 1e-4
"""Gradients whose squares vary by less than this from step to step are the same ones."""


class NormClipping(NamedTuple):
    """Where the global norm of the gradient sits at a limit.

    `clipped_at` is the limit, NaN if there is none; `clipped_share` the share of the audited steps
    at it; `late` how many of these come after the run's first ones, `clipped_late` their share;
    `clipped_since` the first audited step at it.
    """

    clipped_at: float = math.nan
    clipped_share: float = math.nan
    clipped_late: float = math.nan
    late: int = 0
    clipped_since: int | None = None


class AuditedRun:
    """The audited steps of a run by parameter and optimizer.

    Args:
        records: the run.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self._numbers = {name: i for i, name in enumerate(records.info.parameters)}
        self._rows: dict[int, AuditSeries] = {}
        self._in_eval: dict[tuple[int, int] | None, dict[str, tuple[str, ...]]] = {}
        self._clipping: dict[tuple[int, int | None, int | None, bool], NormClipping] = {}

    def rows(self, parameters: Sequence[str], stage: Stage | None) -> list[AuditSeries]:
        """The rows of some parameters in a stage; None is the whole run."""
        found = [self._of(self._numbers[name]) for name in parameters]
        return found if stage is None else [s.within(stage.start, stage.stop) for s in found]

    def calls(self, optimizer: int, stage: Stage | None) -> AuditStepSeries:
        """The audited steps of an optimizer in a stage."""
        found = self.records.audit_steps.of(optimizer)
        return found if stage is None else found.within(stage.start, stage.stop)

    def clipping(self, optimizer: int, stage: Stage | None, *, rough: bool) -> NormClipping:
        """Where the norm of all gradients is clipped.

        Args:
            optimizer: its number.
            stage: the steps to look at.
            rough: the gradients are in half precision.
        """
        key = (optimizer, stage.start, stage.stop) if stage is not None else (optimizer, None, None)
        if (*key, rough) not in self._clipping:
            self._clipping[*key, rough] = self._clipped(optimizer, stage, rough)
        return self._clipping[*key, rough]

    def norms_of(self, parameter: str) -> tuple[NormLayer, ...]:
        """Name and ε of each norm layer that a parameter feeds."""
        return self.records.info.norms.get(parameter, ())

    def in_eval(self, parameter: str, stage: Stage | None) -> tuple[str, ...]:
        """The norm layers of a parameter that are in eval mode, or may be if that is not certain.

        The audit holds whether any of them is. A layer is not if another parameter that feeds it
        never saw one, and it is for certain where it is the only one left of some parameter.
        """
        found = self._perhaps_in_eval(stage)
        certain = {layers[0] for layers in found.values() if len(layers) == 1}
        mine = found.get(parameter, ())
        return tuple(layer for layer in mine if layer in certain) or mine

    def _perhaps_in_eval(self, stage: Stage | None) -> dict[str, tuple[str, ...]]:
        """The norm layers that may be in eval mode, of each parameter that feeds one that is."""
        key = None if stage is None else (stage.start, stage.stop)
        if key not in self._in_eval:
            known = [name for name in self.records.info.norms if name in self._numbers]
            modes = {
                name: series.eval_mode[np.isfinite(series.eval_mode)]
                for name, series in zip(known, self.rows(known, stage), strict=True)
            }
            trained = (name for name, mode in modes.items() if len(mode) and not mode.any())
            cleared = {layer for name in trained for layer, _ in self.norms_of(name)}
            self._in_eval[key] = {
                name: tuple(layer for layer, _ in self.norms_of(name) if layer not in cleared)
                for name, mode in modes.items()
                if mode.any()
            }
        return self._in_eval[key]

    @functools.cached_property
    def limits(self) -> Limits:
        """Sizes at which entries of several tensors sit."""
        return shared_limits(self.records.audits)

    def _of(self, number: int) -> AuditSeries:
        if number not in self._rows:
            self._rows[number] = self.records.audits.of(number)
        return self._rows[number]

    def _clipped(self, optimizer: int, stage: Stage | None, rough: bool) -> NormClipping:
        whole, calls = self.calls(optimizer, None), self.calls(optimizer, stage)
        calls = calls if len(calls) >= FEWEST_AUDITED else whole
        known = np.isfinite(calls.grad_norm)
        if not known.any() or self._is_stale:
            return NormClipping()
        limit, at_limit = clipped_steps(calls.grad_norm[known], rough=rough)
        late = at_limit[calls.step[known] >= whole.step[0] + FIRST_STEPS]
        late_share = float(late.mean()) if late.size else math.nan
        at = calls.step[known][at_limit]
        since = int(at[0]) if at.size else None
        return NormClipping(limit, float(at_limit.mean()), late_share, late.size, since)

    @functools.cached_property
    def _is_stale(self) -> bool:
        """Whether no tensor's own gradient norm varies: the total is constant without a clip then.

        A clip makes the total constant, while the shares of the tensors in it go on changing.
        """
        audits = self.records.audits
        known = np.isfinite(audits.gg) & (audits.gg > 0.0)
        parameter, gg = audits.parameter[known], audits.gg[known]
        starts = _starts(parameter)
        if not len(starts):
            return False
        varies = np.maximum.reduceat(gg, starts) / np.minimum.reduceat(gg, starts) - 1.0
        return len(_starts(audits.parameter)) > 1 and not bool((varies > CONSTANT_GRADIENTS).any())


def _starts(values: NDArray[np.int32]) -> NDArray[np.intp]:
    """Where each new value of sorted ones begins."""
    return np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
