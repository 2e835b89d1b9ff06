"""How far the weights of a run without decay are ahead of the run with it, step by step.

Heavy ball with L2 decay, as in `torch.optim.SGD`, on a scale-invariant loss:

    v' = γv + g + λw,    w' = w - ηv'.

The run without decay keeps w̃ = P·w and ṽ = (v - c·w)/P: longer weights, and a buffer without the
part c·w of the old one that stems from decay. Since g̃ = g/P, one step of it at the rate η̃ is

    b = λ + γc,    α = 1 - ηb,    P' = P/α,    c' = b/α,    η̃ = P·P'·η.

Eliminating c gives theorem 2.5 of Li & Arora (2020). In this form nothing is divided by a learning
rate, so a step of rate 0 (the start of a warm-up) is no exception; η, λ and γ may all change from
step to step, and a buffer that is not empty may be started with. Nesterov's step is not covered:
v takes in g once and w takes it in 1 + γ times, and no c makes both right.
"""

from __future__ import annotations

import dataclasses
import math

from spherical_motion.errors import OutOfDomain

LN2 = math.log(2.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Growth:
    """Where the weights of one param group stand.

    Attributes:
        relative: log P as the weights have it, re-centring counted in.
        lost: what Kahan's sum of `relative` still owes.
        held: c, the decay that the buffer of the decayed run would hold.
        bits: the weights have been divided by 2^bits so far.

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
        """P as the weights have it, re-centring counted in."""
        return math.exp(min(self.relative, 700.0))

    @property
    def log_scale(self) -> float:
        """log P over all steps, as if nothing had been re-centred."""
        return self.relative + self.bits * LN2

    def rate(self, lr: float, weight_decay: float, momentum: float) -> float:
        """η̃, the rate at which the run without decay takes this step.

        Raises:
            OutOfDomain: α <= 0.
        """
        # exp of the sum would lose the digits that the two factors keep.
        return lr * self.scale * self.scale / self._kept(lr, weight_decay, momentum)

    def after(self, lr: float, weight_decay: float, momentum: float) -> Growth:
        """Where the weights stand after this step.

        Raises:
            OutOfDomain: α <= 0.
        """
        kept = self._kept(lr, weight_decay, momentum)
        felt = weight_decay + momentum * self.held
        term = -math.log1p(-lr * felt) - self.lost
        grown = self.relative + term
        lost = (grown - self.relative) - term
        return Growth(grown, lost, felt / kept, self.bits)

    def excess_bits(self, largest: float) -> int:
        """By how many powers of two to shrink the weights; 0 while P is within `largest`."""
        return math.floor(self.relative / LN2) if self.relative > math.log(largest) else 0

    def recentred(self, bits: int) -> Growth:
        """Where the weights stand once they have been divided by 2^bits."""
        return dataclasses.replace(self, relative=self.relative - bits * LN2, bits=self.bits + bits)

    def _kept(self, lr: float, weight_decay: float, momentum: float) -> float:
        """α, what decay leaves of the weights within this step."""
        kept = 1.0 - lr * (weight_decay + momentum * self.held)
        if not kept > 0.0:
            limit = (1.0 - math.sqrt(momentum)) ** 2
            raise OutOfDomain(
                f"ExponentialSchedule: α_t must be > 0 at every step, got {kept:.4g} for "
                f"lr={lr:g}, weight_decay={weight_decay:g}, momentum={momentum:g}: decay would "
                "turn the weights around. At constant settings lr × weight_decay must stay below "
                f"(1 - √momentum)² = {limit:.4g}, here {lr * weight_decay:.4g}. "
                + (
                    "Lower the weight decay or the momentum."
                    if lr * weight_decay >= limit
                    else "The rate rises too steeply: raise it over more steps."
                )
            )
        return kept
