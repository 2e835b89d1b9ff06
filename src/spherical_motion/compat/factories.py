"""Models of one's own: `module:factory`."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
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
    if not all(part.isidentifier() for part in module.split(".")):
        raise InvalidArgument(
            f"MODEL {spec!r} must begin with the name of a module as after `import`, got "
            f"{module!r}. For a file in this directory leave out the path and .py."
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        target = importlib.import_module(module)
        for part in path.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise InvalidArgument(f"MODEL {spec!r} cannot be loaded: {error}.") from error
    except Exception as error:  # whatever a stranger's module may raise
        raise InvalidArgument(f"MODEL {spec!r} cannot be loaded: {_told(error)}") from error
    if isinstance(target, nn.Module):
        return target
    if not callable(target):
        raise InvalidArgument(
            f"MODEL {spec!r} must name a function or class that makes a model, got a "
            f"{type(target).__name__}."
        )
    _require_settings(spec, target, settings)
    try:
        made = target(**settings)
    except Exception as error:
        raise InvalidArgument(f"MODEL {spec!r} failed while it was made: {_told(error)}") from error
    if not isinstance(made, nn.Module):
        raise InvalidArgument(
            f"MODEL {spec!r} must make a torch.nn.Module, got a {type(made).__name__}."
        )
    return made


def _require_settings(spec: str, target: Callable[..., Any], settings: dict[str, Any]) -> None:
    """Refuse settings that are missing or too many, where the signature can be read."""
    try:
        signature = inspect.signature(target)
    except ValueError:  # written in C
        return
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise InvalidArgument(
            f"MODEL {spec!r} cannot be called with the settings {settings}: {error}. Fill its "
            f"arguments in like {spec}?key=value&key=value, or wrap it in a function."
        ) from error


def _told(error: Exception) -> str:
    """The error, and the line of the stranger's code it comes from."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}."
