"""One file a family; the only table of them.

In: an optimizer's settings. Out: the family whose formulas hold (`family_of`), or the law that its
steps balance (`law_of`). `register` adds a family from outside the package.
"""

from __future__ import annotations

import contextlib
import dataclasses

from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.theory.balance_law import BalanceLaw
from spherical_motion.theory.families.adam_l2 import AdamL2
from spherical_motion.theory.families.adam_like import AdamLikeDecoupled, AdamLikeL2
from spherical_motion.theory.families.adamw import AdamW
from spherical_motion.theory.families.any_decoupled import AnyDecoupled
from spherical_motion.theory.families.heavy_ball import HeavyBallDecoupled, HeavyBallL2
from spherical_motion.theory.families.lion import Lion
from spherical_motion.theory.families.nadam import NAdamDecoupled, NAdamL2
from spherical_motion.theory.families.nesterov import NesterovL2
from spherical_motion.theory.families.rmsprop import Adagrad, RMSprop
from spherical_motion.theory.family import Family
from spherical_motion.theory.group import MEASURED, GroupFacts
from spherical_motion.theory.update_rule import UpdateRule
from spherical_motion.vocabulary.hyperparameters import HyperParameters, register_optimizer

__all__ = ["family_of", "law_of", "register"]

TABLE: list[Family] = [
    HeavyBallL2(),
    NesterovL2(),
    HeavyBallDecoupled(),
    AdamL2(),
    AdamW(),
    Lion(),
    AnyDecoupled(),
]
"""Every family there is; at most one covers given settings."""

BALANCED: list[UpdateRule] = [
    AdamLikeL2(),
    AdamLikeDecoupled(),
    NAdamL2(),
    NAdamDecoupled(),
    RMSprop(),
    Adagrad(),
]
"""The rules of which the balance law is known, and not where they come to rest."""

SAY_DECOUPLED = (
    "If its weight decay acts on the weights and not through the gradient, say so: put "
    "decoupled_weight_decay=True into its param groups, and record how its updates are correlated, "
    "with watch(..., correlation_every=1000)."
)
"""What gives an unknown optimizer a prediction."""


def family_of(hp: HyperParameters) -> Family:
    """The family whose formulas hold for these settings.

    Raises NoTheory: none do; the message says which setting is the obstacle.

    >>> family_of(HyperParameters("sgd", lr=0.1)).name
    'SGD with momentum and L2 weight decay'
    """
    for family in TABLE:
        if family.covers(hp):
            return family
    what = f"{hp.optimizer} with L2 weight decay"
    if hp.optimizer == "sgd":
        other = "decoupled weight decay" if hp.decoupled else f"dampening={hp.dampening:g}"
        what = f"SGD with nesterov=True and {other}"
    elif hp.optimizer == "other":
        what = f"an unknown optimizer. {SAY_DECOUPLED}"
    raise NoTheory(
        f"There is no closed form here for {what.rstrip('.')}. Known: "
        f"{', '.join(f.name for f in TABLE)}. "
        "The motion is recorded all the same; only the prediction is missing."
    )


def law_of(hp: HyperParameters) -> BalanceLaw:
    """The balance law of an optimizer, also where its equilibrium is not known.

    Raises NoTheory: none is known; the message says what is.

    >>> law_of(HyperParameters("adamw", lr=1e-3)).neglects
    'the change of the preconditioner from step to step'
    """
    rules: list[UpdateRule] = [*TABLE, *BALANCED]
    laws = [rule.balance_law for rule in rules if rule.covers(hp) and rule.balance_law is not None]
    if laws:
        return min(laws, key=lambda law: law.last_resort)
    known = ", ".join(rule.name for rule in rules if rule.balance_law is not None)
    remedy = f" {SAY_DECOUPLED}" if hp.optimizer == "other" else ""
    raise NoTheory(
        f"There is no balance law here for {hp.optimizer}: its steps are not a running average of "
        f"preconditioned gradients, as far as is known here. Known: {known}.{remedy}"
    )


def register(family: Family) -> contextlib.ExitStack:
    """Add a family: its optimizers are predicted, compared and steered like the built-in ones.

    `HyperParameters(optimizer=...)` takes the names in `family.optimizers` from now on, and
    `HyperParameters.from_param_group` the class names in `family.classes`, as the first of them.

    Returns:
        What undoes it: a context manager, with `close()` for use outside a `with` statement.

    Raises:
        InvalidArgument: not an instance of a `Family`; one of its optimizers or classes is known
            already; an attribute that is not what `Family` says.
    """
    if not isinstance(family, Family):
        raise InvalidArgument(
            f"theory.register expects an instance of a theory.Family, got {family!r}."
        )
    facts = tuple(field.name for field in dataclasses.fields(GroupFacts))
    for name, known in (("optimizers", None), ("classes", None), ("needs", facts)):
        value = getattr(family, name)
        if not isinstance(value, tuple) or not all(isinstance(x, str) for x in value):
            raise InvalidArgument(
                f"theory.register: {name} of {family.name!r} must be a tuple of names, got "
                f"{value!r}. A single name is written ('name',)."
            )
        if known is not None and not set(value) <= set(known):
            raise InvalidArgument(
                f"theory.register: {name} of {family.name!r} must be fields of theory.GroupFacts "
                f"({', '.join(known)}), got {value!r}."
            )
    if family.drive not in MEASURED:
        raise InvalidArgument(
            f"theory.register: drive of {family.name!r} must be one of {', '.join(MEASURED)}, got "
            f"{family.drive!r}."
        )
    with contextlib.ExitStack() as undo:
        for i, name in enumerate(family.optimizers):
            classes = family.classes if i == 0 else ()
            undo.callback(register_optimizer(name, classes, decoupled=family.decoupled))
        TABLE.insert(0, family)  # it goes before what is known of the optimizers it takes over
        undo.callback(TABLE.remove, family)
        return undo.pop_all()
