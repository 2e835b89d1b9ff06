"""Models of torchvision's registry: `torchvision:resnet18`."""

from __future__ import annotations

import inspect
import warnings

from torch import nn

from spherical_motion.compat.settings import Settings, library, near
from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision
from spherical_motion.errors import InvalidArgument

UNTRAINED = {"weights": None, "weights_backbone": None}
"""Passed to builders that accept them: by default a detector downloads its backbone."""


def load_torchvision(name: str, settings: Settings) -> nn.Module:
    """Build `name` of `torchvision.models.list_models()` with random weights.

    Raises:
        InvalidArgument: no such model, or it does not take these settings.
        MissingExtra: torchvision is not installed.
    """
    ensure_torchvision()
    library("torchvision")
    from torchvision import models

    try:
        build = models.get_model_builder(name)
    except ValueError as error:
        raise InvalidArgument(
            f"torchvision has no model {name!r}.{near(name, models.list_models())} "
            "torchvision.models.list_models() lists them."
        ) from error
    known = inspect.signature(build).parameters
    keywords = {key: UNTRAINED[key] for key in UNTRAINED if key in known} | settings
    try:
        with warnings.catch_warnings():
            # It warns of a future default for the initial weights of GoogLeNet and Inception.
            warnings.simplefilter("ignore", FutureWarning)
            return build(**keywords)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"torchvision:{name} cannot be built with {settings}: {error}"
        ) from error
