"""What moves a group's norm, and the balance law that adds it up."""

from __future__ import annotations

import dataclasses
import math

from spherical_motion.estimates import NO_ESTIMATE, Estimate


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forces:
    """What moves a group's norm: relative changes of |w| in a step, on average; NaN if unknown.

    They add up by the balance law: growth = turning - inward - change. Where a part is not
    measured, as the change of Adam's preconditioner without `products=8`, `unexplained` is left.

    Attributes:
        inward: by which weight decay and the loss shorten the weights together; below 0 they
            lengthen them.
        decay, loss: the two parts of it; NaN where they cannot be told apart.
        turning: by which the steps lengthen the weights because they point sideways; with it what
            momentum carries over the two ends of the window.
        change: by which the change of the optimizer's preconditioner shortens them.
        growth: by which the norm grew: ln(|w_end|/|w_start|) over the steps of the window.
    """

    inward: float = math.nan
    decay: float = math.nan
    loss: float = math.nan
    turning: float = math.nan
    change: float = math.nan
    growth: float = math.nan

    @property
    def unexplained(self) -> float:
        """What the parts leave of the growth; NaN if they are not known."""
        change = 0.0 if math.isnan(self.change) else self.change
        return self.growth - (self.turning - self.inward - change)

    @property
    def known(self) -> tuple[float, ...]:
        """Those that are known."""
        return tuple(x for x in dataclasses.astuple(self) if math.isfinite(x))


NO_FORCES = Forces()
"""Nothing is known of what moves the norm."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TugOfWar:
    """The balance law of one group in one stage: who pulls its norm in, and what that turns.

    `balance` is over all judged steps of the stage; pull, decay_share, growth and forces describe
    now: the last quarter of them (`theory.late_pull`).

    Attributes:
        balance: √(Σ turned / Σ law), measured over predicted turning, with the boundary term.
        pull: p, by which decay and loss draw the weights inward together, in units of the weight
            decay; a loss without a radial part leaves p = λ.
        decay_share: λ/p; above 1 the loss works against the decay. Its upper end is infinite where
            the pull's interval reaches 0, and it is unknown where the pull itself is not above 0.
        growth: relative change of |w|² in a step, 2·ln(|w_end|/|w_start|) over the window's steps.
        real_decay: the weight decay that acts over the one that was set: float32 rounds 1 - ηλ, and
            members of the group may have weight decays of their own.
        amplification: by how much an error of one term is magnified in the law, because pull and
            growth cancel.
        forces: the law as rates of the norm; only the growth where the law does not hold.
        window: how many steps "now" spans.
        until: the step after the last of them.
        over: whether the run went on after the stage.
        span: for how many steps the words give rates: the same for all rows of a comparison.
        terms: steps that are summed; each has its predecessor on record.
        fewest: steps that the stage needs to be judged; 0 if it has them.
        momentum: the largest in the stage.
        young: 1/(1 - β2), for how many steps the preconditioner is the mean of few gradients.
        idle: share of the window's steps without a gradient, which the optimizer skipped.
        stopped: how many steps the stage went on after its last gradient.
        written_after: how often something else wrote the weights in these steps.
        written: neighbouring steps between which something else wrote the weights.
        pairs: neighbouring steps of the stage.
        write: relative change of the norm by one such write, the median.
        exact: whether the law is an identity in what was recorded.
        mendable: whether it would be one if the run had been recorded with `products=8`.
        unknown: why `balance` is NaN; empty if it is known.
        neglects: the term that the law leaves out, in words; empty if none.
        inseparable: why decay and loss have no parts of their own; empty if they have.
        unexplained: why the parts of the law are not those of the growth; empty if they are.
    """

    balance: Estimate = NO_ESTIMATE
    pull: Estimate = NO_ESTIMATE
    decay_share: Estimate = NO_ESTIMATE
    growth: Estimate = NO_ESTIMATE
    real_decay: float = math.nan
    amplification: float = math.nan
    forces: Forces = NO_FORCES
    window: int = 0
    until: int = 0
    over: bool = False
    span: int = 1_000
    terms: int = 0
    fewest: int = 0
    momentum: float = math.nan
    young: float = math.nan
    idle: float = 0.0
    stopped: int = 0
    written_after: int = 0
    written: int = 0
    pairs: int = 0
    write: float = math.nan
    exact: bool = False
    mendable: bool = False
    unknown: str = "no step and its predecessor were both recorded"
    neglects: str = ""
    inseparable: str = ""
    unexplained: str = ""


NO_TUG = TugOfWar()
"""Nothing is known of the balance."""
