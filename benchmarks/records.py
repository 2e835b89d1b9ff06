"""What recording costs: time of one `rows` call, rows per second in and out, bytes a row.

    python benchmarks/records.py [steps [products]]
    python benchmarks/records.py --make DIRECTORY --groups 26560 --steps 2000
    python benchmarks/records.py --read DIRECTORY [--blocks]

Memory is the peak above that of the imports, in a process that only reads. `--make` records a run
of SGD's products that is as large as asked for; `--read` reads one, whole or in blocks.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from made_runs import make_run

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


def make(directory: Path, groups: int, steps: int) -> None:
    """Record a run of this size and print how long it took."""
    started = time.perf_counter()
    make_run(directory, groups, steps)
    size = sum(path.stat().st_size for path in (directory / "records").iterdir())
    print(
        f"{directory}: {groups:,} groups, {steps:,} steps, {size / groups / steps:.1f} bytes a "
        f"row, {time.perf_counter() - started:.0f} s"
    )


def read_alone(directory: Path, *, in_blocks: bool) -> None:
    """Print the seconds and the bytes of memory that reading takes."""
    before = _peak()
    started = time.perf_counter()
    records = read(directory)
    blocks = records.blocks() if in_blocks else [records]
    for block in blocks:
        assert block.gram.shape == block.lr.shape
    took = time.perf_counter() - started
    print(took, _peak() - before)


def _peak() -> int:
    """The most bytes of memory that this process has held."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("size", type=int, nargs="*", help="steps and products of the short run")
    parser.add_argument("--make", type=Path, metavar="DIRECTORY")
    parser.add_argument("--read", type=Path, metavar="DIRECTORY")
    parser.add_argument("--groups", type=int, default=53)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--blocks", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    if given.make:
        make(given.make, given.groups, given.steps)
    elif given.read:
        read_alone(given.read, in_blocks=given.blocks)
    else:
        steps, products = [*given.size, *(40_000, 6)[len(given.size) :]]
        main(steps, products)
