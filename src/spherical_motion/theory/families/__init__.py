"""One file a family; the only table of them.

In comes an optimizer's settings, out goes the family whose formulas hold (`family_of`). `register`
adds a family from outside the package.
"""

from __future__ import annotations

import contextlib

from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.theory.families.adam_l2 import AdamL2
from spherical_motion.theory.families.adamw import AdamW
from spherical_motion.theory.families.any_decoupled import AnyDecoupled
from spherical_motion.theory.families.heavy_ball import HeavyBallDecoupled, HeavyBallL2
from spherical_motion.theory.families.lion import Lion
from spherical_motion.theory.families.nesterov import NesterovL2
from spherical_motion.theory.family import Family
from spherical_motion.vocabulary.hyperparameters import HyperParameters, register_optimizer

__all__ = ["family_of", "register"]

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
        what = "an unknown optimizer"
    raise NoTheory(
        f"There is no closed form here for {what}. Known: {', '.join(f.name for f in TABLE)}. "
        "The motion is recorded all the same; only the prediction is missing."
    )


def register(family: Family) -> contextlib.ExitStack:
    """Add a family: its optimizers are predicted, compared and steered like the built-in ones.

    `HyperParameters(optimizer=...)` takes the names in `family.optimizers` from now on, and
    `HyperParameters.from_param_group` the class names in `family.classes`.

    Returns:
        What undoes it: a context manager, with `close()` for use outside a `with` statement.

    Raises:
        InvalidArgument: not an instance of a `Family`, or one of its optimizers or classes is
            known already.
    """
    if not isinstance(family, Family):
        raise InvalidArgument(
            f"theory.register expects an instance of a theory.Family, got {family!r}."
        )
    with contextlib.ExitStack() as undo:
        for i, name in enumerate(family.optimizers):
            classes = family.classes if i == 0 else ()
            undo.callback(register_optimizer(name, classes, decoupled=family.decoupled))
        TABLE.append(family)
        undo.callback(TABLE.remove, family)
        return undo.pop_all()
