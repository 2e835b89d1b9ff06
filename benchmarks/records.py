"""What recording costs: time of one `rows` call, rows per second in and out, bytes a row.

python benchmarks/records.py [steps]
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from spherical_motion.records import RunInfo, RunWriter, read
from spherical_motion.vocabulary import InvariantGroup, Slice

LAYERS = 60


def main(steps: int) -> None:
    """Record `steps` steps of `LAYERS` layers, read them back, print the figures."""
    slices = [Slice(f"layer{i}.weight", 0, 0, 64) for i in range(LAYERS)]
    info = RunInfo(
        groups=tuple(InvariantGroup(s.parameter, "scale", (s,), ((s,),), 1) for s in slices),
        param_groups=({"class": "SGD", "optimizer": 0, "lr": 0.1, "momentum": 0.9},),
        slice_param_group=(0,) * LAYERS,
    )
    grams = np.random.default_rng(0).normal(size=(512, LAYERS, 6))
    with tempfile.TemporaryDirectory() as parent:
        directory = Path(parent) / "run"
        calls = np.empty(steps)
        started = time.perf_counter()
        with RunWriter(directory, info) as writer:
            for step in range(steps):
                before = time.perf_counter()
                writer.settings(step, 0, (1 - step / steps, 5e-4, 0.9, None))
                writer.rows(step, grams[step % 512])
                calls[step] = time.perf_counter() - before
        writing = time.perf_counter() - started
        size = sum(path.stat().st_size for path in (directory / "records").iterdir())
        started = time.perf_counter()
        records = read(directory)
        assert records.gram.shape == records.lr.shape == (steps, LAYERS)
        reading = time.perf_counter() - started
    rows = steps * LAYERS
    p20, p50, p80 = np.percentile(calls, [20, 50, 80]) * 1e6
    print(f"{platform.machine()}, numpy {np.__version__}, pyarrow {pa.__version__}; {rows:,} rows")
    print(f"rows(), {LAYERS} slices    {p20:.1f} / {p50:.1f} / {p80:.1f} µs (p20/50/80)")
    print(f"write              {rows / writing / 1e6:.2f} million rows a second")
    print(f"read, as arrays    {rows / reading / 1e6:.2f} million rows a second")
    print(f"disk               {size / rows:.1f} bytes a row")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40_000)
