"""Measure the table and write docs/balance.md: `python -m balance.run` in benchmarks/.

Half an hour on one core. Results are kept in docs/balance.json, from which the tables of the page
are written; naming nets measures only those again, `--page` measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from balance.catalogue import NETS
from balance.embeddings import RARE
from balance.measuring import measured
from balance.net import Net
from balance.page import page
from balance.training import OPTIMIZERS, SCHEDULES, Setting

__all__ = ["main", "plan"]

DOCS = Path(__file__).parents[2] / "docs"
STEPS = 1700
"""Length of a run: three windows of 500 steps after the first 200."""


def plan() -> Iterator[tuple[Net, Setting, bool]]:
    """All runs, and whether they count in the table or are harder cases beside it."""
    for net in NETS:
        for optimizer in OPTIMIZERS:
            for schedule in SCHEDULES:
                yield net, Setting(optimizer, schedule, STEPS), True
    for net in NETS:
        if net.name.startswith("GPT"):
            yield net, Setting("AdamW", "constant", STEPS, beta2=0.95), False
    yield RARE, Setting("AdamW", "constant", STEPS), False


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", help="nets to measure again; all if none is named")
    parser.add_argument("--missing", action="store_true", help="measure only what is not kept yet")
    parser.add_argument("--page", action="store_true", help="write the page without measuring")
    arguments = parser.parse_args()
    names = list(dict.fromkeys(net.name for net, _, _ in plan()))
    if unknown := set(arguments.nets) - set(names):
        parser.error(f"no net {', '.join(unknown)}; there are {', '.join(names)}")
    torch.set_num_threads(1)
    store = DOCS / "balance.json"
    kept = read(store)
    for net, setting, _ in plan():
        key = key_of(net.name, setting)
        wanted = net.name in (arguments.nets or names) and not arguments.page
        if wanted and not (arguments.missing and key in kept):
            kept[key] = run = measured(net, setting)
            write(store, kept)
            print(line(run), flush=True)
    results = write(store, kept)
    text = (DOCS / "balance.md").read_text(encoding="utf-8")
    (DOCS / "balance.md").write_text(page(text, results), encoding="utf-8")


def key_of(net: str, setting: Setting) -> tuple[str, str, str, float]:
    return net, setting.optimizer, setting.schedule, setting.beta2


def read(store: Path) -> dict[tuple[str, str, str, float], dict[str, Any]]:
    """The runs that are kept, by what was run."""
    runs = json.loads(store.read_text(encoding="utf-8"))["runs"] if store.exists() else []
    return {(r["net"], r["optimizer"], r["schedule"], r["beta2"]): r for r in runs}


def write(store: Path, kept: dict[tuple[str, str, str, float], dict[str, Any]]) -> dict[str, Any]:
    """Keep the runs in the order of the plan."""
    order = {key_of(net.name, setting): counts for net, setting, counts in plan()}
    runs = [kept[key] | {"counts": counts} for key, counts in order.items() if key in kept]
    results = {"machine": machine(), "runs": runs}
    lines = ",\n".join(json.dumps(run, ensure_ascii=False) for run in runs)
    head = json.dumps(results["machine"])
    store.write_text(f'{{"machine": {head}, "runs": [\n{lines}\n]}}\n', encoding="utf-8")
    return results


def line(run: dict[str, Any]) -> str:
    """Progress of one run."""
    found = [w for matrix in run["matrices"] for w in matrix["windows"]]
    off = [abs(w["balance"] - 1.0) for w in found if w["balance"] is not None]
    worst = f"within {max(off):.1e} of 1" if off else "known"
    return (
        f"{run['net']}, {run['optimizer']}, {run['schedule']}, β2 {run['beta2']:g}: balance "
        f"{worst} in {len(off)} of {len(found)} windows, {run['seconds']:.0f} s"
    )


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cores": os.cpu_count(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


if __name__ == "__main__":
    main()
