"""What recording costs: time of one `rows` call, rows per second in and out, bytes a row.

    python benchmarks/records.py [steps [products]]

Memory is the peak above that of the imports, in a process that only reads.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from spherical_motion.records import RunInfo, RunWriter, read
from spherical_motion.vocabulary import InvariantGroup, Slice

LAYERS = 60


def main(steps: int, products: int) -> None:
    """Record `steps` steps of `LAYERS` layers, read them back, print the figures."""
    slices = [Slice(f"layer{i}.weight", 0, 0, 64) for i in range(LAYERS)]
    info = RunInfo(
        groups=tuple(InvariantGroup(s.parameter, "scale", (s,), ((s,),), 1) for s in slices),
        param_groups=({"class": "SGD", "optimizer": 0, "lr": 0.1, "momentum": 0.9},),
        slice_param_group=(0,) * LAYERS,
        products=products,
    )
    grams = np.random.default_rng(0).normal(size=(512, LAYERS, products))
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
        table = sum(path.stat().st_size for path in (directory / "settings").iterdir())
        command = [sys.executable, __file__, "--read", str(directory)]
        reading, peak = map(float, subprocess.check_output(command, text=True).split())
    rows = steps * LAYERS
    p20, p50, p80 = np.percentile(calls, [20, 50, 80]) * 1e6
    print(f"{platform.machine()}, numpy {np.__version__}, pyarrow {pa.__version__}; {rows:,} rows")
    print(f"one step, {LAYERS} slices  {p20:.1f} / {p50:.1f} / {p80:.1f} µs (p20/50/80)")
    print(f"write              {rows / writing / 1e6:.2f} million rows a second")
    print(f"read, as arrays    {rows / reading / 1e6:.2f} million rows a second")
    print(f"memory of reading  {peak / rows:.0f} bytes a row")
    print(f"disk               {size / rows:.1f} bytes a row, ", end="")
    print(f"{table / steps:.1f} bytes of settings a step")


def read_alone(directory: Path) -> None:
    """Print the seconds and the bytes of memory that reading takes."""
    before = _peak()
    started = time.perf_counter()
    records = read(directory)
    assert records.gram.shape == records.lr.shape
    took = time.perf_counter() - started
    print(took, _peak() - before)


def _peak() -> int:
    """The most bytes of memory that this process has held."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read_alone(Path(sys.argv[2]))
    else:
        steps, products = [*map(int, sys.argv[1:]), *(40_000, 6)[len(sys.argv) - 1 :]]
        main(steps, products)
