"""Damage and use a run many times; print what went wrong, and counts."""

from __future__ import annotations

import collections
import logging
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from full_run import write_full_run

from fuzzing import KINDS, USES, faults, mutate

DRAWN = 7
"""Of so many damaged runs one is drawn; the number of kinds is no multiple of it."""

EACH = 100
"""Runs between two lines of progress."""

MEMORY = 8 << 30
"""A use that asks for more fails."""


def run(first: int, last: int) -> list[str]:
    """Damage a run with each seed from `first` to `last`, and use it; returns the faults."""
    found: list[str] = []
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = write_full_run(Path(folder) / "whole")
        for seed in range(first, last):
            directory = Path(folder) / "run"
            shutil.copytree(whole, directory)
            what = mutate(directory, seed)
            counts[KINDS[seed % len(KINDS)].__name__] += 1
            for fault in faults(directory, USES if seed % DRAWN == 0 else USES[:-1]):
                found.append(f"seed {seed}: {what}\n  {fault}")
                print(found[-1], flush=True)
            shutil.rmtree(directory)
            if sum(counts.values()) % EACH == 0:
                print(f"up to seed {seed}: {len(found)} faults", flush=True)
    print(f"{sum(counts.values())} mutations: {dict(counts)}; {len(found)} faults")
    return found


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.getLogger("spherical_motion").setLevel("ERROR")
    start = time.monotonic()
    faulty = run(int(sys.argv[1]), int(sys.argv[2]))
    print(f"{time.monotonic() - start:.0f} s")
    sys.exit(bool(faulty))
