"""Small workloads to try the library on; a name goes in, data, model and training loop come out."""

from __future__ import annotations

from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import near
from spherical_motion.recipes.digits import DigitsRecipe

__all__ = ["RECIPES", "DigitsRecipe", "recipe"]

RECIPES = {"digits": DigitsRecipe}
"""Recipe classes by name."""


def recipe(name: str) -> DigitsRecipe:
    """The recipe of this name, with its defaults.

    Raises:
        InvalidArgument: there is none; the message lists the known names.

    >>> recipe("digits").steps
    2800
    """
    if name not in RECIPES:
        raise InvalidArgument(
            f"Unknown recipe {name!r}; expected one of: {', '.join(RECIPES)}.{near(name, RECIPES)}"
        )
    return RECIPES[name]()
