"""The command line of a program as a run may show it: the values of secrets are left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from spherical_motion.notices import printable

HIDDEN = "***"
"""Stands for a value that is not recorded."""

_NAME = r"[^\s=:/?&\"'{}\[\],\\]*"
_WORD = r"(?:key|token|secret|password|passwd|credential|authorization|\bauth\b)"
_SECRET = rf"{_NAME}{_WORD}{_NAME}"

OPTION = re.compile(rf"--?{_SECRET}", re.IGNORECASE)
"""An option whose value is the next argument."""

TAKES_ANY = re.compile(rf"(?!--?(?:no|use)-)--?{_NAME}{_WORD}s?", re.IGNORECASE)
"""One that ends in such a word: also a next argument with "--" is its value."""

ASSIGNED = re.compile(rf"(-*\+*{_SECRET}[=:]\s*).*", re.IGNORECASE | re.DOTALL)
"""`--x=v`, `X=v` as for a variable of the environment, or `x:v` as for a header."""

WITHIN = re.compile(
    rf"""
    ((?:^|[?&;,\s=\{{\[(\"']) {_SECRET} \\*[\"']? \s*[:=]\s*)  # the name
    (?: (\\*[\"']) (?:(?!\2)(?:\\.|.))* \2                     # a value in quotes
      | \[[^\]]*\] | \{{[^}}]*\}}                              # a list or mapping
      | [^&;,\s}}]+ )                                          # any other
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
"""`x=v` within an argument, as in the query of an address, or `"x": v`, as in JSON."""

BEARER = re.compile(r"\b((?:bearer|basic)\s+)[^\s\"']+", re.IGNORECASE)
"""What a header of a request proves itself with."""

ACCOUNT = re.compile(r"(://)[^/@\s]+(@)")
"""User and password, or a token, within an address."""


def shown_command(arguments: Sequence[str]) -> str:
    """The arguments as one would type them, without the values of secrets.

    An option, variable or entry is secret if its name holds key, token, secret, password, passwd,
    credential or authorization, or the word auth. What cannot be written as UTF-8 is escaped.

    >>> shown_command(["train.py", "--lr", "0.1", "--api-key", "abc", "--token=x y", "HF_TOKEN=z"])
    "train.py --lr 0.1 --api-key '***' '--token=***' 'HF_TOKEN=***'"
    """
    shown: list[str] = []
    hide_next = takes_any = False
    for argument in arguments:
        if hide_next and (takes_any or not argument.startswith("--")):
            shown.append(HIDDEN)
            hide_next = False
            continue
        hide_next = OPTION.fullmatch(argument) is not None
        takes_any = TAKES_ANY.fullmatch(argument) is not None
        shown.append(printable(_without_secrets(argument), lines=True))
    return shlex.join(shown)


def _without_secrets(argument: str) -> str:
    if assigned := ASSIGNED.fullmatch(argument):
        return assigned[1] + HIDDEN
    found = BEARER.sub(rf"\g<1>{HIDDEN}", argument)
    found = WITHIN.sub(rf"\g<1>{HIDDEN}", found)
    return ACCOUNT.sub(rf"\g<1>{HIDDEN}\g<2>", found)
