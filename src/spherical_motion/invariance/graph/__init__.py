"""What flows into which norm layer, read off the autograd graph of one forward pass.

In: the calls of norm functions during the pass, and its outputs. Out: a `Course`, which says for a
parameter which norms it feeds, and past which sums and curved functions.
"""

from spherical_motion.invariance.graph.course import Course
from spherical_motion.invariance.graph.feeding import NormFed, norms_fed
from spherical_motion.invariance.graph.observer import NormObserver
from spherical_motion.invariance.graph.paths import CONSTANT, CURVED, SOFTMAX, Paths
