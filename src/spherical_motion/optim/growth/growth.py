"""The scale of the weights in a run without decay, relative to the decayed run, step by step.

Heavy ball with L2 decay, as in `torch.optim.SGD`, on a scale-invariant loss:

    v' = γv + g + λw,    w' = w - ηv'.

The run without decay keeps w̃ = P·w and ṽ = (v - c·w)/P: longer weights, and a buffer without the
part c·w that stems from decay. Since g̃ = g/P, its step at the rate η̃ is

    b = λ + γc,    α = 1 - ηb,    P' = P/α,    c' = b/α,    η̃ = P·P'·η.

Eliminating c gives theorem 2.5 of Li & Arora (2020). This form divides by no learning rate, so a
rate of 0 (the start of a warm-up) is no exception; η, λ and γ may change at each step, and the
first buffer need not be empty. Nesterov's step is not covered: v receives g once and w receives it
1 + γ times, and no c makes both right.
"""

from __future__ import annotations

import dataclasses
import math

from spherical_motion.errors import OutOfDomain

LN2 = math.log(2.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Growth:
    """The scale of the weights of one param group.

    Attributes:
        relative: log P of the weights as they are, after re-centring.
        lost: the rounding error of `relative`, for Kahan's sum.
        held: c, the decay that the buffer of the decayed run would hold.
        bits: the weights were divided by 2^bits so far.

    >>> growth = Growth()
    >>> round(growth.rate(0.1, 0.5, 0.0), 6)    # 0.1·0.95^{-1}
    0.105263
    >>> growth = growth.after(0.1, 0.5, 0.0)
    >>> round(growth.rate(0.1, 0.5, 0.0), 6)    # 0.1·0.95^{-3}
    0.116635
    """

    relative: float = 0.0
    lost: float = 0.0
    held: float = 0.0
    bits: int = 0

    @property
    def scale(self) -> float:
        """P of the weights as they are, after re-centring."""
        return math.exp(min(self.relative, 700.0))

    @property
    def log_scale(self) -> float:
        """log P over all steps, without re-centring."""
        return self.relative + self.bits * LN2

    def rate(self, lr: float, weight_decay: float, momentum: float) -> float:
        """η̃, the rate of this step in the run without decay; OutOfDomain if α <= 0."""
        # exp(2·relative) would lose digits that the two factors keep.
        return lr * self.scale * self.scale / self._kept(lr, weight_decay, momentum)

    def after(self, lr: float, weight_decay: float, momentum: float) -> Growth:
        """The scale after this step; OutOfDomain if α <= 0."""
        kept = self._kept(lr, weight_decay, momentum)
        felt = weight_decay + momentum * self.held
        term = -math.log1p(-lr * felt) - self.lost
        grown = self.relative + term
        lost = (grown - self.relative) - term
        return Growth(grown, lost, felt / kept, self.bits)

    def excess_bits(self, largest: float) -> int:
        """The power of two by which to shrink the weights; 0 while P is within `largest`."""
        return math.floor(self.relative / LN2) if self.relative > math.log(largest) else 0

    def recentred(self, bits: int) -> Growth:
        """The scale after the weights are divided by 2^bits."""
        return dataclasses.replace(self, relative=self.relative - bits * LN2, bits=self.bits + bits)

    def _kept(self, lr: float, weight_decay: float, momentum: float) -> float:
        """α, the share of the weights that decay leaves in this step."""
        kept = 1.0 - lr * (weight_decay + momentum * self.held)
        if not kept > 0.0:
            limit = (1.0 - math.sqrt(momentum)) ** 2
            remedy = "The rate rises too steeply: raise it over more steps."
            if lr * weight_decay >= limit:
                remedy = "Lower the weight decay or the momentum."
            raise OutOfDomain(
                f"ExponentialSchedule: α_t must be > 0 at every step, got {kept:.4g} for "
                f"lr={lr:g}, weight_decay={weight_decay:g}, momentum={momentum:g}: decay would "
                "turn the weights around. At constant settings lr × weight_decay must stay below "
                f"(1 - √momentum)² = {limit:.4g}, here {lr * weight_decay:.4g}. {remedy}"
            )
        return kept
