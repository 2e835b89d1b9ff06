"""Measure, predict and explain how weights that feed a normalization layer move on a sphere.

    import spherical_motion as smd

    monitor = smd.watch(model, optimizer, example_inputs, "runs/mine")   # keep the loop as it is
    print(smd.compare("runs/mine"))
    smd.report("runs/mine", "report.html")

Importing it does not import torch; names are resolved on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spherical_motion import errors, measure, optim, simulate, sphere, theory
    from spherical_motion.binding import all_groups
    from spherical_motion.comparison import Audit, Comparison, audit, compare
    from spherical_motion.errors import SphericalMotionError
    from spherical_motion.forecasting import (
        Forecast,
        forecast,
        scale_batch,
        settings_for_angle,
        settings_for_time_constant,
    )
    from spherical_motion.invariance import Inspection, find_groups, inspect_model
    from spherical_motion.monitor import Monitor, watch
    from spherical_motion.records import Records, read
    from spherical_motion.reporting import report
    from spherical_motion.vocabulary import (
        Gram,
        HyperParameters,
        InvariantGroup,
        Schedule,
        Slice,
        Stage,
        Suspect,
        Verdict,
        VerdictKind,
    )

_NAMES = {
    "binding": "all_groups",
    "comparison": "Audit Comparison audit compare",
    "errors": "SphericalMotionError",
    "forecasting": "Forecast forecast scale_batch settings_for_angle settings_for_time_constant",
    "invariance": "Inspection find_groups inspect_model",
    "monitor": "Monitor watch",
    "records": "Records read",
    "reporting": "report",
    "vocabulary": (
        "Gram HyperParameters InvariantGroup Schedule Slice Stage Suspect Verdict VerdictKind"
    ),
}
"""Room → the public names that it defines."""

_HOMES = {name: room for room, names in _NAMES.items() for name in names.split()}

_ROOMS = ("errors", "measure", "optim", "simulate", "sphere", "theory")
"""Modules that are public as a whole: smd.theory.equilibrium_angle(...)."""

__all__ = [
    "Audit",
    "Comparison",
    "Forecast",
    "Gram",
    "HyperParameters",
    "Inspection",
    "InvariantGroup",
    "Monitor",
    "Records",
    "Schedule",
    "Slice",
    "SphericalMotionError",
    "Stage",
    "Suspect",
    "Verdict",
    "VerdictKind",
    "__version__",
    "all_groups",
    "audit",
    "compare",
    "errors",
    "find_groups",
    "forecast",
    "inspect_model",
    "measure",
    "optim",
    "read",
    "report",
    "scale_batch",
    "settings_for_angle",
    "settings_for_time_constant",
    "simulate",
    "sphere",
    "theory",
    "watch",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
