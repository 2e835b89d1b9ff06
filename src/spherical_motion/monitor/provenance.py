"""Where a run comes from: versions, command and commit, as far as they can be told."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import subprocess
import sys

__all__ = ["command_line", "commit_of_caller", "versions"]

DISTRIBUTIONS = ("spherical-motion", "torch", "numpy", "numba", "pyarrow")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape the recorded numbers."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The command that started this process."""
    return shlex.join(sys.argv)


def commit_of_caller() -> str | None:
    """The git commit of the working directory, "-dirty" if it has changes; None outside a repo."""
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("-dirty" if changes else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, check=True, text=True, timeout=5
    ).stdout.strip()
