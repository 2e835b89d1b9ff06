"""Damaged and foreign runs: an error of ours or a result, at once (`tests/fuzzing`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from full_run import write_full_run
from fuzzing import KINDS, USES, faults, mutate

MUTATIONS = 3000
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_full_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("seed", range(len(KINDS)), ids=lambda seed: KINDS[seed].__name__)
def test_a_damaged_run_is_an_error_or_a_result(whole: Path, tmp_path: Path, seed: int) -> None:
    shutil.copytree(whole, tmp_path / "run")
    done = mutate(tmp_path / "run", seed)
    assert list(faults(tmp_path / "run", USES[:-1])) == [], done


def test_a_sound_run_can_be_drawn(whole: Path) -> None:
    assert list(faults(whole)) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thousands_of_damaged_runs_are_errors_or_results() -> None:
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT / "tests")))
    found = subprocess.run(
        [sys.executable, "-m", "fuzzing", "0", str(MUTATIONS)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
    assert f"{MUTATIONS} mutations" in found.stdout
