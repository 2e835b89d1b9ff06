"""Notices through one logger, the line printed on attaching, and the one warning.

Nothing here may raise into a training loop, whatever the state of stderr and however strict the
user's warning filters are. The command line shows notices on stderr; elsewhere Python does so
unless logging is configured. `logging.getLogger("spherical_motion").setLevel("ERROR")` silences
them.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import sys
import warnings
from collections.abc import Iterable, Sequence

from spherical_motion.errors import RecordingStopped

__all__ = ["LOGGER", "announce", "listed", "near", "notify", "warn_recording_stopped"]

LOGGER = logging.getLogger("spherical_motion")


def notify(text: str, *, quiet: bool = False) -> None:
    """Log a notice: something was left out or done otherwise than asked, and training goes on."""
    if not quiet:
        LOGGER.warning("spherical-motion: %s", text)


def announce(text: str, *, quiet: bool = False) -> None:
    """Print the one line that says what is watched, on stderr."""
    if not quiet:
        _print(f"spherical-motion: {text}")


def warn_recording_stopped(text: str, *, stacklevel: int = 2) -> None:
    """Warn that recording ended; where warnings are errors, print instead of raising."""
    try:
        warnings.warn(text, RecordingStopped, stacklevel=stacklevel + 1)
    except RecordingStopped:
        _print(f"RecordingStopped: {text}")


def listed(names: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """The first of many names, and how many more there are.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c", "d"], most=2)
    ('a', 'a and b', 'a, b and 2 more')
    """
    *first, last = names if len(names) <= most else [*names[:most], f"{len(names) - most} more"]
    return f"{separator.join(first)} and {last}" if first else last


def _print(line: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed stderr, or none
        print(line, file=sys.stderr)


def near(name: str, names: Iterable[str]) -> str:
    """A hint for a misspelt name, or an empty string.

    >>> near("resnet81", ["resnet18", "vgg11"])
    " Did you mean 'resnet18'?"
    """
    found = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""
