"""What tests give a writer."""

from __future__ import annotations

from collections.abc import Sequence

from spherical_motion.records import RunWriter


def give(writer: RunWriter, step: int, settings: Sequence[Sequence[float | None]]) -> None:
    """Record the settings of all param groups at a step."""
    for param_group, values in enumerate(settings):
        writer.settings(step, param_group, values)
