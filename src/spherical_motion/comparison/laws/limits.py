"""From where on a number of the audit asks for action: each limit once, with its reason.

The verdicts of `compare` and the findings of `audit` both ask here, and so agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spherical_motion.comparison.laws.audited import AuditedSteps

LOST_SHARE = 0.10
"""From this share of |e|² on, the steps that rounding loses are an alarm: the rest is then more
than 5% shorter than the rule's."""

REWRITTEN = 1e-6
"""From this share of the gradient on it is said that the optimizer's step writes it."""

NORM_CLIPPED = 0.95
"""A global norm at its limit in this share of the audited steps is always clipped."""

FEWEST_LATE = 4
"""So many audited steps after the first ones speak for themselves: two bursts."""

ENTRIES_CLIPPED = 0.8
"""Entries at their limit in this share of the last audited steps are clipped."""

EPSILON_SEEN = 0.01
"""From this share of ε in ε + variance on, the norm layer's ε is seen at work."""

EPSILON_LARGE = 0.10
"""From this share on, ε takes 5% of what the layer passes on, and the layer does not normalize."""

IN_EVAL_MODE = 0.5
"""A norm layer in eval mode at more than this share of the audited steps, or of the last two, is
left in it. A validation that records gradients shows in one step at a time."""


def loses_steps(found: AuditedSteps) -> bool:
    """Whether rounding loses so much that the steps are shorter."""
    return found.lost >= LOST_SHARE


def norm_always_clipped(found: AuditedSteps) -> bool:
    """Whether the global norm is clipped at nearly every step.

    The first 20 steps are most of the audited ones, and their gradients are large: where steps
    after them were audited, those must be clipped as well.
    """
    late = found.clipped_late
    share = late if found.late >= FEWEST_LATE else found.clipped_share
    return share >= NORM_CLIPPED and not late < NORM_CLIPPED


def entries_clipped(found: AuditedSteps) -> bool:
    """Whether entries are clipped one by one."""
    return found.entries_share >= ENTRIES_CLIPPED


def left_in_eval_mode(found: AuditedSteps) -> bool:
    """Whether a norm layer uses running statistics in training."""
    return found.eval_mode > IN_EVAL_MODE or found.eval_mode_late > IN_EVAL_MODE
