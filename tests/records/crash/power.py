"""Power cuts: a recording of a writer's calls, and what a disk may hold after any of them.

What a cut may leave is what POSIX allows, which is more than file systems do. A file has what it
held when it was last synced, and of the calls since then a prefix, the last of them by half, or all
with zeros in place of one of them. A directory has the names it had when it was last synced, and of
the changes since then any subset, each of them whole. A file that is renamed into place has its
name without its content if it was not synced, and a folder is gone with all below it if its name
was not.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crash.calls import CHANGING, Counting
from crash.lives import Truth, check

MOST_CHOICES = 48
"""States of one moment that are tried; where more are possible, these are drawn."""


@dataclasses.dataclass
class Node:
    """A file or a folder: its content when it was last synced, and the changes since then."""

    folder: bool
    data: bytes = b""
    names: dict[str, int] = dataclasses.field(default_factory=dict)
    since: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class State:
    """A tree after a cut: the content of each file, None for a folder, by its path."""

    files: tuple[tuple[str, bytes | None], ...]

    def make(self, base: Path) -> None:
        """Write it below a directory."""
        for name, content in self.files:
            if content is None:
                (base / name).mkdir(parents=True)
            else:
                (base / name).write_bytes(content)


class Recording(Counting):
    """Makes every call, and keeps the disk as it would be if the power went off.

    `at_risk` is called before each sync with this object: no state after a cut is missed, since
    between two syncs there are only more changes, of which a cut may leave any part. Syncs of
    "files" or "folders" may be `lost`, as if the writer had forgotten them.
    """

    def __init__(
        self, base: Path, at_risk: Callable[[Recording], object], *, lost: str = ""
    ) -> None:
        super().__init__()
        self._base, self._at_risk, self._lost = base, at_risk, lost
        self._nodes = [Node(folder=True)]
        self._handles: dict[int, tuple[int, bool]] = {}
        self._places: dict[int, int] = {}

    def __call__(
        self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if name == "fsync" and args[0] in self._handles:
            self._at_risk(self)
        before = os.fspath(args[0]) if name == "open" else ""
        found = super().__call__(name, real, args, kwargs)
        if name in CHANGING or name == "lseek":
            getattr(self, f"_{name}", self._unknown)(found, before, *args)
        return found

    def states(self, rng: random.Random, share: float) -> Iterator[State]:
        """What the disk may hold after a cut now: a share of all, or of some drawn by `rng`."""
        changed = [i for i, node in enumerate(self._nodes) if node.since]
        ways = [list(_ways(self._nodes[i])) for i in changed]
        total = 1
        for way in ways:
            total *= len(way)
        if total <= MOST_CHOICES:
            chosen: Any = itertools.product(*ways)
        else:
            chosen = [tuple(way[0] for way in ways), tuple(way[-1] for way in ways)]
            chosen += [tuple(map(rng.choice, ways)) for _ in range(MOST_CHOICES - 2)]
        for choice in chosen:
            if rng.random() < share:
                yield self._state(dict(zip(changed, choice, strict=True)))

    def now(self) -> State:
        """What the disk holds if the power stays on."""
        return self._state({i: node.since for i, node in enumerate(self._nodes)})

    def _state(self, changes: dict[int, list[Any]]) -> State:
        """The tree below the root, with these changes of nodes that are not synced."""
        found: list[tuple[str, bytes | None]] = []

        def walk(number: int, path: str) -> None:
            node = self._nodes[number]
            held = _after(node, changes.get(number, []))
            if node.folder:
                if path:
                    found.append((path, None))
                for name in sorted(held):
                    walk(held[name], f"{path}/{name}" if path else name)
            else:
                found.append((path, held))

        walk(0, "")
        return State(tuple(found))

    # The calls.

    def _at(self, path: str | Path) -> tuple[int, str]:
        """The node of the folder of a path, and the last name."""
        *folders, name = Path(path).relative_to(self._base).parts or ("",)
        number = 0
        for folder in folders:
            number = self._names(number)[folder]
        return number, name

    def _names(self, number: int) -> dict[str, int]:
        return _after(self._nodes[number], self._nodes[number].since)

    def _change(self, number: int, *change: tuple[str, int | None]) -> None:
        self._nodes[number].since.append(change)

    def _open(self, handle: int, path: str, _path: object, flags: int, *_mode: object) -> None:
        if not Path(path).is_relative_to(self._base):
            return
        folder, name = self._at(path)
        number = self._names(folder).get(name) if name else folder
        if number is None:
            assert flags & os.O_CREAT
            number = len(self._nodes)
            self._nodes.append(Node(folder=False))
            self._change(folder, (name, number))
        assert not flags & os.O_TRUNC
        self._handles[handle] = (number, bool(flags & os.O_APPEND))
        self._places[handle] = 0

    def _close(self, _found: None, _: str, handle: int) -> None:
        self._handles.pop(handle, None)

    def _lseek(self, place: int, _: str, handle: int, *_args: object) -> None:
        self._places[handle] = place

    def _write(self, size: int, _: str, handle: int, data: Any) -> None:
        number, appends = self._handles[handle]
        node = self._nodes[number]
        place = len(_after(node, node.since)) if appends else self._places[handle]
        node.since.append(("write", place, bytes(data)[:size]))
        self._places[handle] = place + size

    def _pwrite(self, size: int, _: str, handle: int, data: Any, place: int) -> None:
        node = self._nodes[self._handles[handle][0]]
        node.since.append(("write", place, bytes(data)[:size]))

    def _ftruncate(self, _found: None, _: str, handle: int, size: int) -> None:
        self._nodes[self._handles[handle][0]].since.append(("cut", size))

    def _fsync(self, _found: None, _: str, handle: int) -> None:
        if handle not in self._handles:
            return
        node = self._nodes[self._handles[handle][0]]
        if self._lost == ("folders" if node.folder else "files"):
            return
        content = _after(node, node.since)
        node.since = []
        if node.folder:
            node.names = content
        else:
            node.data = content

    def _mkdir(self, _found: None, _: str, path: Path, *_mode: object) -> None:
        folder, name = self._at(path)
        self._nodes.append(Node(folder=True))
        self._change(folder, (name, len(self._nodes) - 1))

    def _link(self, _found: None, _: str, old: Path, new: Path, **_options: object) -> None:
        (folder, name), (target, other) = self._at(old), self._at(new)
        self._change(target, (other, self._names(folder)[name]))

    def _replace(self, _found: None, _: str, old: Path, new: Path) -> None:
        (folder, name), (target, other) = self._at(old), self._at(new)
        assert folder == target, "one change of one folder"
        self._change(folder, (name, None), (other, self._names(folder)[name]))

    _rename = _replace

    def _unlink(self, _found: None, _: str, path: Path) -> None:
        folder, name = self._at(path)
        self._change(folder, (name, None))

    _remove = _unlink

    def _unknown(self, *_args: object) -> None:
        raise AssertionError("a call that changes the disk, of which nothing is known here")


def _after(node: Node, changes: list[Any]) -> Any:
    """The content of a node after some changes."""
    if node.folder:
        names = dict(node.names)
        for change in changes:
            for name, number in change:
                if number is None:
                    names.pop(name, None)
                else:
                    names[name] = number
        return names
    if not changes:
        return node.data
    data = bytearray(node.data)
    for kind, place, *rest in changes:
        if kind == "cut":
            del data[place:]
            data.extend(bytes(place - len(data)))
        else:
            data.extend(bytes(max(place - len(data), 0)))
            data[place : place + len(rest[0])] = rest[0]
    return bytes(data)


def _ways(node: Node) -> Iterator[list[Any]]:
    """The changes that a cut may leave: none first, all of them last."""
    if node.folder:
        count = len(node.since)
        subsets = range(1 << count) if count <= 6 else _some_subsets(count)
        for subset in subsets:
            yield [change for i, change in enumerate(node.since) if subset >> i & 1]
        return
    for count in range(len(node.since)):
        yield node.since[:count]
        kind, *rest = node.since[count]
        if kind == "write":
            place, data = rest
            yield [*node.since[:count], (kind, place, data[: len(data) // 2])]
            yield [*node.since[:count], (kind, place, bytes(len(data))), *node.since[count + 1 :]]
    yield node.since


def _some_subsets(count: int) -> list[int]:
    """None, all that come before or after each, each alone, all but each, and all."""
    everything = (1 << count) - 1
    prefixes = [(1 << i) - 1 for i in range(count)]
    ones = [1 << i for i in range(count)]
    found = [0, *prefixes, *(everything & ~p for p in prefixes), *ones]
    return list(dict.fromkeys([*found, *(everything & ~one for one in ones), everything]))


class Cuts:
    """Power cuts at the moments of a recording: kept while it is made, and tried afterwards.

    Args:
        scratch: a directory for the disk after a cut.
        place: where the run is, below the directory that survives.
        truth: what must be read; it is right at every moment.
        rng: draws states where there are too many.
        share: how many of all states are tried.
    """

    def __init__(
        self, scratch: Path, place: str, truth: Truth, rng: random.Random, share: float
    ) -> None:
        self._scratch, self._place, self._truth = scratch, place, truth
        self._rng, self._share = rng, share
        self._kept: dict[tuple[State, str], Truth] = {}

    def __call__(self, recording: Recording) -> None:
        """Keep states of this moment, each once."""
        truth = Truth(**copy.deepcopy(vars(self._truth)))
        for state in recording.states(self._rng, self._share):
            self._kept.setdefault((state, repr(truth)), truth)

    def try_all(self) -> int:
        """Compare what is read after each cut with the truth; returns how many there were."""
        for (state, _), truth in self._kept.items():
            self._try(state, truth)
        return len(self._kept)

    def _try(self, state: State, truth: Truth) -> None:
        self._scratch.mkdir()
        try:
            state.make(self._scratch)
            check(self._scratch / self._place, truth)
        finally:
            shutil.rmtree(self._scratch)
