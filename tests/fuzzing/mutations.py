"""All kinds of damage."""

from __future__ import annotations

import random
from pathlib import Path

from fuzzing import files, parts, texts

KINDS = (
    *(texts.info_value, texts.info_value, texts.info_count, texts.info_many, texts.info_text),
    *(texts.event_value, texts.event_added, texts.event_lines),
    *(parts.truncated, parts.flipped, parts.flipped, parts.other_schema, parts.other_values),
    *(parts.many_rows, parts.foreign, parts.claimed_rows),
    *(files.removed, files.renamed, files.replaced, files.added),
)


def mutate(directory: Path, seed: int) -> str:
    """Damage a run, sometimes in two ways; returns how. The kinds take turns with the seed."""
    rng = random.Random(seed)
    kinds = [KINDS[seed % len(KINDS)]]
    if rng.random() < 0.2:
        kinds.append(
            rng.choice(KINDS[:2]) if kinds[0].__module__ == files.__name__ else files.removed
        )
    done: list[str] = []
    for kind in kinds:
        try:
            done.append(f"{kind.__name__}: {kind(directory, rng)}")
        except (OSError, ValueError, KeyError, TypeError):  # the first has removed what it changes
            done.append(f"{kind.__name__}: not done")
    return " and ".join(done)
