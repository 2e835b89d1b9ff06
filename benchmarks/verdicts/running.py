"""Train one run, keep what was recorded, and judge it."""

from __future__ import annotations

import json
import shutil
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch

from verdicts.healthy import edit_for
from verdicts.judging import judged, said_of
from verdicts.loop import Loop
from verdicts.nets import TASKS
from verdicts.plan import FAULTS, Run

__all__ = ["compared", "measured", "trained"]

FACTS = "known.json"
"""Beside the recorded run: which parameters its fault concerns, and how long it took."""


def trained(run: Run, directory: Path) -> None:
    """Train it, recorded in `directory`."""
    torch.set_num_threads(1)
    start = time.process_time()
    fault = FAULTS[run.fault] if run.fault else None
    begins = fault.begins if fault else 0
    loop = Loop(TASKS[run.net], run.optimizer, run.schedule, run.length, begins, run.seed)
    (fault.install if fault else edit_for(run.variant))(loop)
    loop.train(directory)
    affected = None if loop.affected is None else sorted(loop.affected)
    seconds = round(time.process_time() - start, 2)
    facts = {"affected": affected, "seconds": seconds, "loss": float(loop.last_loss)}
    (directory / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def compared(run: Run, directory: Path) -> dict[str, Any]:
    """Judge a recorded run, by whatever version of the library is imported."""
    facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    said = said_of(directory)
    fault = FAULTS[run.fault] if run.fault else None
    result = judged(said, facts["affected"], fault)
    return {**described(run), **facts, **result, "said": said}


def measured(run: Run, kept: Path, again: bool, keep: bool) -> dict[str, Any]:
    """Train (unless `again`) and judge; an error takes the place of the result."""
    directory = kept / run.key
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not again:
                shutil.rmtree(directory, ignore_errors=True)
                trained(run, directory)
            return compared(run, directory)
    except Exception:
        return {**described(run), "error": traceback.format_exc(limit=-4)}
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def described(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__dataclass_fields__} | {"key": run.key}
