"""The rules of optimizers by name.

The first class among an optimizer's ancestors whose name is in the table decides, whether or not
its `step` is overridden: a hand-written `SGD` is held to the rule of SGD. Where such a class names
its settings or its state otherwise than the rule does, its steps are not replayed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.monitor.audit.lion import LION
from spherical_motion.monitor.audit.rules import NotReplayed, Step, StepRule
from spherical_motion.monitor.audit.torch_rules import TORCH_RULES

RULES: dict[str, StepRule] = {**TORCH_RULES, "Lion": LION}
"""Class name → rule."""


def register_rule(name: str, step: Step) -> Callable[[], None]:
    """Let audits replay the steps of an optimizer class of your own.

    Args:
        name: of the class, or of one from which it derives.
        step: takes weights, gradient, state and settings of one parameter and returns the weights
            after the step. It is called in float64 and in the dtype of the weights, with copies
            that it may change, and must fill in a state that is empty.

    Returns:
        A function that takes the entry out again.

    Raises:
        InvalidArgument: there is an entry of this name.

    >>> def signed(weights, gradient, state, settings):
    ...     return weights - settings["lr"] * gradient.sign()
    >>> forget = register_rule("SignSGD", signed)
    >>> forget()
    """
    if name in RULES:
        raise InvalidArgument(
            f"register_rule: the class {name!r} has a rule already. Choose another name, or undo "
            "the earlier registration."
        )
    RULES[name] = StepRule(step)

    def forget() -> None:
        RULES.pop(name, None)

    return forget


def rule_of(optimizer: torch.optim.Optimizer) -> tuple[str, StepRule]:
    """Name and rule of the first class that an optimizer derives from and that has one.

    Raises:
        NotReplayed: none has.
    """
    for cls in type(optimizer).__mro__:
        if cls.__name__ in RULES:
            return cls.__name__, RULES[cls.__name__]
    raise NotReplayed(f"no rule for {type(optimizer).__name__}")
