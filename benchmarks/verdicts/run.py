"""Measure the table and write docs/verdicts.md: `python -m verdicts.run` in benchmarks/.

Results go into a folder, one file a run, so that a run that was interrupted goes on where it
stopped. With `--keep` the recorded runs stay there, too, and `--again` judges them without
training; with an earlier version of the package on PYTHONPATH this gives the column "before".
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from verdicts.plan import Run, every_run, quick_runs
from verdicts.running import measured

__all__ = ["main"]

DOCS = Path(__file__).parents[2] / "docs"
WORKERS = 2


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("../build/verdicts"))
    parser.add_argument("--results", default="after", help="name of the results in the folder")
    parser.add_argument("--quick", action="store_true", help="one net for each fault")
    parser.add_argument("--only", action="append", metavar="FAULT/NET", help="parts of their names")
    parser.add_argument("--limit", type=int, help="at most so many runs")
    parser.add_argument("--part", default="1/1", help="2/4: the second of four parts")
    parser.add_argument("--keep", action="store_true", help="keep what was recorded")
    parser.add_argument("--again", action="store_true", help="judge what was kept; train nothing")
    parser.add_argument("--fresh", action="store_true", help="measure also what is there")
    parser.add_argument("--page", action="store_true", help="write the page, measure nothing")
    parser.add_argument("--no-page", action="store_true", help="measure, write no page")
    parser.add_argument("--workers", type=int, default=WORKERS)
    arguments = parser.parse_args()
    results = arguments.folder / arguments.results
    results.mkdir(parents=True, exist_ok=True)
    if not arguments.page:
        wanted = chosen(quick_runs() if arguments.quick else every_run(), arguments.only)
        if arguments.again:
            wanted = [run for run in wanted if (arguments.folder / "runs" / run.key).exists()]
        if not arguments.fresh:
            wanted = [run for run in wanted if not (results / f"{run.key}.json").exists()]
        part, parts = map(int, arguments.part.split("/"))
        measure(wanted[: arguments.limit][part - 1 :: parts], results, arguments)
    if not arguments.no_page:
        from verdicts.page import write_page

        write_page(arguments.folder, DOCS)


def chosen(runs: list[Run], only: Iterable[str] | None) -> list[Run]:
    """Runs whose fault and net have the parts given: "EMA/conv", "/gpt", "healthy/plain"."""
    if only is None:
        return runs
    asked = [text.partition("/") for text in only]
    return [
        run
        for run in runs
        if any(f in (run.fault or "healthy") and n in run.net for f, _, n in asked)
    ]


def measure(runs: list[Run], results: Path, arguments: argparse.Namespace) -> None:
    """Measure in worker processes and keep each result as soon as it is there."""
    kept, start = arguments.folder / "runs", time.perf_counter()
    workers = ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn"))
    keep = arguments.keep or arguments.again
    with workers as pool:
        waiting = {pool.submit(measured, run, kept, arguments.again, keep): run for run in runs}
        for number, future in enumerate(as_completed(waiting), start=1):
            result = future.result()
            path = results / f"{waiting[future].key}.json"
            path.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
            took = time.perf_counter() - start
            print(f"{number}/{len(runs)} {took:.0f} s {line(waiting[future], result)}", flush=True)


def line(run: Run, result: dict[str, Any]) -> str:
    """Progress of one run."""
    if "error" in result:
        return f"{run.title}: ERROR {result['error'].strip().splitlines()[-1]}"
    if not run.fault:
        return f"{run.title}: {result['alarms']} alarms of {result['judged']}"
    counts: dict[str, int] = {}
    for case in result["cases"].values():
        said = f"{case['result']} ({case['kind']} {case['suspect']})"
        counts[said] = counts.get(said, 0) + 1
    words = "; ".join(f"{n} {said}" for said, n in counts.items())
    return f"{run.title}: {words}; spilt {len(result['spilt'])}, {result['seconds']:.1f} s"


if __name__ == "__main__":
    main()
