"""The passes over memory that a step makes: sums over invariant groups, then new weights.

In: the tensors of bound groups (`Members`): weights, gradients, momenta, or the weights before
a step. Out: inner products over each group, (groups,) float64, and tensors that were mixed in
place with factors for each group. Everything exists twice with one interface: in torch operations,
the reference on any device, and as compiled loops on the CPU.
"""

from spherical_motion.optim.engine.cpu_passes import CpuPasses, Turn
from spherical_motion.optim.engine.cpu_rotation import CpuRotation
from spherical_motion.optim.engine.passes import STILL, Factors, Passes, Products, TorchPasses, root
from spherical_motion.optim.engine.rotation import LOST, TorchRotation
from spherical_motion.optim.engine.turns import (
    AdaGradGNumbers,
    AdamGNumbers,
    turn_adagrad_g,
    turn_adam_g,
)
