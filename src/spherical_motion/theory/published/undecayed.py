"""Without weight decay the norm only grows, by the squares of the steps (Li & Arora, 2020, B.1).

With R = |w|², D = |d|², a constant learning rate and momentum γ, <w, g> = 0 gives

    R_{t+1} - R_t = γ(R_t - R_{t-1}) + D_t + γD_{t-1},

so that from an empty buffer, R_{-1} = R_0 and D_{-1} = 0,

    R_{t+1} = R_0 + Σ_{i<=t} (1 - γ^{t-i+1})/(1 - γ)·(D_i + γD_{i-1}).

Their theorem B.1 prints it without R_0, and the terms of a buffer that is not empty with the wrong
sign: γ(1 - γ^{t+1})/(1 - γ)·(R_0 - R_{-1}) is to be added. For a learning rate that changes, the
increase is at least γ^{t+1}(η_t/η_{-1})(R_0 - R_{-1}): from an empty buffer the norm never falls.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.checks import above_zero, not_negative, number
from spherical_motion.errors import OutOfDomain


def undecayed_norm_sq(
    norm_sq0: ArrayLike, step_sq: ArrayLike, momentum: float
) -> NDArray[np.float64]:
    """|w|² before each step and after the last, from the squared lengths of the steps alone.

    Theorem B.1 of Li & Arora (2020), corrected; exact for SGD with heavy-ball momentum, a constant
    learning rate, no weight decay and an empty buffer at the start.

    Args:
        norm_sq0: |w|² before the first step, scalar or (groups,), > 0.
        step_sq: |d|² of each step, shape (steps,) or (steps, groups), >= 0.
        momentum: γ, in [0, 1).

    Returns:
        Shape (steps + 1,) or (steps + 1, groups).

    Raises:
        OutOfDomain: a value outside its range.

    >>> undecayed_norm_sq(1.0, [0.1, 0.1], momentum=0.5).tolist()
    [1.0, 1.1, 1.3]
    """
    steps = not_negative("undecayed_norm_sq", "step_sq", step_sq)
    start = above_zero("undecayed_norm_sq", "norm_sq0", norm_sq0)
    number("undecayed_norm_sq", "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    path = np.empty((len(steps) + 1, *np.broadcast_shapes(steps.shape[1:], start.shape)))
    path[0] = start
    rise, before = np.zeros(path.shape[1:]), np.zeros(path.shape[1:])
    for t, length in enumerate(steps):
        rise = momentum * (rise + before) + length
        before = length
        path[t + 1] = path[t] + rise
    return path
