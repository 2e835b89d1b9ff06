"""Reading, judging and drawing a long recorded run: 53 groups, 450,000 steps, every tenth pair.

    python benchmarks/whole_run.py

4.77 million rows, written by the real writer and read by the real reader.
"""

from __future__ import annotations

import math
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from spherical_motion.comparison import compare
from spherical_motion.records import RunInfo, RunWriter, read
from spherical_motion.reporting import report
from spherical_motion.vocabulary import InvariantGroup, Slice

GROUPS, STEPS, EVERY = 53, 450_000, 10
WEIGHT_DECAY, MOMENTUM = 1e-4, 0.9


def write(directory: Path) -> None:
    """A made-up run with two drops; its numbers only need to be plausible."""
    rng = np.random.default_rng(0)
    pieces = [Slice(f"layer{i}.conv.weight", 0, 0, 64) for i in range(GROUPS)]
    groups = tuple(
        InvariantGroup(f"layer{i}.conv", "scale", (s,), ((s,),), 36_864, 1e-6)
        for i, s in enumerate(pieces)
    )
    sgd = {"class": "SGD", "optimizer": 0, "lr": 0.1, "weight_decay": WEIGHT_DECAY}
    info = RunInfo(
        groups=groups,
        param_groups=(sgd | {"momentum": MOMENTUM},),
        slice_param_group=(0,) * GROUPS,
        every=EVERY,
        burst=2,
    )
    ww = np.full(GROUPS, 20.0)
    with RunWriter(directory, info) as writer:
        for base in range(0, STEPS, EVERY):
            lr = 0.1 / 10 ** (3 * base // STEPS)
            ww += (4 * math.sqrt(lr * 10) - ww) * 4 * lr * WEIGHT_DECAY / (1 - MOMENTUM) * EVERY
            writer.settings(base, 0, (lr, WEIGHT_DECAY, MOMENTUM, None))
            for step in (base, base + 1):
                dd = ww * 2 * lr * WEIGHT_DECAY / 1.9 * rng.lognormal(0, 0.3, GROUPS)
                gram = [ww, -dd / 2, dd, 0 * ww, 0.19 * dd / lr**2, -0.19 * dd / lr]
                writer.rows(step, np.stack(gram, axis=1))


def main() -> None:
    """Print seconds and sizes."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        run, page = Path(scratch) / "run", Path(scratch) / "report.html"
        write(run)
        size = sum(path.stat().st_size for path in (run / "records").iterdir())
        start = time.perf_counter()
        records = read(run)
        rows, read_at = len(records.rows["step"]), time.perf_counter()
        comparison = compare(records)
        findings, judged_at = comparison.findings, time.perf_counter()
        report(comparison, page)
        drawn_at = time.perf_counter()
        print(f"{rows:,} rows, {size / 1e6:.0f} MB, {size / rows:.1f} bytes a row")
        print(f"read {read_at - start:.2f} s, judged {judged_at - read_at:.2f} s, ", end="")
        print(f"drawn {drawn_at - judged_at:.2f} s; page {page.stat().st_size / 1e6:.1f} MB")
        print(f"{len(comparison)} verdicts, {len(findings)} findings")


if __name__ == "__main__":
    main()
