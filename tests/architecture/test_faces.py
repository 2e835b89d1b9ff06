"""Folders are used through their faces: the names in their `__init__`, or in its `__all__`."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_FILES = 18


def imports() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(importing module, module imported from, names) of every `from ... import` of ours."""
    for tree in ("src", "benchmarks"):
        for path in (ROOT / tree).rglob("*.py"):
            parts = path.relative_to(ROOT / tree).with_suffix("").parts
            importer = ".".join(p for p in parts if p != "__init__")
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    yield importer, node.module, tuple(alias.name for alias in node.names)


def reaching_past(face: str) -> list[str]:
    """Imports that enter the package `face` from outside past its `__init__` or `__all__`."""
    package = importlib.import_module(face)
    public = set(getattr(package, "__all__", vars(package)))
    inside = (face, f"{face}.")
    return [
        f"{importer}: from {module} import {', '.join(names)}"
        for importer, module, names in imports()
        if not (importer == face or importer.startswith(inside[1]))
        and (module.startswith(inside[1]) or (module == face and not public.issuperset(names)))
    ]


@pytest.mark.parametrize("folder", ["running", "graph", "search", "proof", "reasons"])
def test_folders_of_invariance_use_each_other_through_their_faces(folder: str) -> None:
    face = f"spherical_motion.invariance.{folder}"
    assert importlib.import_module(face).__doc__
    assert not reaching_past(face)


def test_other_rooms_use_the_face_of_invariance() -> None:
    assert not reaching_past("spherical_motion.invariance")


def test_no_folder_of_invariance_is_crowded() -> None:
    folders = [p.parent for p in (ROOT / "src/spherical_motion/invariance").rglob("__init__.py")]
    assert len(folders) == 6
    assert all(len(list(folder.glob("*.py"))) <= MOST_FILES for folder in folders)
