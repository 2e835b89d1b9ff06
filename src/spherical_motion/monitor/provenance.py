"""The facts of a run: groups, settings, and where it comes from (versions, command, commit)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from spherical_motion.binding import scalar_settings
from spherical_motion.monitor.run.command import shown_command
from spherical_motion.monitor.sampling import Sampling
from spherical_motion.monitor.targets import Target
from spherical_motion.records import RunInfo
from spherical_motion.records.info import NormLayer
from spherical_motion.records.packing import pack_plan
from spherical_motion.vocabulary import Schedule
from spherical_motion.vocabulary.groups import InvariantGroup

DISTRIBUTIONS = ("spherical-motion", "torch", "numpy", "numba", "pyarrow")


def run_facts(
    groups: tuple[InvariantGroup, ...],
    optimizers: Sequence[torch.optim.Optimizer],
    targets: Mapping[str, Target],
    sampling: Sampling,
    products: int,
    plan: Schedule | None = None,
    norms: Mapping[str, tuple[NormLayer, ...]] | None = None,
) -> RunInfo:
    """The facts of a run, recorded before its first step."""
    before = np.cumsum([0, *(len(optimizer.param_groups) for optimizer in optimizers)])
    slices = dict.fromkeys(s for group in groups for s in group.slices)
    found = [targets[s.parameter] for s in slices]
    return RunInfo(
        groups=groups,
        param_groups=tuple(scalar_settings(optimizers)),
        slice_param_group=tuple(int(before[t.optimizer]) + t.param_group for t in found),
        every=sampling.every,
        burst=sampling.burst,
        products=products,
        plan=None if plan is None else pack_plan(plan),
        dtypes={
            name: str(target.parameter.dtype).removeprefix("torch.")
            for name, target in targets.items()
        },
        norms=norms or {},
        versions=_versions(),
        command=shown_command(sys.argv),
        commit=_commit(),
    )


def _versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the recorded numbers depend on."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _commit() -> str | None:
    """The git commit of the working directory, "-dirty" if it has changes; None outside a repo."""
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("-dirty" if changes else "")


def _git(*arguments: str) -> str:
    # Reading must write nothing, as the lock of the index, and start no program of the repository.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=5).strip()
