"""Simulations, step by step: an oracle that is independent of the closed forms in `theory`.

In: settings and a drive. Out: runs (`NormRun`, `RandomWalk`, `ToyRun`, `WellRun`).
`norm_sgd`, `norm_sgdm` and `norm_through` step the recursions of the norm, `random_walk` steps an
optimizer on random gradients, `toy_classifier` and `narrow_well` two small problems from the
papers. Nothing here imports `theory`, so agreement between the two is evidence.
"""

from spherical_motion.simulate.drive import WAN2021_DRIVES, Drive
from spherical_motion.simulate.norms import NormRun, norm_sgd, norm_sgdm, norm_through
from spherical_motion.simulate.toy import ToyRun, WellRun, narrow_well, toy_classifier
from spherical_motion.simulate.walk import RandomWalk, random_walk

__all__ = [
    "WAN2021_DRIVES",
    "Drive",
    "NormRun",
    "RandomWalk",
    "ToyRun",
    "WellRun",
    "narrow_well",
    "norm_sgd",
    "norm_sgdm",
    "norm_through",
    "random_walk",
    "toy_classifier",
]
