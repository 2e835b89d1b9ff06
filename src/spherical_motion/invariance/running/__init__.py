"""Running a model at other weights without leaving a trace on it.

In: a model, example inputs, and weights to run at. Out: its outputs, and for each parameter and
row three sums of the weight and its gradient (`Evidence`).
"""

from spherical_motion.invariance.running.calling import call_model, float_outputs, unwrapped
from spherical_motion.invariance.running.eps_share import normalized_sets, share_of_eps
from spherical_motion.invariance.running.interception import Observer
from spherical_motion.invariance.running.listener import NormListener
from spherical_motion.invariance.running.norm_functions import (
    NORMS,
    Args,
    Function,
    Keywords,
    argument_of,
    uses_own_statistics,
)
from spherical_motion.invariance.running.precision import Precision, precision_of
from spherical_motion.invariance.running.prober import Prober
from spherical_motion.invariance.running.row_sums import Evidence, RowSums, stacked
from spherical_motion.invariance.running.run import run_at, undisturbed
from spherical_motion.invariance.running.subject import Subject, Weights
