"""What a command imports before it works: help needs no heavy library."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("scipy", "torch", "numba", "matplotlib", "sklearn")


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"]])
def test_help_imports_no_heavy_library(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from spherical_motion.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "[]"
