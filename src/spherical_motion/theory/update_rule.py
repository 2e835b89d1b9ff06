"""What an optimizer is to the theory: the settings a rule covers, and its balance law."""

from __future__ import annotations

import abc
from typing import ClassVar

from spherical_motion.theory.balance_law import BalanceLaw
from spherical_motion.vocabulary.hyperparameters import HyperParameters


class UpdateRule(abc.ABC):
    """Optimizers that share one rule, with or without an equilibrium that settings alone give.

    Attributes:
        name: what the rule is called in messages.
        optimizers: values of `HyperParameters.optimizer` that it holds for.
        decoupled: whether weight decay acts on the weights and not through the gradient.
        balance_law: what every step must balance; None where no such law is known.
    """

    name: ClassVar[str]
    optimizers: ClassVar[tuple[str, ...]]
    decoupled: ClassVar[bool] = True
    balance_law: ClassVar[BalanceLaw | None] = None

    def covers(self, hp: HyperParameters) -> bool:
        """Whether the formulas hold for these settings."""
        return hp.optimizer in self.optimizers and hp.decoupled == self.decoupled
