"""What finding the groups of a large network costs: seconds, passes, peak memory.

python benchmarks/large_networks.py [MODEL ...]

Each network is measured in processes of its own. The peak is the largest resident memory of the
search above the model as loaded, in units of the model's weights in the precision of the probes;
a plain forward pass in that precision, with what it keeps for the backward, is given beside it.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

import torch

NETWORKS = (
    ("transformers:GPT2LMHeadModel?n_layer=12", 128, 2, "float64"),
    ("transformers:GPT2Model?n_layer=12", 128, 2, "float64"),
    ("transformers:GPT2Model?n_layer=24&n_embd=1024&n_head=16", 128, 2, "float64"),
    ("transformers:GPT2Model?n_layer=24&n_embd=1024&n_head=16", 128, 2, "float32"),
    ("torchvision:vit_b_16", (3, 224, 224), 4, "float64"),
    ("torchvision:resnet50", (3, 64, 64), 8, "float64"),
)
"""Name, length of the token sequences or shape of an image, batch, precision of the probes."""


def loaded(spec: str, size: Any, batch: int) -> tuple[torch.nn.Module, Any]:
    """The model with random weights, and inputs for it."""
    from spherical_motion.compat import load_model, random_input, random_tokens

    torch.manual_seed(0)
    model = load_model(spec)
    if isinstance(size, int):
        return model, random_tokens(model, size, batch)
    return model, random_input("x".join(map(str, size)), batch)


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most it ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def searched(spec: str, size: Any, batch: int, dtype: str) -> dict[str, Any]:
    """Cost of one search."""
    from spherical_motion.invariance import inspect_model

    model, inputs = loaded(spec, size, batch)
    before, started, worked = resident(), time.perf_counter(), time.process_time()
    found = inspect_model(model, inputs, dtype=getattr(torch, dtype))
    return {
        "entries": sum(p.numel() for p in model.parameters()),
        "groups": len(found.groups),
        "cells": sum(len(group.cells) for group in found.groups),
        "coverage": found.coverage,
        "passes": found.passes,
        "repairs": found.repairs,
        "forwards": found.forwards,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - worked,
        "peak": peak() - before,
        "warnings": list(found.warnings),
    }


def one_forward(spec: str, size: Any, batch: int, dtype: str) -> int:
    """Bytes that a forward with its graph needs above the model in that precision."""
    model, inputs = loaded(spec, size, batch)
    model = model.to(getattr(torch, dtype))
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        inputs = inputs.to(getattr(torch, dtype))
    before = resident()
    result = model(**inputs) if isinstance(inputs, Mapping) else model(inputs)
    needed = peak() - before
    del result
    return needed


def in_a_process(what: str, index: int) -> Any:
    """A figure taken in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, __file__, what, str(index)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(wanted: list[str]) -> None:
    """Measure and print."""
    if wanted and wanted[0] in ("searched", "one_forward"):
        warnings.simplefilter("ignore")
        print(json.dumps(globals()[wanted[0]](*NETWORKS[int(wanted[1])])))
        return
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for index, (spec, size, batch, dtype) in enumerate(NETWORKS):
        if wanted and spec not in wanted:
            continue
        found, forward = in_a_process("searched", index), in_a_process("one_forward", index)
        weights = found["entries"] * (8 if dtype == "float64" else 4)
        print(
            f"{spec}, {batch} × {size}, {dtype}: {found['entries'] / 1e6:.0f}M entries, "
            f"{found['groups']} groups of {found['cells']:,} cells ({found['coverage']:.1%}), "
            f"{found['passes']} passes ({found['repairs']} repairs), {found['forwards']} forwards, "
            f"{found['seconds']:.0f} s ({found['cpu_seconds']:.0f} of CPU); "
            f"peak {found['peak'] / weights:.2f} × the weights in {dtype}, a forward alone "
            f"{forward / weights:.2f} ×" + "".join(f"\n  {line}" for line in found["warnings"][:3])
        )


if __name__ == "__main__":
    main(sys.argv[1:])
