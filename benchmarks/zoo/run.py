"""Measure the zoo and write docs/zoo.md: `python -m zoo.run` in benchmarks/ (or `make zoo`).

Each network is measured in a process of its own, so that its peak memory is its own. Results are
kept in docs/zoo.json, from which the page is written; naming networks measures only those again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from spherical_motion.invariance import inspect_model
from zoo.catalogue import NETWORKS
from zoo.network import Network
from zoo.page import page
from zoo.rules import flagged
from zoo.score import scored

__all__ = ["main", "measured"]

DOCS = Path(__file__).parents[2] / "docs"
LONGEST = 1800
"""Seconds after which a network is given up."""


def measured(network: Network) -> dict[str, Any]:
    """Truth, search, score and rival rules of one network, as JSON can say it."""
    model, inputs = network.made()
    truth = network.truth(model)
    before = peak_memory()
    start, worked = time.perf_counter(), time.process_time()
    inspection = inspect_model(model, inputs)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    peak = peak_memory() - before
    score = scored(truth, [cell for group in inspection.groups for cell in group.cells])
    members = {part.parameter for cell in truth.cells for part in cell}
    ignored = {p.parameter for p in truth.silent if p.length == truth.shapes[p.parameter][p.axis]}
    members -= ignored
    return {
        "name": network.name,
        "note": network.note,
        "parameters": len(truth.shapes),
        "entries": sum(p.numel() for p in model.parameters()),
        "true_cells": score.true_cells,
        "true_parameters": score.parameters,
        "found": score.found,
        "exact": score.exact,
        "gauge": score.gauge,
        "false": [shown(cell) for cell in score.false],
        "missed": [shown(cell) for cell in score.missed],
        "missed_by_gauge": score.missed_by_gauge,
        "found_parameters": score.found_parameters,
        "right_parameters": score.right_parameters,
        "gauge_parameters": score.gauge_parameters,
        "groups": len(inspection.groups),
        "rescalings": len(inspection.rescalings),
        "coverage": inspection.coverage,
        "warnings": list(inspection.warnings),
        "passes": inspection.passes,
        "repairs": inspection.repairs,
        "forwards": inspection.forwards,
        "seconds": seconds,
        "cpu_seconds": worked,
        "peak_bytes": peak,
        "rules": {
            rule: {"flagged": len(found), "right": len(found & members)}
            for rule, found in flagged(model, inputs).items()
        },
    }


def shown(cell: tuple[Any, ...]) -> str:
    """A cell in one line."""
    return " + ".join(map(str, cell))


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_a_process(network: Network) -> dict[str, Any]:
    """`measured` in a fresh interpreter; an error takes the place of the figures."""
    command = [sys.executable, "-m", "zoo.run", "--one", network.name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST, cwd=Path(__file__).parents[1]
        )
    except subprocess.TimeoutExpired:
        return {"name": network.name, "note": network.note, "error": f"over {LONGEST} s"}
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"name": network.name, "note": network.note, "error": reason}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks to measure again; all if none is named")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--page", action="store_true", help="write the page without measuring")
    arguments = parser.parse_args()
    by_name = {network.name: network for network in NETWORKS}
    if arguments.one:
        warnings.simplefilter("ignore")
        print(json.dumps(measured(by_name[arguments.one])))
        return
    if unknown := set(arguments.names) - set(by_name):
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(by_name)}")
    store = DOCS / "zoo.json"
    kept = json.loads(store.read_text()) if store.exists() else {"machine": {}, "networks": {}}
    if not arguments.page:
        for name in arguments.names or by_name:
            kept["networks"][name] = result = in_a_process(by_name[name])
            store.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            print(line(result), flush=True)
        kept["machine"] = machine()
    kept["networks"] = {n: kept["networks"][n] for n in by_name if n in kept["networks"]}
    store.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (DOCS / "zoo.md").write_text(page(kept), encoding="utf-8")


def line(result: dict[str, Any]) -> str:
    """Progress of one network."""
    if "error" in result:
        return f"{result['name']}: {result['error']}"
    return (
        f"{result['name']}: {result['exact']} + {result['gauge']} by gauge of "
        f"{result['true_cells']} true, {len(result['false'])} false, {result['passes']} passes, "
        f"{result['seconds']:.1f} s"
    )


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    from importlib.metadata import version

    libraries = ("torch", "numpy", "torchvision", "timm", "transformers")
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": ".".join(map(str, sys.version_info[:3])),
        **{library: version(library) for library in libraries},
    }


if __name__ == "__main__":
    main()
