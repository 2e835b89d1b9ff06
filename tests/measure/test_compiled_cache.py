"""Compiled code on disk: used again, never trusted blindly, and never in the way."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numba
import pytest
from numba import types

from spherical_motion.measure import compiled_cache
from spherical_motion.measure.compiled_cache import cache_directory, compile_cached

SIGNATURE = (types.int64,)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def twice() -> Any:
    """A function made anew, as in another process."""

    @numba.njit
    def double(x):
        return 2 * x

    return double


def compiled() -> Any:
    function = twice()
    compile_cached(function, SIGNATURE, "double")
    assert function(21) == 42
    return function


def loaded(function: Any) -> bool:
    return sum(function.stats.cache_hits.values()) == 1


def files(home: Path) -> list[Path]:
    return sorted(path for path in home.rglob("*") if path.is_file())


def test_code_is_compiled_once_and_loaded_from_then_on(home: Path) -> None:
    assert not loaded(compiled())
    (file,) = files(home)
    assert file.name == "double.bin"
    written = file.stat().st_mtime_ns
    assert loaded(compiled())
    assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["empty", "cut", "one bit", "not ours"])
def test_a_damaged_file_is_compiled_anew_and_replaced(damage: str, home: Path) -> None:
    compiled()
    (file,) = files(home)
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[half] ^= 1
    file.write_bytes(
        {"empty": b"", "cut": content[:half], "one bit": content, "not ours": b"x" * 500}[damage]
    )
    assert not loaded(compiled())
    assert loaded(compiled())


def test_code_of_another_processor_source_or_setting_is_not_used(home: Path, monkeypatch) -> None:
    compiled()
    mine = cache_directory(twice())
    with monkeypatch.context() as patch:
        patch.setattr(numba.config, "OPT", 0)
        assert cache_directory(twice()) != mine
    with monkeypatch.context() as patch:
        codegen = type(twice().targetctx.codegen())
        patch.setattr(codegen, "magic_tuple", lambda self: ("triple", "other cpu", ""))
        assert cache_directory(twice()) != mine
        assert not loaded(compiled())
    with monkeypatch.context() as patch:
        other = home / "other"
        other.mkdir()
        (other / "loops.py").write_text("changed = True")
        patch.setattr(compiled_cache, "__file__", str(other / "compiled_cache.py"))
        assert cache_directory(twice()) != mine
    assert loaded(compiled())


@pytest.mark.parametrize("place", ["a file", "no home", "not absolute"])
def test_where_nothing_can_be_written_code_is_compiled(place: str, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    if place == "a file":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "" if place == "no home" else "relative")

        def none() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", none)
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    assert not loaded(compiled())
    assert not loaded(compiled())
    assert files(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners")
def test_what_others_may_write_is_not_run(home: Path) -> None:
    compiled()
    (file,) = files(home)
    file.chmod(0o666)
    assert not loaded(compiled())  # written anew, for the user alone
    assert loaded(compiled())
    file.parent.chmod(0o777)
    assert cache_directory(twice()) is None
    assert not loaded(compiled())


def test_a_disk_that_is_full_leaves_nothing_behind(home: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiled_cache.os, "replace", full)
    assert not loaded(compiled())
    assert files(home) == []


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_four_processes_at_once(home: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(4), context.SimpleQueue()

    def work() -> None:
        start.wait(timeout=20)
        results.put(compiled()(4))

    children = [context.Process(target=work) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=30)
        assert child.exitcode == 0
    assert [results.get() for _ in children] == [8] * 4
    assert [file.name for file in files(home)] == ["double.bin"]
    assert loaded(compiled())
