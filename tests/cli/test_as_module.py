"""`python -m spherical_motion` is `smd`."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["spherical_motion", "spherical_motion.cli"])
def test_the_package_runs_as_the_command(module: str) -> None:
    plan = ["plan", "--lr", "0.1", "--momentum", "0.9", "--angle", "3e-3"]
    found = subprocess.run([sys.executable, "-m", module, *plan], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "weight decay" in found.stdout
    wrong = subprocess.run([sys.executable, "-m", module, "plan"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "smd plan" in wrong.stderr
