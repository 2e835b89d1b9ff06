"""Watch a training loop: hooks on the optimizer, a copy of the weights, and a writer.

In: a model, its groups and optimizers. Out: a run directory that `records` reads.
"""

from spherical_motion.monitor.attach import watch
from spherical_motion.monitor.audit import register_rule
from spherical_motion.monitor.monitor import Monitor

__all__ = ["Monitor", "register_rule", "watch"]
