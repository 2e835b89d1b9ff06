"""Binding is one room: nobody else keeps a registry of optimizers or looks up who steps what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "spherical_motion"
OTHERS = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name != "binding"]


def iterated(node: ast.AST) -> list[ast.expr]:
    """What a loop or comprehension runs over, the loops directly inside a loop included."""
    if isinstance(node, ast.For):
        return [node.iter, *(over for inner in node.body for over in iterated(inner))]
    return [generator.iter for generator in getattr(node, "generators", [])]


def lookups(tree: ast.AST) -> Iterator[int]:
    """Lines that walk the parameters of another object's param groups: `o.param_groups`, `params`.

    An optimizer may walk its own (`self.param_groups`).
    """
    for node in ast.walk(tree):
        inside = [part for over in iterated(node) for part in ast.walk(over)]
        groups = any(
            isinstance(part, ast.Attribute)
            and part.attr == "param_groups"
            and not (isinstance(part.value, ast.Name) and part.value.id == "self")
            for part in inside
        )
        params = any(isinstance(part, ast.Constant) and part.value == "params" for part in inside)
        if groups and params:
            yield getattr(node, "lineno", 0)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_who_steps_what_and_who_holds_an_optimizer_is_asked_of_binding(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "WeakKeyDictionary" not in text, "use binding's registry: hold, release, refuse_second"
    assert not list(lookups(ast.parse(text))), "use binding's Steppers or Members"


def test_the_check_sees_loops_and_comprehensions() -> None:
    loop = "for g in o.param_groups:\n    for p in g['params']:\n        f(p)"
    comprehension = "{id(p): i for i, g in enumerate(o.param_groups) for p in g['params']}"
    own = "[p for g in self.param_groups for p in g['params']]"
    found = [bool(list(lookups(ast.parse(code)))) for code in (loop, comprehension, own)]
    assert found == [True, True, False]
