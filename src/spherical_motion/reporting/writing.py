"""Writes a page whole or not at all, and keeps names from becoming scripts or requests."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from spherical_motion.errors import InvalidArgument, MissingExtra
from spherical_motion.records.files.durable import publish


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
    """Write a page, whole or not at all, and return its path; make missing parent directories.

    A link stays, and what it points to is written. A device or a pipe takes the page as it comes:
    a file in its place would take it away from all other programs.
    """
    # A name may hold half of a surrogate pair (an undecodable file name), which UTF-8 refuses.
    content = page.encode("utf-8", errors="replace")
    target.parent.mkdir(parents=True, exist_ok=True)
    place = target.resolve()
    if place.exists() and not place.is_file():
        with place.open("wb") as file:
            file.write(content)
    else:
        publish(place, lambda file: file.write(content), replace=True)
    return target


def missing_extra(what: str, module: str) -> MissingExtra:
    """The error for a page that needs a module of the extra `report`."""
    return MissingExtra(
        f"{what} needs {module}, which is not installed. "
        "Run: pip install 'spherical-motion[report]'"
    )


def json_for_script(value: object) -> str:
    r"""JSON in which no `<` remains, so that no string in it can end the script element.

    >>> print(json_for_script("</script>"))
    "\u003c/script>"
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def content_policy(scripts: Iterable[str]) -> str:
    """A content security policy that runs exactly these inline scripts and requests nothing.

    It admits the scripts by their SHA-256 digests, so a browser executes nothing else that the page
    may contain. It allows inline styles, which cannot act.
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts if script)
    sources = " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )
