"""Second rung, exact: the weights before a step are those after the step before."""

from __future__ import annotations

from collections.abc import Iterator

from spherical_motion.comparison.evidence import Evidence, Measured
from spherical_motion.comparison.ladder.reasons import WriteReason
from spherical_motion.comparison.ladder.said import part_of, percent, steps_text
from spherical_motion.vocabulary import Reason

OTHER_WEIGHTS = 1e-6
"""A relative change of the norm above this, where a run was resumed, means other weights."""


def weights_written(e: Evidence) -> Iterator[Reason]:
    """Something beside the optimizer wrote the weights between its steps."""
    found = e.laws.continuity
    if found.written:
        yield WriteReason.WRITTEN(
            first=found.steps[0],
            steps=steps_text(found.steps, found.written),
            written=found.written,
            pairs=found.pairs,
            write=percent(found.write),
            beside=_beside_a_step(e),
        )
        if e.laws.stepped_by is not None:
            yield WriteReason.BY_ANOTHER(name=e.laws.stepped_by[1])
    elif e.laws.stepped_by is not None:
        first, name = e.laws.stepped_by
        yield WriteReason.SECOND_OPTIMIZER(first=first, name=name)
    elif found.resumed > OTHER_WEIGHTS:
        yield WriteReason.WRITTEN_AT_RESUME(write=percent(found.resumed), step=found.resumed_at)


def _beside_a_step(e: Evidence) -> str:
    """The change of the norm as a share of a step's length, which is the angle times the norm."""
    if not isinstance(e, Measured) or not e.measured > 0:
        return ""
    return f" ({part_of(e.laws.continuity.write / e.measured)} a step's length)"
