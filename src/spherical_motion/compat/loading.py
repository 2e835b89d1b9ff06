"""Models named as `module:factory`, and inputs given as a shape."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import torch

from spherical_motion.errors import InvalidArgument

__all__ = ["load_model", "random_input"]


def load_model(spec: str) -> torch.nn.Module:
    """Call the factory that `spec` names as `module:factory` and return the model.

    The working directory is searched like any other place for modules. A dotted factory walks
    through attributes; an `nn.Module` class is a factory as well.

    Raises:
        InvalidArgument: no such module or factory, or it did not return a module.

    >>> load_model("torch.nn:Identity")
    Identity()
    """
    module_name, separator, path = spec.partition(":")
    if not (module_name and separator and path):
        raise InvalidArgument(
            f"MODEL must be a recipe or module:factory, got {spec!r}. Example: mymodels:resnet20 "
            "for a function resnet20() in mymodels.py."
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        target = importlib.import_module(module_name)
        for part in path.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise InvalidArgument(f"MODEL {spec!r} cannot be loaded: {error}.") from error
    if not isinstance(target, torch.nn.Module):
        if not callable(target):
            raise InvalidArgument(
                f"MODEL {spec!r} must name a function or class that makes a model, got a "
                f"{type(target).__name__}."
            )
        try:
            target = target()
        except TypeError as error:
            raise InvalidArgument(
                f"MODEL {spec!r} must be callable without arguments: {error}. Wrap it in a "
                "function that fills them in."
            ) from error
    if not isinstance(target, torch.nn.Module):
        raise InvalidArgument(
            f"MODEL {spec!r} must make a torch.nn.Module, got a {type(target).__name__}."
        )
    return target


def random_input(shape: str, batch_size: int) -> torch.Tensor:
    """A batch of standard normal numbers; `shape` is one example's, like 3x224x224.

    >>> random_input("3x8x8", batch_size=4).shape
    torch.Size([4, 3, 8, 8])
    """
    if not re.fullmatch(r"\d+(x\d+)*", shape):
        raise InvalidArgument(
            f"--input must be the shape of one example like 3x224x224, got {shape!r}."
        )
    generator = torch.Generator().manual_seed(0)
    sizes = [int(size) for size in shape.split("x")]
    return torch.randn(batch_size, *sizes, generator=generator)
