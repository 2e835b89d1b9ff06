"""Keeps a name in a run from becoming markup, a script or a request."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable


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
