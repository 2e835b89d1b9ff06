"""The structure in figures: `python tools/house.py [SRC]` prints one table of the package.

Files and lines a room, the longest file and function, import edges and cycles, how often a type is
`Any`, prints outside the command line, classes that share a name. `--json` prints the same as data.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "spherical_motion"


@dataclasses.dataclass(frozen=True)
class Module:
    """One source file, read and parsed."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The part of the package it belongs to: its first folder, or its own name."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else "__init__"

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def code_lines(self) -> int:
        """Lines that are neither blank, nor comment, nor docstring."""
        said = set()
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                said |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        numbered = enumerate(self.text.splitlines(), start=1)
        return sum(
            1 for i, line in numbered if i not in said and line.strip() and line.strip()[0] != "#"
        )

    @property
    def anys(self) -> int:
        """How often the word `Any` stands in it."""
        return len(re.findall(r"\bAny\b", self.text))

    @property
    def prints(self) -> int:
        return sum(
            isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"
            for n in ast.walk(self.tree)
        )

    def functions(self) -> Iterator[tuple[int, str]]:
        """(length in lines, qualified name) of each function."""
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield (node.end_lineno or 0) - node.lineno + 1, f"{self.name}.{node.name}"

    def classes(self) -> Iterator[str]:
        yield from (n.name for n in ast.walk(self.tree) if isinstance(n, ast.ClassDef))

    def imports(self, known: set[str]) -> set[str]:
        """Modules of the package that this one imports at its top level."""
        found = set()
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    deep = f"{node.module}.{alias.name}"
                    found.add(deep if deep in known else node.module)
        return (found & known) - {self.name}


def modules_of(source: Path) -> list[Module]:
    """Every module of the package under `source`."""
    found = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text()
        found.append(Module(name, path, text, ast.parse(text)))
    return found


def cycles_of(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for neighbour in edges.get(node, ()):
            if neighbour not in index:
                visit(neighbour)
                low[node] = min(low[node], low[neighbour])
            elif neighbour in stack:
                low[node] = min(low[node], index[neighbour])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in edges:
        if node not in index:
            visit(node)
    return found


def figures(source: Path) -> dict[str, object]:
    """All figures of the package under `source`."""
    modules = modules_of(source)
    known = {m.name for m in modules}
    edges = {m.name: m.imports(known) for m in modules}
    rooms: dict[str, list[Module]] = defaultdict(list)
    folders: Counter[str] = Counter()
    for module in modules:
        rooms[module.room].append(module)
        folders[str(module.path.parent.relative_to(source.parent))] += 1
    code = sum(m.code_lines for m in modules)
    shared = Counter(name for m in modules for name in set(m.classes()))
    families = re.compile(
        r"\bFamily\.[A-Z]|\bis (not )?(theory\.)?Family\b|isinstance\([^)]*Family"
    )
    length, function = max(max(m.functions(), default=(0, "")) for m in modules)
    longest = max(modules, key=lambda m: m.lines)
    return {
        "rooms": {
            room: {"files": len(ms), "lines": sum(m.lines for m in ms)}
            for room, ms in sorted(rooms.items())
        },
        "files": len(modules),
        "lines": sum(m.lines for m in modules),
        "code lines": code,
        "fullest folder": folders.most_common(1)[0],
        "longest file": (longest.lines, longest.name),
        "longest function": (length, function),
        "functions over 60 lines": sum(n > 60 for m in modules for n, _ in m.functions()),
        "import edges": sum(map(len, edges.values())),
        "import cycles": cycles_of(edges),
        "Any per 1000 code lines": round(1000 * sum(m.anys for m in modules) / code, 1),
        "family asked for by name outside theory/families": sum(
            len(families.findall(m.text)) for m in modules if "families" not in m.name
        ),
        "prints outside cli and notices": sum(
            m.prints for m in modules if m.room not in ("cli", "notices")
        ),
        "class names used twice": sorted(name for name, n in shared.items() if n > 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[1] / "src" / PACKAGE
    parser.add_argument("source", nargs="?", type=Path, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = figures(options.source)
    if options.json:
        json.dump(found, sys.stdout, indent=1)
        return
    rooms = found.pop("rooms")
    assert isinstance(rooms, dict)
    for room, sizes in rooms.items():
        print(f"{room:<14} {sizes['files']:>4} files {sizes['lines']:>6,} lines")
    for name, value in found.items():
        print(f"{name:<50} {value}")


if __name__ == "__main__":
    main()
