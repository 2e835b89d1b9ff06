"""Models of transformers, from a configuration: `transformers:GPT2Config`, or a directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import nn

from spherical_motion.compat.settings import Settings, library
from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision
from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import near


def load_transformers(name: str, settings: Settings) -> nn.Module:
    """Build a model with random weights; it downloads nothing and runs no remote code.

    Args:
        name: a directory with a config.json; the class of a configuration, for the plain model
            (`AutoModel`); or the class of a model, for one with a head.
        settings: replace the defaults of the configuration.

    Raises:
        InvalidArgument: no such directory or class, it does not accept these settings, or its
            weights exceed the memory of the machine (many defaults have billions).
        MissingExtra: transformers is not installed.
    """
    ensure_torchvision()  # transformers imports torchvision if it is installed
    transformers = library("transformers")
    try:
        build = _builder(transformers, name, settings)
        with torch.device("meta"):
            size = sum(p.numel() * p.element_size() for p in build().parameters())
    except InvalidArgument:
        raise
    except Exception as error:  # each configuration raises its own errors
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


def _builder(transformers: ModuleType, name: str, settings: Settings) -> Callable[[], nn.Module]:
    if (Path(name) / "config.json").is_file():
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=True)
        _check_known(config, settings)
        changed = type(config)(**config.to_dict() | settings)
        return partial(transformers.AutoModel.from_config, changed)
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


class _Configuration(Protocol):
    def __init__(self, **settings: object) -> None: ...

    def to_dict(self) -> Settings: ...


def _configured(kind: type[_Configuration], settings: Settings) -> _Configuration:
    """A configuration of this class."""
    _check_known(kind(), settings)
    return kind(**settings)


def _check_known(config: _Configuration, settings: Settings) -> None:
    """Raise for a setting that the constructor of a configuration would ignore."""
    known = config.to_dict()
    for key in settings:
        if key not in known:
            raise ValueError(f"it has no setting {key!r}.{near(key, known)}")
