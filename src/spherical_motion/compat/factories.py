"""Models from the user's own code: `module:factory`."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from torch import nn

from spherical_motion.compat.settings import Settings
from spherical_motion.errors import InvalidArgument


def load_factory(module: str, path: str, settings: Settings) -> nn.Module:
    """Call the function or class `path` of `module` with the settings and return the model.

    Modules may also be in the working directory. A dotted path names an attribute of an
    attribute; an `nn.Module` class is a factory as well, and a model is returned as it is.

    Raises:
        InvalidArgument: no such module or factory, or it did not return a module.

    >>> load_factory("torch.nn", "Identity", {})
    Identity()
    """
    spec = f"{module}:{path}"
    if not all(part.isidentifier() for part in module.split(".")):
        raise InvalidArgument(
            f"MODEL {spec!r} must begin with the name of a module, as after `import`, got "
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
    except Exception as error:  # the user's module may raise anything
        raise InvalidArgument(f"MODEL {spec!r} cannot be loaded: {_origin(error)}") from error
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
        raise InvalidArgument(
            f"MODEL {spec!r} failed while it was made: {_origin(error)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise InvalidArgument(
            f"MODEL {spec!r} must make a torch.nn.Module, got a {type(made).__name__}."
        )
    return made


def _require_settings(spec: str, target: Callable[..., object], settings: Settings) -> None:
    """Refuse missing and unknown settings, if the signature can be read."""
    try:
        inspect.signature(target).bind(**settings)
    except ValueError:  # written in C
        return
    except TypeError as error:
        raise InvalidArgument(
            f"MODEL {spec!r} cannot be called with the settings {settings}: {error}. Pass its "
            f"arguments like {spec}?key=value&key=value, or wrap it in a function."
        ) from error


def _origin(error: Exception) -> str:
    """The error, and the line of the user's code it comes from."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}."
