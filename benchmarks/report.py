"""How long a report of a deep network and a long run takes to build and to open, and its size.

53 groups, 450,000 steps of which every tenth and its successor are recorded: 90,000 points a curve.

    python benchmarks/report.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import bokeh

from spherical_motion.reporting import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reporting"))
from browser import CHROMIUM, open_page
from fake_comparison import make_comparison

READY = "document.documentElement.dataset.readyMs"


def main() -> None:
    """Print the figures of the promise: at most 10 s, 5 MB and 2 s."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    comparison = make_comparison(groups=53, points=90_000)
    building: list[float] = []
    opening: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.html"
        for _ in range(rounds):
            start = time.perf_counter()
            write_report(comparison, path)
            building.append(time.perf_counter() - start)
            if CHROMIUM is not None:
                with open_page(path) as page:
                    opening.append(int(page.wait_for(READY)) / 1000)
        size = path.stat().st_size

    print(f"{platform.machine()}, Python {platform.python_version()}, Bokeh {bokeh.__version__}")
    print(f"size    {size / 1e6:.2f} MB                                   (promise: 5)")
    print(f"build   {spread(building)}   (promise: 10)")
    print(f"ready   {spread(opening)}   (promise: 2)" if opening else "ready   no Chromium on PATH")


def spread(seconds: list[float]) -> str:
    """Least, median and largest."""
    middle = statistics.median(seconds)
    return f"{min(seconds):.2f} / {middle:.2f} / {max(seconds):.2f} s (least, median, largest)"


if __name__ == "__main__":
    main()
