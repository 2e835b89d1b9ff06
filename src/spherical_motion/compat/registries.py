"""Models of the registries: `torchvision:resnet18`, `timm:vit_tiny_patch16_224`."""

from __future__ import annotations

import inspect
import warnings

from torch import nn

from spherical_motion.compat.settings import Settings, library
from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision
from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import near

UNTRAINED = {"weights": None, "weights_backbone": None}
"""Passed to builders that accept them: by default a detector downloads its backbone."""


def load_torchvision(name: str, settings: Settings) -> nn.Module:
    """Build `name` of `torchvision.models.list_models()` with random weights.

    Raises:
        InvalidArgument: no such model, or it does not take these settings.
        MissingExtra: torchvision is not installed.
    """
    ensure_torchvision()
    models = library("torchvision").models
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
            # It warns that GoogLeNet and Inception will be initialized differently some day.
            warnings.simplefilter("ignore", FutureWarning)
            return build(**keywords)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"torchvision:{name} cannot be built with {settings}: {error}"
        ) from error


def load_timm(name: str, settings: Settings) -> nn.Module:
    """Build `name` of `timm.list_models()` with random weights.

    Raises:
        InvalidArgument: no such model, or it does not take these settings.
        MissingExtra: timm is not installed.
    """
    ensure_torchvision()  # timm imports torchvision
    timm = library("timm")
    if not timm.is_model(name):
        raise InvalidArgument(
            f"timm has no model {name!r}.{near(name, timm.list_models())} "
            f"timm.list_models('*{name[:4]}*') lists some."
        )
    try:
        return timm.create_model(name, **{"pretrained": False} | settings)
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidArgument(f"timm:{name} cannot be built with {settings}: {error}") from error
