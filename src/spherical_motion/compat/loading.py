"""Models named `library:name` or `module:factory`, with settings after a question mark."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from spherical_motion.compat.factories import load_factory
from spherical_motion.compat.registries import load_timm, load_torchvision
from spherical_motion.compat.settings import Settings, split_settings
from spherical_motion.compat.transformers_models import load_transformers
from spherical_motion.errors import InvalidArgument

LIBRARIES: dict[str, Callable[[str, Settings], nn.Module]] = {
    "torchvision": load_torchvision,
    "timm": load_timm,
    "transformers": load_transformers,
}
"""Loader by prefix; any other text before the colon is the name of a module."""


def load_model(spec: str) -> nn.Module:
    """Build the model that `spec` names, with random weights and without any download.

    - `torchvision:resnet18`, `timm:vit_tiny_patch16_224`: a model of the library's registry;
    - `transformers:GPT2Config`, or a model's class, or a directory with a config.json;
    - `package.module:factory`: a function or class of your own, also in the working directory.

    Keyword arguments may follow: `transformers:LlamaConfig?num_hidden_layers=2`,
    `mymodels:resnet?depth=20&width=16`. Models of the libraries are in training mode.

    Raises:
        InvalidArgument: there is no such model, or it cannot be built with these settings.
        MissingExtra: the library is not installed.

    >>> load_model("torch.nn:Linear?in_features=3&out_features=2")
    Linear(in_features=3, out_features=2, bias=True)
    """
    prefix, separator, rest = spec.partition(":")
    name, settings = split_settings(rest)
    if not (prefix and separator and name):
        raise InvalidArgument(
            f"MODEL must be a recipe, {', '.join(f'{x}:NAME' for x in LIBRARIES)} or "
            f"module:factory, got {spec!r}. Example: mymodels:resnet20 for a function resnet20() "
            "in mymodels.py."
        )
    if prefix in LIBRARIES:
        return LIBRARIES[prefix](name, settings).train()
    return load_factory(prefix, name, settings)
