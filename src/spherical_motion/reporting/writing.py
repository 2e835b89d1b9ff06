"""What every page needs: a file to write to, written whole or not at all, and the extra."""

from __future__ import annotations

import os
from pathlib import Path

from spherical_motion.errors import InvalidArgument, MissingExtra
from spherical_motion.records.durable import publish


def page_file(where: str, path: str | os.PathLike[str], example: str) -> Path:
    """The file that `path` names; raises InvalidArgument if it is a directory."""
    target = Path(path)
    if target.is_dir():
        raise InvalidArgument(
            f"{where}(path=...) expects a file to write, got the directory {target}. "
            f"Use {target / example}."
        )
    return target


def write_page(target: Path, page: str) -> Path:
    """Write a page, whole or not at all, and return its path; make missing parent directories."""
    # A name may hold half of a surrogate pair (an undecodable file name), which UTF-8 refuses.
    content = page.encode("utf-8", errors="replace")
    target.parent.mkdir(parents=True, exist_ok=True)
    publish(target, lambda temporary: temporary.write_bytes(content))
    return target


def missing_extra(what: str, module: str) -> MissingExtra:
    """The error for a page that needs a module of the extra `report`."""
    return MissingExtra(
        f"{what} needs {module}, which is not installed. "
        "Run: pip install 'spherical-motion[report]'"
    )
