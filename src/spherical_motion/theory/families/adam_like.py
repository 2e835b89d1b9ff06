"""Adam's relatives: amsgrad, RAdam and Adamax differ from Adam in the preconditioner alone.

amsgrad divides by the largest second moment so far, RAdam multiplies by a rectification that grows
to 1, Adamax divides by a running maximum. All are P of `balance_law`, and the law holds as for
Adam. Where the norm comes to rest is not known in closed form.
"""

from __future__ import annotations

from spherical_motion.theory.families.adamw import AdamLaw, AdamWLaw
from spherical_motion.theory.update_rule import UpdateRule


class AdamLikeL2(UpdateRule):
    """Weight decay through the gradient."""

    name = "amsgrad, RAdam and Adamax with L2 weight decay"
    optimizers = ("amsgrad", "radam", "adamax")
    decoupled = False
    balance_law = AdamLaw()


class AdamLikeDecoupled(UpdateRule):
    """Weight decay of the weights themselves."""

    name = "amsgrad, RAdam and Adamax with decoupled weight decay"
    optimizers = ("amsgrad", "radam", "adamax")
    balance_law = AdamWLaw()
