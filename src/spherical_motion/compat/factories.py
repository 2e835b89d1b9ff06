"""Models of one's own: `module:factory`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from torch import nn

from spherical_motion.errors import InvalidArgument

__all__ = ["load_factory"]


def load_factory(module: str, path: str, settings: dict[str, Any]) -> nn.Module:
    """Call what `path` names in `module` with the settings and return the model.

    The working directory is searched like any other place for modules. A dotted path walks
    through attributes; an `nn.Module` class is a factory as well, and a model is taken as it is.

    Raises:
        InvalidArgument: no such module or factory, or it did not return a module.

    >>> load_factory("torch.nn", "Identity", {})
    Identity()
    """
    spec = f"{module}:{path}"
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        target = importlib.import_module(module)
        for part in path.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise InvalidArgument(f"MODEL {spec!r} cannot be loaded: {error}.") from error
    if isinstance(target, nn.Module):
        return target
    if not callable(target):
        raise InvalidArgument(
            f"MODEL {spec!r} must name a function or class that makes a model, got a "
            f"{type(target).__name__}."
        )
    try:
        made = target(**settings)
    except TypeError as error:
        raise InvalidArgument(
            f"MODEL {spec!r} must be callable with the settings {settings}: {error}. Fill its "
            f"arguments in like {spec}?key=value&key=value, or wrap it in a function."
        ) from error
    if not isinstance(made, nn.Module):
        raise InvalidArgument(
            f"MODEL {spec!r} must make a torch.nn.Module, got a {type(made).__name__}."
        )
    return made
