"""An optimizer's theory is one file: nobody else asks which family it is."""

from __future__ import annotations

import ast
from pathlib import Path

from spherical_motion.theory import Family
from spherical_motion.theory.families import BALANCED, TABLE

SRC = Path(__file__).parents[2] / "src/spherical_motion"
THEORY = "spherical_motion.theory"
DOORS = {"equilibrium", "transient", "driven", "travel", "motion", "published"}
DOORS |= {"balance_by_step", "balance_over_window", "with_pull"}


def concrete() -> set[str]:
    return {cls.__name__ for family in [*TABLE, *BALANCED] for cls in type(family).__mro__} - {
        "ABC",
        "object",
    }


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_nobody_asks_which_family_it_is() -> None:
    families = concrete()
    assert {"Family", "AdamW", "HeavyBallL2"} <= families
    for path in SRC.rglob("*.py"):
        if path.is_relative_to(SRC / "theory/families"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            at = f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
                inner = path == SRC / "theory/family.py"  # the class calls its own defaults
                assert owner not in families or inner, at
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                named = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node)}
                assert not named & families, at
            if isinstance(node, ast.Compare) and any(isinstance(o, ast.Is) for o in node.ops):
                text = ast.unparse(node)
                assert "family_of" not in text, at


def test_families_and_their_concepts_import_no_door() -> None:
    pending = sorted((SRC / "theory/families").glob("*.py"))
    seen: set[Path] = set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports_of(path):
            if not name.startswith(THEORY + "."):
                continue
            parts = name.removeprefix(THEORY + ".").split(".")
            assert parts[0] not in DOORS, f"{path.name} imports {name}"
            file = (SRC / "theory").joinpath(*parts).with_suffix(".py")
            pending += [file] if file.exists() else []
    assert SRC / "theory/family.py" in seen


def test_the_concept_imports_no_family() -> None:
    for name in ("family", "update_rule", "balance_law", "group", "settings", "relaxation"):
        assert not any(".families" in i for i in imports_of(SRC / f"theory/{name}.py"))


def test_every_built_in_family_is_one_row() -> None:
    rules = [*TABLE, *BALANCED]
    assert len({rule.name for rule in rules}) == len(rules)
    files = {p.stem for p in (SRC / "theory/families").glob("*.py")} - {"__init__"}
    assert {type(rule).__module__.rpartition(".")[2] for rule in rules} == files
    assert not any(isinstance(rule, Family) for rule in BALANCED)
    assert all(isinstance(family, Family) for family in TABLE)
