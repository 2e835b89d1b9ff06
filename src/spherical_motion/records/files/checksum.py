"""A checksum of a whole Parquet file, kept in its footer.

The pages of a file have checksums of their own, and any Parquet reader may verify them. Their
headers and the footer have none, and a flipped bit there can turn numbers into others. So the
footer also holds, as text among its metadata, the CRC-32 of all other bytes of the file.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

MARK = b"CRC-32 of all other bytes: "
DIGITS = 8

BLANK = b"0" * DIGITS

METADATA = {b"checksum": MARK + BLANK}
"""Metadata of the schema of a file that `seal` will complete."""

TRAILER = 8
"""Bytes at the end of a Parquet file: the length of the footer, and PAR1."""

CHUNK = 1 << 20


def seal(file: BinaryIO) -> None:
    """Write the checksum of an open file that was written with `METADATA` into its place."""
    place = _place(file)
    if place is None:
        raise pa.ArrowInvalid("it was written without a place for its checksum")
    digits = f"{_checksum(file, place):0{DIGITS}x}".encode()
    file.seek(place)
    file.write(digits)


def require_file(path: Path) -> None:
    """Raise OSError if a local path names a pipe or a device: reading it may never end."""
    if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("it is no ordinary file")


def verify(path: Path) -> None:
    """Compare the checksum of a file with its bytes.

    A file without one passes: schema 1 had none, and other programs that rewrite a file leave it
    out, or blank.

    Raises:
        pyarrow.ArrowInvalid: they differ.
        OSError: it cannot be read.
    """
    require_file(path)
    with path.open("rb") as file:
        place = _place(file)
        if place is None:
            return
        file.seek(place)
        stored, found = file.read(DIGITS), _checksum(file, place)
    if stored not in (BLANK, f"{found:0{DIGITS}x}".encode()):
        raise pa.ArrowInvalid(
            f"its bytes have the checksum {found:0{DIGITS}x}, and it was written with "
            f"{stored.decode(errors='replace')}"
        )


def _place(file: BinaryIO) -> int | None:
    """Where in the file the digits of its checksum are; None if there is no place for them."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - TRAILER, 0))
    length = int.from_bytes(file.read(TRAILER)[:4], "little")
    start = max(size - TRAILER - length, 0)
    file.seek(start)
    found = file.read(length).rfind(MARK)
    return None if found < 0 else start + found + len(MARK)


def _checksum(file: BinaryIO, place: int) -> int:
    """CRC-32 of all bytes but the digits at `place`."""
    total, size = 0, file.seek(0, os.SEEK_END)
    for start, stop in ((0, place), (place + DIGITS, size)):
        file.seek(start)
        while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
            total, start = zlib.crc32(chunk, total), start + len(chunk)
    return total
