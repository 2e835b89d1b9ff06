"""Running a model at other weights without leaving a trace on it.

In: a model, example inputs, and weights to run at. Out: its outputs, and for each parameter and
row three sums of the weight and its gradient (`Evidence`).
"""

from spherical_motion.invariance.running.calling import call_model
from spherical_motion.invariance.running.norm_functions import (
    NORMS,
    argument_of,
    uses_own_statistics,
)
from spherical_motion.invariance.running.observing import Observer
from spherical_motion.invariance.running.precision import Precision, precision_of
from spherical_motion.invariance.running.prober import Prober, Weights
from spherical_motion.invariance.running.row_sums import Evidence, RowSums, stacked

__all__ = [
    "Evidence",
    "NORMS",
    "Observer",
    "Precision",
    "Prober",
    "RowSums",
    "Weights",
    "argument_of",
    "call_model",
    "precision_of",
    "stacked",
    "uses_own_statistics",
]
