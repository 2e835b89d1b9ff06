"""Runs on other file systems than the local one: any path with "://", by way of fsspec.

They are read, never written. Only such a path imports fsspec.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import pyarrow.parquet as pq

from spherical_motion.errors import InvalidArgument, MissingExtra
from spherical_motion.notices import shown

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Size(NamedTuple):
    """What is known of a remote file."""

    st_size: int


class RemotePath:
    """A path on a file system of fsspec, with what reading a run uses of `pathlib.Path`.

    Args:
        system: the file system.
        path: the path on it.
        url: the path as the user writes it.
    """

    def __init__(self, system: AbstractFileSystem, path: str, url: str) -> None:
        self._system, self._path, self._url = system, path.rstrip("/"), url.rstrip("/")

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        above, url = self._path.rpartition("/")[0], self._url.rpartition("/")[0]
        return RemotePath(self._system, above, url)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self._system, f"{self._path}/{name}", f"{self._url}/{name}")

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"RemotePath({self._url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    def relative_to(self, other: RemotePath) -> str:
        return self._url.removeprefix(f"{other._url}/")

    def exists(self) -> bool:
        return self._system.exists(self._path)

    def is_dir(self) -> bool:
        return self._system.isdir(self._path)

    def is_file(self) -> bool:
        return self._system.isfile(self._path)

    def is_symlink(self) -> bool:
        return False

    def iterdir(self) -> Iterator[RemotePath]:
        self._system.invalidate_cache(self._path)  # the run may be written at this moment
        for found in self._system.ls(self._path, detail=False):
            yield self / found.rstrip("/").rpartition("/")[2]

    def stat(self) -> Size:
        return Size(int(self._system.info(self._path)["size"]))

    def mark(self) -> str:
        """What the file system knows of a file, in short: its size, and often its date or hash."""
        return str(self._system.ukey(self._path))

    def open(self, mode: str = "rb") -> BinaryIO:
        return cast(BinaryIO, self._system.open(self._path, mode))

    def read_bytes(self) -> bytes:
        return cast(bytes, self._system.cat_file(self._path))

    def read_text(self, encoding: str = "utf-8") -> str:
        if self.is_dir():
            raise IsADirectoryError(self._url)
        return self.read_bytes().decode(encoding)


def mark_of(path: Path) -> tuple[int | str, ...] | None:
    """What tells a file from another one of its name; None if there is none."""
    try:
        if isinstance(path, RemotePath):
            return (path.mark(),)
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_ino, found.st_mtime_ns)


def place_of(where: str, directory: str | os.PathLike[str]) -> Path:
    """The place of a run: a local path, or a `RemotePath`, which reads like one.

    Args:
        where: the public function that was called.
        directory: what it was given.

    Raises:
        MissingExtra: its file system needs a package that is not installed.
        InvalidArgument: it is no path, or fsspec does not know its file system.

    >>> place_of("read", "runs/mine").parts
    ('runs', 'mine')
    >>> place_of("read", "memory://runs/mine")
    RemotePath('memory://runs/mine')
    """
    if isinstance(directory, RemotePath):
        return cast(Path, directory)
    text = _text_of(where, directory)
    if not isinstance(directory, str) or "://" not in directory:
        return _local(where, text)
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtra(
            f"{directory} needs fsspec. Run: pip install 'spherical-motion[remote]'"
        ) from error
    try:
        system, path = url_to_fs(directory)
    except ImportError as error:  # fsspec says which package it takes
        raise MissingExtra(f"{directory} needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise InvalidArgument(
            f"{where}({directory!r}) must have a protocol that fsspec knows, such as s3, gs, file "
            f"or memory ({error}). Install the package that provides it, or correct the path."
        ) from error
    return cast(Path, RemotePath(system, path, directory))


def _text_of(where: str, directory: object) -> str:
    """A path as text; InvalidArgument where it is none."""
    path = directory.__fspath__() if isinstance(directory, os.PathLike) else directory
    if not isinstance(path, str):
        raise InvalidArgument(
            f"{where}(...) must be given the directory of a run as a str or a Path, got "
            f"{shown(repr(directory), most=100)}. "
            + ("Decode it with os.fsdecode." if isinstance(path, bytes) else "Pass its path.")
        )
    if "\0" in path:
        raise InvalidArgument(
            f"{where}({path!r}) must be a path, and no path holds a null character. Remove it."
        )
    return path


def _local(where: str, text: str) -> Path:
    path = Path(text)
    protocol = path.parts[0] if path.parts else ""
    if re.fullmatch(r"\w[\w+.-]+:", protocol) and not path.exists():
        raise InvalidArgument(
            f"{where}({text!r}) is no directory here. If it was the URL {protocol}//..., pass it "
            "as a str: a Path keeps one slash only."
        )
    return path


@contextlib.contextmanager
def parquet_file(path: Path, *, check_pages: bool = False) -> Iterator[pq.ParquetFile]:
    """A local or remote Parquet file; without a buffer ahead, a column takes its own memory."""
    with contextlib.ExitStack() as opened:
        source = path if isinstance(path, Path) else opened.enter_context(path.open("rb"))
        yield opened.enter_context(
            pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=check_pages)
        )
