"""Models of timm's registry: `timm:vit_tiny_patch16_224`."""

from __future__ import annotations

from torch import nn

from spherical_motion.compat.settings import Settings, library, near
from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision
from spherical_motion.errors import InvalidArgument


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
