"""Delete, rename and replace files and folders of a run."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from full_run import PARTS, TABLES, part_of

NAMES = (*TABLES, "events.jsonl", "run.json", "run.lock")


def removed(directory: Path, rng: random.Random) -> str:
    """A file or folder is gone."""
    name = rng.choice(NAMES)
    if name in TABLES and rng.random() < 0.6:
        numbers = rng.sample(range(PARTS), rng.randrange(1, PARTS + 1))
        for number in numbers:
            part_of(directory, name, number).unlink()
        return f"{name} {numbers}"
    _remove(directory / name)
    return name


def renamed(directory: Path, rng: random.Random) -> str:
    """A part has the name of others, or a table that of another."""
    table = rng.choice(TABLES)
    if rng.random() < 0.3:
        other = rng.choice(TABLES)
        (directory / table).rename(directory / "between")
        if other != table:
            (directory / other).rename(directory / table)
        (directory / "between").rename(directory / other)
        return f"{table} and {other}"
    first, last = rng.choice(
        ((0, 2), (1, 2), (2, 5), (7, 7), (99999999, 99999999), (3, 1), (0, 99))
    )
    name = rng.choice((f"part-{first:08d}-{last:08d}.parquet", f"part-{10**30}-{10**30}.parquet"))
    part_of(directory, table, rng.randrange(PARTS)).rename(directory / table / name)
    return f"{table}/{name}"


def replaced(directory: Path, rng: random.Random) -> str:
    """A file is a folder, a pipe or a link, or a folder is a file."""
    name = rng.choice(NAMES)
    path = directory / name
    if name in TABLES and rng.random() < 0.6:
        path = part_of(directory, name, rng.randrange(PARTS))
    _remove(path)
    how = rng.choice(
        ("folder", "full folder", "link to itself", "dead link", "pipe", "file", "device")
    )
    if how == "link to itself":
        path.symlink_to(path)
    elif how == "dead link":
        path.symlink_to("nowhere/at/all")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "file":
        path.write_bytes(b"x")
    elif how == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
        if how == "full folder":
            (path / "file").touch()
    return f"{path.relative_to(directory)} is a {how}"


def added(directory: Path, rng: random.Random) -> str:
    """Files that other programs leave."""
    table = rng.choice(TABLES)
    for name in (".DS_Store", "part-1.parquet", "part-00000009-00000009.parquet.tmp", "Thumbs.db"):
        (directory / rng.choice((table, "."))).joinpath(name).write_bytes(b"\x00\x01")
    return table


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
