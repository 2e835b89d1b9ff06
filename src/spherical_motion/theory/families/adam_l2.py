"""Adam with L2 weight decay: the gradient's size divides the decay too, and sets the balance.

σ/|w| is what Adam divides the decay by, so that d|w|²/dt = η²·numel - 2ηλ|w|³/σ. At rest each
coordinate has w_i² = ησ_i/(2λ|w|), whose sum is |w|³ = ηdσ/(2λ). On the way the excess s² of |w|²
obeys d(s²)/dt = (2r/3)(1 - s³), whose solution is t = [T(s_t) - T(s_0)]/r with T(s) = ½ln(1 + s +
s²) - ln|1 - s| - √3·atan((2s + 1)/√3). A drop of the rate by k multiplies the excess by k^⅔.
"""

from __future__ import annotations

import math

import numpy as np

from spherical_motion.theory.families.adamw import AdamLaw
from spherical_motion.theory.family import Family
from spherical_motion.theory.group import GroupFacts
from spherical_motion.theory.relaxation import mean_decay
from spherical_motion.theory.settings import Array, Settings, Steps, Value
from spherical_motion.vocabulary.hyperparameters import HyperParameters


class AdamL2(Family):
    """|w|² relaxes, not linearly; rate and gain are those of small deviations from rest."""

    name = "Adam with L2 weight decay"
    optimizers = ("adam", "adamw")
    decoupled = False
    drive = "unit_grad_rms"
    pull_power = 0.5
    needs = ("unit_grad_rms", "numel")
    takes_entries_alike = True
    balance_law = AdamLaw()

    def largest_intrinsic_lr(self, momentum: float) -> float:
        # Adam divides the decay by the gradient's size, so that ηλ alone sets no limit.
        return math.inf

    def rate(self, s: Settings, facts: GroupFacts) -> Value:
        """3ηλ|w*|/σ with |w*| = (η·numel·σ/(2λ))^⅓."""
        rms, numel = facts.need("unit_grad_rms"), facts.need("numel")
        norm = (s.lr * numel * rms / (2.0 * s.weight_decay)) ** (1.0 / 3.0)
        return 3.0 * s.lr * s.weight_decay * norm / rms

    def gain(self, s: Settings, facts: GroupFacts) -> Value:
        """The gain per entry that gives the right y*."""
        return s.lr**2 * 1.5

    def turn(self, s: Settings, facts: GroupFacts) -> Value:
        return s.lr**2 * (1.0 - s.momentum) / (1.0 + s.momentum)

    def rest_norm(self, hp: HyperParameters, facts: GroupFacts) -> float:
        return float(self.gain(hp, facts) * facts.need("numel") / self.rate(hp, facts)) ** 0.5

    def norm_approx(self, hp: HyperParameters, facts: GroupFacts) -> float:
        return self.rest_norm(self._checked(hp, facts, "equilibrium_norm_approx"), facts)

    def forgetting_rate(self, hp: HyperParameters, facts: GroupFacts) -> float:
        return self.relaxation_rate(hp, facts) / 3.0  # it relaxes as |w|³ does

    def excess_after_drop(self, lr_drop: float) -> float:
        return lr_drop ** (2.0 / 3.0)

    def excess_after(self, start: Array, time: Array) -> Array:
        """Solve T(s) = T(s_0) + time for s², by bisection of |1 - s|, which only shrinks."""
        s0, time = np.broadcast_arrays(np.sqrt(start), time)
        gap0 = np.abs(1.0 - s0)
        side = np.where(s0 > 1.0, 1.0, -1.0)
        resting = gap0 == 0.0
        goal = _clock(np.where(resting, 2.0, s0)) + time
        low, high = np.zeros_like(gap0), np.where(resting, 1.0, gap0)  # T falls as the gap grows
        for _ in range(1100):  # every float64 lies within as many halvings of any other
            middle = 0.5 * (low + high)
            if np.all((middle == low) | (middle == high)):
                break
            with np.errstate(divide="ignore"):
                late = _clock(1.0 + side * middle) > goal
            low, high = np.where(late, middle, low), np.where(late, high, middle)
        return np.where(resting, 1.0, 1.0 + side * 0.5 * (low + high)) ** 2

    def time_between(self, start: float, target: float) -> float:
        return float(_clock(np.sqrt(target)) - _clock(np.sqrt(start)))

    def unopposed_time(self, excess: float) -> float:
        # d|w|/dt = -ηλ|w|²/σ by the pull alone: |w| shrinks as 1/t.
        return 3.0 * (1.0 - excess**-0.5) if excess > 1.0 else 1.5 * (1.0 - excess)

    def window_ratio_sq(
        self, hp: HyperParameters, norms: Array, steps: float, facts: GroupFacts
    ) -> float:
        return float((1.0 / (norms / self.norm(hp, facts)) ** self.power).mean())

    def driven_power(
        self, s: Steps, start: Array, drive: Array, span: Array, facts: GroupFacts
    ) -> Array:
        """Step by step, since the pull depends on the norm."""
        y = np.empty((span.size + 1, *start.shape))
        y[0] = start
        pull = 2.0 * span * s.lr * s.weight_decay
        push = span * s.lr**2 * facts.need("numel")
        for t in range(span.size):
            rate = pull[t] * np.sqrt(y[t]) / drive[t]
            y[t + 1] = y[t] * np.exp(-rate) + push[t] * mean_decay(rate)
        return y

    def driven_turn(self, s: Steps, drive: Array, facts: GroupFacts) -> Value:
        return self.turn(s, facts) * np.where(np.isfinite(drive), facts.need("numel"), np.nan)

    def memory(self, hp: HyperParameters, lost: float) -> tuple[float, float]:
        # Adam divides by a size that has settled, which only rescales ηλ; `lost` says by how much.
        x = (1.0 + hp.momentum) * lost
        return 1.0 - hp.momentum + x, x


def _clock(s: Array) -> Array:
    """T(s) of the module's docstring; s = √excess."""
    return (
        0.5 * np.log1p(s + s * s)
        - np.log(np.abs(1.0 - s))
        - math.sqrt(3.0) * np.arctan((2.0 * s + 1.0) / math.sqrt(3.0))
    )
