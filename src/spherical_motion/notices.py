"""Notices through one logger, the line printed on attaching, and the one warning.

Nothing here may raise into a training loop, whatever the state of stderr, however strict the user's
warning filters are, and whatever the handlers of logging do. The command line shows notices on
stderr; elsewhere Python does so unless logging is configured.
`logging.getLogger("spherical_motion").setLevel("ERROR")` silences them.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Sequence

from spherical_motion.errors import RecordingStopped

__all__ = [
    "LOGGER",
    "announce",
    "described",
    "listed",
    "near",
    "notify",
    "printable",
    "shown",
    "stopped",
    "warn_recording_stopped",
]

LOGGER = logging.getLogger("spherical_motion")


def notify(text: str, *, quiet: bool = False) -> None:
    """Log a notice: something was left out or done otherwise than asked, and training goes on."""
    if not quiet:
        # A handler or filter of the program may raise, and so does logging on a closed stderr.
        with contextlib.suppress(Exception):
            LOGGER.warning("spherical-motion: %s", printable(text, lines=True))


def announce(text: str, *, quiet: bool = False) -> None:
    """Print the one line that says what is watched, on stderr."""
    if not quiet:
        _print(f"spherical-motion: {printable(text, lines=True)}")


def warn_recording_stopped(text: str, *, stacklevel: int = 2) -> None:
    """Warn that recording ended; where that raises, as where warnings are errors, print."""
    text = printable(text, lines=True)
    try:
        warnings.warn(text, RecordingStopped, stacklevel=stacklevel + 1)
    except Exception:  # an error made of the warning, or whatever shows warnings has failed
        _print(f"RecordingStopped: {text}")


def stopped(where: str, why: str, remedy: str = "") -> str:
    """What is said where recording has ended, for a reason with or without a full stop.

    >>> stopped("into runs/a", "the disk is full.", "Resume elsewhere.")
    'Recording into runs/a has stopped: the disk is full. Training goes on. What was stored before \
is kept. Resume elsewhere.'
    """
    text = f"Recording {where} has stopped: {why.rstrip('. ')}. Training goes on. What was stored "
    return f"{text}before is kept. {remedy}".rstrip()


def listed(names: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """The first of many names, and how many more there are; "" of none.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c", "d"], most=2)
    ('a', 'a and b', 'a, b and 2 more')
    """
    if not names:
        return ""
    *first, last = names if len(names) <= most else [*names[:most], f"{len(names) - most} more"]
    return f"{separator.join(first)} and {last}" if first else last


def near(name: str, names: Iterable[str]) -> str:
    """A hint for a misspelt name, or an empty string.

    >>> near("resnet81", ["resnet18", "vgg11"])
    " Did you mean 'resnet18'?"
    """
    found = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with everything escaped that a terminal obeys or hides.

    Names of groups, events and paths may hold anything. Control characters, those that reverse or
    hide text, and lone surrogates are shown as Python writes them. With `lines` line breaks and
    tabs stay.

    >>> printable("conv\x1b[2J"), printable("a\u202eb\n"), printable("a\n", lines=True)
    ('conv\\x1b[2J', 'a\\u202eb\\n', 'a\n')
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        c
        if c.isprintable() or c in kept or unicodedata.category(c) == "Zs"
        else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def described(error: BaseException) -> str:
    """An error in one line, also one that cannot describe itself.

    >>> described(ValueError("too large"))
    'ValueError: too large'
    """
    return f"{type(error).__name__}: {shown(error)}"


def shown(value: object, most: int = 1000) -> str:
    """`str(value)` in one printable line of at most `most` characters; it never raises."""
    try:
        text = str(value)[: most + 1]
    except Exception:  # the __str__ of an unknown class
        return "it cannot be shown"
    return printable(text if len(text) <= most else f"{text[:most]}...")


def _print(line: str) -> None:
    with contextlib.suppress(Exception):  # no stderr, a closed one, or one of an unknown class
        print(line, file=sys.stderr)
