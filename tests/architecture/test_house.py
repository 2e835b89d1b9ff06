"""What keeps the house easy to live in, held by the figures that `tools/house.py` prints."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import house
import pytest

SOURCE = Path(__file__).parents[2] / "src/spherical_motion"
MODULES = house.modules_of(SOURCE)


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    return house.figures(SOURCE)


def test_no_folder_is_too_full_to_read(figures: dict[str, object]) -> None:
    folder, files = figures["fullest folder"]  # type: ignore[misc]
    assert files <= 18, f"{folder} holds {files} files: give what belongs together a folder"


def test_no_function_is_longer_than_a_screen_and_a_half() -> None:
    long = [f"{name} ({n})" for m in MODULES for n, name in m.functions() if n > 80]
    assert not long, long


def test_imports_make_no_cycle(figures: dict[str, object]) -> None:
    assert figures["import cycles"] == []


def test_no_two_classes_share_a_name(figures: dict[str, object]) -> None:
    assert figures["class names used twice"] == []


def test_only_the_families_know_the_families(figures: dict[str, object]) -> None:
    assert figures["family asked for by name outside theory/families"] == 0


def test_only_the_command_line_prints(figures: dict[str, object]) -> None:
    assert figures["prints outside cli and notices"] == 0


def test_types_say_what_they_are(figures: dict[str, object]) -> None:
    assert float(figures["Any per 1000 code lines"]) <= 20  # type: ignore[arg-type]


def test_names_are_verbs_that_a_reader_looks_for() -> None:
    riddle = re.compile(r"def _(tell|say|note|told|took|light)\b|self\._told\b")
    found = [m.name for m in MODULES if riddle.search(m.text)]
    assert not found


def test_public_functions_have_whole_signatures() -> None:
    """No `**options` that hides what a public function takes; data for events may be free."""
    hidden = []
    for module in MODULES:
        classes = [n.body for n in module.tree.body if isinstance(n, ast.ClassDef)]
        for node in [*module.tree.body, *itertools.chain(*classes)]:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            if node.args.kwarg is not None and node.name not in FREE_KEYWORDS:
                hidden.append(f"{module.name}.{node.name}(**{node.args.kwarg.arg})")
    assert not hidden, hidden


FREE_KEYWORDS = (
    "log",
    "scalars",
    "event",
    "own_event",
    "make_event",
    "on_event",
    "split_param_groups",
    "step",
)
"""Functions whose keywords are the user's own names: scalars, an event's data, the settings of any
optimizer's param groups, what the step of a wrapped scheduler takes."""
