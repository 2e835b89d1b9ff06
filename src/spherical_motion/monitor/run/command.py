"""The command line of a program as a run may show it: the values of secrets are left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from spherical_motion.notices import printable

HIDDEN = "***"
"""Stands for a value that is not recorded."""

_SECRET = r"[^\s=:/?&]*(?:key|token|secret|password|passwd|credential)[^\s=:/?&]*"

OPTION = re.compile(rf"--?{_SECRET}", re.IGNORECASE)
"""An option whose value is the next argument."""

ASSIGNED = re.compile(rf"(-*\+*{_SECRET}=).*", re.IGNORECASE | re.DOTALL)
"""`--x=v`, or `X=v` as for a variable of the environment or a configuration."""

WITHIN = re.compile(rf"([?&;,\s]{_SECRET}=)[^&;,\s]*", re.IGNORECASE)
"""`x=v` within an argument, as in the query of an address."""

ACCOUNT = re.compile(r"(://)[^/@\s]*:[^/@\s]*(@)")
"""User and password within an address."""


def shown_command(arguments: Sequence[str]) -> str:
    """The arguments as one would type them, without the values of secrets.

    An option or variable is secret if its name holds key, token, secret, password, passwd or
    credential. What cannot be written as UTF-8 is escaped.

    >>> shown_command(["train.py", "--lr", "0.1", "--api-key", "abc", "--token=x y", "HF_TOKEN=z"])
    "train.py --lr 0.1 --api-key '***' '--token=***' 'HF_TOKEN=***'"
    """
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        if hide_next and not argument.startswith("--"):
            shown.append(HIDDEN)
            hide_next = False
            continue
        hide_next = OPTION.fullmatch(argument) is not None
        shown.append(printable(_without_secrets(argument), lines=True))
    return shlex.join(shown)


def _without_secrets(argument: str) -> str:
    if assigned := ASSIGNED.fullmatch(argument):
        return assigned[1] + HIDDEN
    found = WITHIN.sub(rf"\g<1>{HIDDEN}", argument)
    return ACCOUNT.sub(rf"\g<1>{HIDDEN}\g<2>", found)
