"""Every figure of the README's table of costs, each from two runs, with the load of the machine.

    python benchmarks/costs.py

A figure belongs into the README only if both runs show it, on a machine that does nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = ("gram_kernel.py", "monitor_overhead.py", "audit_cost.py", "start_up.py")


def main() -> None:
    """Run each script twice."""
    here = Path(__file__).parent
    for script in SCRIPTS:
        for run in (1, 2):
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            print(f"\n== {script}, run {run}; load {load}", flush=True)
            subprocess.run([sys.executable, str(here / script)], check=True)


if __name__ == "__main__":
    main()
