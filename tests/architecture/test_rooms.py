"""The walls: what imports without torch, what is public, and that names do not collide."""

from __future__ import annotations

import importlib
import pkgutil
import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import spherical_motion

ROOT = Path(__file__).parents[2]
TORCH_FREE = (
    "errors",
    "checks",
    "notices",
    "vocabulary",
    "sphere",
    "estimates",
    "theory",
    "simulate",
    "records",
    "forecasting",
    "comparison",
    "reporting",
)


def all_modules() -> list[str]:
    found = pkgutil.walk_packages(spherical_motion.__path__, "spherical_motion.")
    return sorted(module.name for module in found)


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("room", TORCH_FREE)
def test_room_imports_with_torch_blocked(room: str) -> None:
    names = [m for m in all_modules() if m.split(".")[1] == room]
    assert names
    run_python(
        f"""
        import importlib, sys
        sys.modules["torch"] = sys.modules["triton"] = None
        for name in {names}:
            importlib.import_module(name)
        """
    )


def test_judging_and_reporting_a_run_needs_no_torch(write_run, tmp_path: Path) -> None:
    from simulated import constant, simulate_sgd

    settings = constant(0.1, 1e-2, 0.9, 300)
    run = write_run({"conv": simulate_sgd(settings)}, settings)
    out = tmp_path / "report.html"
    run_python(
        f"""
        import sys
        sys.modules["torch"] = None
        import spherical_motion as smd
        print(smd.compare({str(run)!r}))
        smd.report({str(run)!r}, {str(out)!r})
        """
    )
    assert out.stat().st_size > 10_000


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    run_python(
        """
        import sys
        import spherical_motion
        assert not {"torch", "numpy", "numba", "pyarrow", "bokeh"} & set(sys.modules)
        """
    )


def test_public_names_are_those_documented() -> None:
    documented = set(re.findall(r"^\| `smd\.(\w+)`", (ROOT / "docs/api.md").read_text(), re.M))
    assert documented == set(spherical_motion.__all__) - {"__version__"}


def test_every_public_name_resolves_and_is_listed_by_dir() -> None:
    for name in spherical_motion.__all__:
        assert getattr(spherical_motion, name) is not None
        assert name in dir(spherical_motion)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        spherical_motion.nonsense  # noqa: B018 the attribute access is the test


def test_static_and_lazy_imports_agree() -> None:
    source = (ROOT / "src/spherical_motion/__init__.py").read_text()
    static = set(re.findall(r"^    from spherical_motion\.(\w+) import", source, re.M))
    assert static == set(spherical_motion._HOMES.values())


@pytest.mark.parametrize("seed", range(3))
def test_public_callables_survive_any_order_of_imports(seed: int) -> None:
    modules = all_modules()
    random.Random(seed).shuffle(modules)
    run_python(
        f"""
        import importlib, types
        import spherical_motion as smd
        for name in {modules}:
            importlib.import_module(name)
        for name in {sorted(spherical_motion._HOMES)}:
            assert not isinstance(getattr(smd, name), types.ModuleType), name
            assert callable(getattr(smd, name)), name
        """
    )


def test_no_public_callable_is_named_like_a_module_beside_it() -> None:
    for name in all_modules():
        module = importlib.import_module(name)
        package = name if hasattr(module, "__path__") else name.rpartition(".")[0]
        siblings = {m.rpartition(".")[2] for m in all_modules() if m.rpartition(".")[0] == package}
        shared = {
            public
            for public, value in vars(module).items()
            if public in siblings and callable(value)
        }
        assert not shared, f"{name} exports {shared}, which are modules too"


def test_every_module_has_a_docstring_and_is_of_readable_length() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        assert text.startswith('"""'), path
        assert text.count("\n") <= 500, f"{path} has grown past 500 lines: one idea a file"
