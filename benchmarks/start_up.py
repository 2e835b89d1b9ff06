"""What starting takes: help, the first monitor of a process, and the memory of the compiler.

    python benchmarks/start_up.py [--times 5]

Every figure is of fresh processes. "first attach" is the time of the first `Monitor` on a small
net, with an empty cache of compiled code and with a filled one; "memory" what importing and
attaching add to a process that has trained a step already.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

ATTACH = """
import resource, sys, tempfile, time
import torch
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LayerNorm(64))
optimizer = torch.optim.AdamW(model.parameters())
def step():
    model(torch.randn(8, 64)).square().sum().backward()
    optimizer.step()
step()
before = resident()
start = time.perf_counter()
import spherical_motion as smd
imported = time.perf_counter()
directory = tempfile.mkdtemp()
smd.Monitor
ready = time.perf_counter()
with smd.watch(model, optimizer, directory=directory, groups="plain", quiet=True, audit=False):
    attached = time.perf_counter()
    step()
    print(ready - start, attached - ready, (resident() - before) / 1e6)
"""


def spread(values: list[float]) -> str:
    """p20 / p50 / p80."""
    return " / ".join(f"{v:.2f}" for v in np.percentile(values, [20, 50, 80]))


def attach(cache: str) -> tuple[float, float, float]:
    """Seconds to import, seconds to attach, and megabytes."""
    found = subprocess.run(
        [sys.executable, "-c", ATTACH],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    imported, attached, memory = map(float, found.stdout.split())
    return imported, attached, memory


def seconds(*command: str) -> float:
    """Of a process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    help_of = [sys.executable, "-m", "spherical_motion", "--help"]
    bare = [sys.executable, "-c", "import numpy"]
    seconds(*help_of)
    print(f"smd --help       {spread([seconds(*help_of) for _ in range(times)])} s")
    print(f"import numpy     {spread([seconds(*bare) for _ in range(times)])} s")
    empty, filled = [], []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as cache:
            empty.append(attach(cache))
            filled.append(attach(cache))
    for name, found in (("empty cache", empty), ("filled cache", filled)):
        imported, attached, memory = zip(*found, strict=True)
        figures = f"import {spread(list(imported))} s   first attach {spread(list(attached))} s"
        print(f"{name:<16} {figures}   memory {spread(list(memory))} MB")


if __name__ == "__main__":
    main()
