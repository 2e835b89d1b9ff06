"""The first step at which any witness saw that the steps differ, where the reason given is later.

The law of motion tests every pair of neighbours, the audit single steps, and each explains better
what the other may have seen first.
"""

from __future__ import annotations

from collections.abc import Iterator

from spherical_motion.comparison.evidence import Evidence
from spherical_motion.comparison.ladder.reasons import StepReason
from spherical_motion.comparison.laws import StepLaw
from spherical_motion.vocabulary import Reason


def seen_before(e: Evidence, told: Reason) -> Iterator[Reason]:
    """The first step that another witness has, if it is before that of the reason told."""
    first = told.numbers.get("first")
    if not isinstance(first, int):
        return
    audited = e.laws.audited
    seen = [
        (_first_pair(e.laws.step), StepReason.MOVED_OTHERWISE),
        (audited.first, StepReason.REPLAYED_OTHERWISE),
        (audited.rewritten_since if audited.differing else None, StepReason.REWRITTEN),
    ]
    known = [(since, kind) for since, kind in seen if since is not None and since < first]
    if known:
        since, kind = min(known, key=lambda found: found[0])
        yield kind(since=since)


def _first_pair(law: StepLaw) -> int | None:
    """The first pair of neighbours that breaks the law of motion, in a stretch or alone."""
    return min([*law.spike_steps[:1], *([] if law.first is None else [law.first])], default=None)
