"""What the loaders share: settings after a model's name, and imports of optional libraries."""

from __future__ import annotations

import ast
import importlib
from types import ModuleType
from typing import TypeAlias

from spherical_motion.errors import InvalidArgument, MissingExtra

Settings: TypeAlias = dict[str, object]
"""Keyword arguments of a model."""


def split_settings(text: str) -> tuple[str, Settings]:
    """A name and the keyword arguments after its question mark.

    Values are Python literals; any other text is a string.

    >>> split_settings("resnet?depth=20&norm=group&widths=(16, 32)")
    ('resnet', {'depth': 20, 'norm': 'group', 'widths': (16, 32)})

    Raises:
        InvalidArgument: a setting does not have the form key=value.
    """
    name, _, tail = text.partition("?")
    settings: Settings = {}
    for entry in filter(None, tail.split("&")):
        key, separator, value = entry.partition("=")
        if not (separator and key.isidentifier()):
            raise InvalidArgument(
                f"Settings of {name!r} must look like ?key=value&key=value, got {entry!r}."
            )
        try:
            settings[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[key] = value
    return name, settings


def library(name: str) -> ModuleType:
    """Import an optional library.

    Raises:
        MissingExtra: it is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is installed, and something it needs is not
            raise
        raise MissingExtra(
            f"{name}:NAME needs {name}, which is not installed. "
            "Run: pip install 'spherical-motion[models]'"
        ) from error
