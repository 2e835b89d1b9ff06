"""Alarms that a user knows of: which rows `compare(ignore=...)` acknowledges."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import Suspect, Verdict


@dataclasses.dataclass(frozen=True, slots=True)
class Acknowledged:
    """One entry of `ignore`.

    Attributes:
        groups: names of the groups that it is about.
        suspect: the suspect that is known; None for every one.
    """

    groups: frozenset[str]
    suspect: Suspect | None

    def covers(self, group: str, verdict: Verdict) -> bool:
        """Whether it is about this alarm."""
        return group in self.groups and self.suspect in (None, verdict.suspect)


def parse_ignored(ignore: Iterable[str], groups: Sequence[str]) -> tuple[Acknowledged, ...]:
    """The entries of `ignore`, "NAME" or "NAME:SUSPECT", where NAME may hold * and ?.

    Raises:
        InvalidArgument: no group or no suspect has that name; the message says which is nearest.

    >>> (one,) = parse_ignored(["layer1.*:weights-written"], ["layer1.conv", "head"])
    >>> sorted(one.groups), one.suspect.name
    (['layer1.conv'], 'WEIGHTS_WRITTEN')
    """
    if isinstance(ignore, str):
        raise InvalidArgument(
            f"compare(ignore=...) must be a list, got {ignore!r}. Use [{ignore!r}]."
        )
    return tuple(_entry(text, groups) for text in ignore)


def _entry(text: str, groups: Sequence[str]) -> Acknowledged:
    if text in groups:
        return Acknowledged(frozenset((text,)), None)
    name, colon, suspect = text.rpartition(":")
    if not colon:
        return Acknowledged(_groups(text, text, groups), None)
    return Acknowledged(_groups(name, text, groups), _suspect(suspect, text))


def _groups(name: str, text: str, groups: Sequence[str]) -> frozenset[str]:
    found = [name] if name in groups else fnmatch.filter(groups, name)
    if not found:
        raise InvalidArgument(
            f"compare(ignore=...) got {text!r}, but no group is named {name!r}."
            + _nearest(name, groups)
        )
    return frozenset(found)


def _suspect(name: str, text: str) -> Suspect:
    wanted = name.strip().upper().replace("-", "_").replace(" ", "_")
    if wanted in Suspect.__members__:
        return Suspect[wanted]
    raise InvalidArgument(
        f"compare(ignore=...) got {text!r}, but no suspect is named {name!r}."
        + _nearest(wanted, list(Suspect.__members__))
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f" The nearest is {near[0]!r}." if near else ""
