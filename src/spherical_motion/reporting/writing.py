"""The one call from a run directory to a page."""

from __future__ import annotations

import os
from pathlib import Path

from spherical_motion.comparison import Comparison, compare
from spherical_motion.records import Records
from spherical_motion.reporting.html import write_report

__all__ = ["report"]


def report(
    run: str | os.PathLike[str] | Records | Comparison, path: str | os.PathLike[str] | None = None
) -> Path:
    """Draw a recorded run, held against the theory, as one HTML file that needs no network.

    Args:
        run: a run directory, `Records` already read, or a `Comparison` already made.
        path: where to write; left out, `report.html` in the run directory.

    Returns:
        Where it was written.

    Raises:
        NotARun: the directory holds no run.
        MissingExtra: Bokeh or Jinja is not installed (`pip install 'spherical-motion[report]'`).
    """
    comparison = run if isinstance(run, Comparison) else compare(run)
    return write_report(comparison, comparison.directory / "report.html" if path is None else path)
