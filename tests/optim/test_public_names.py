"""The table of steering tools in docs/api.md is the public surface of the room."""

from __future__ import annotations

import re
from pathlib import Path

from spherical_motion import optim


def test_public_names_are_those_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `smd\.optim\.(\w+)`", text, re.M)) == set(optim.__all__)


def test_every_public_name_has_a_docstring() -> None:
    for name in optim.__all__:
        assert (getattr(optim, name).__doc__ or "").strip(), name
