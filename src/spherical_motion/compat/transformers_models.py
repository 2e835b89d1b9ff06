"""Models of transformers, from a configuration: `transformers:GPT2Config`, or a directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from spherical_motion.compat.settings import library, near
from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision
from spherical_motion.errors import InvalidArgument

__all__ = ["load_transformers"]


def load_transformers(name: str, settings: dict[str, Any]) -> nn.Module:
    """Build a randomly initialised model; nothing is downloaded and no remote code is run.

    Args:
        name: a directory with a config.json; a configuration's class, built as the plain model
            (`AutoModel`); or a model's class, for one with a head.
        settings: replace the configuration's defaults.

    Raises:
        InvalidArgument: no such directory or class, it does not take these settings, or there
            is not enough free memory for its weights (many defaults have billions).
        MissingExtra: transformers is not installed.
    """
    ensure_torchvision()  # transformers imports torchvision where it is installed
    transformers = library("transformers")
    try:
        build = _builder(transformers, name, settings)
        with torch.device("meta"):
            size = sum(p.numel() * p.element_size() for p in build().parameters())
    except InvalidArgument:
        raise
    except Exception as error:  # each configuration has errors of its own for what it rejects
        raise InvalidArgument(
            f"transformers:{name} cannot be built with {settings}: {error}"
        ) from error
    if size > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise InvalidArgument(
            f"transformers:{name} has {size / 1e9:.1f} GB of weights with {settings or 'defaults'}"
            f", and this machine has {memory / 1e9:.1f} GB of memory. Make it smaller, like "
            f"transformers:{name}?num_hidden_layers=2&hidden_size=256"
        )
    return build()


def _builder(
    transformers: ModuleType, name: str, settings: dict[str, Any]
) -> Callable[[], nn.Module]:
    if (Path(name) / "config.json").is_file():
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=True)
        return partial(transformers.AutoModel.from_config, _changed(config, settings))
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedConfig):
        return partial(transformers.AutoModel.from_config, _configured(found, settings))
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        config_class: Any = found.config_class
        return partial(found, _configured(config_class, settings))
    configurations = [n for n in dir(transformers) if n.endswith("Config")]
    raise InvalidArgument(
        f"transformers:{name} must be a directory with a config.json, or the class of a "
        f"configuration or model, like GPT2Config.{near(name, configurations)}"
    )


def _configured(kind: Any, settings: dict[str, Any]) -> Any:
    """A configuration of this class, whose constructor would keep unknown settings unread."""
    _check_known(kind().to_dict(), settings)
    return kind(**settings)


def _changed(config: Any, settings: dict[str, Any]) -> Any:
    """The configuration with some entries replaced."""
    _check_known(config.to_dict(), settings)
    return type(config)(**config.to_dict() | settings)


def _check_known(known: dict[str, Any], settings: dict[str, Any]) -> None:
    for key in settings:
        if key not in known:
            raise ValueError(f"it has no setting {key!r}.{near(key, known)}")
