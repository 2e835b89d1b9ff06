"""Compiled loops, kept on disk from one process to the next.

Compiling takes seconds, loading some milliseconds (and a few tenths of a second for what numba
prepares once in any case). Where the directory cannot be made, read or trusted, the loops are
compiled as if there were no cache; nothing here raises.

A file belongs to one function, and its directory to one state of everything that the code depends
on: the sources, the versions, the processor. So two processes that write a file at the same time
write the same, whole files replace each other, and a processor never runs the code of another.
numba's own cache looks at the source of the outermost function alone, and cannot name functions
that are made by functions.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import compiler, config, serialize

Compiled = Any
"""What `numba.njit` returns. Numba has no type for it."""

SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "BOUNDSCHECK", "DISABLE_JIT")
"""Settings of numba that change the code it makes."""

DIGEST = hashlib.sha256().digest_size


def compile_cached(function: Compiled, signature: Sequence[object], name: str) -> None:
    """Compile a function for a signature, or load it from the cache; once a process.

    Args:
        function: what `numba.njit` returned, for which one signature is ever compiled.
        signature: its argument types.
        name: of the function, unlike any other in this package.
    """
    with contextlib.suppress(Exception):  # numba's insides may change
        directory = cache_directory(function)
        if directory is not None:
            function._cache = _OneFile(directory / f"{name}.bin")
    function.compile(tuple(signature))


def cache_directory(function: Compiled) -> Path | None:
    """Where code of this process lies, made if need be; None where there can be no cache.

    `NUMBA_CACHE_DIR` if it is set, else the user's cache directory. It must belong to the user, and
    nobody else may write there, because what is loaded is run.
    """
    try:
        directory = _root() / "spherical-motion" / _state(function)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        trusted = all(map(_is_private, (directory, directory.parent)))
        return directory if trusted and os.access(directory, os.W_OK) else None
    except Exception:  # no home, a file in its place, sources in an archive, ...
        return None


class _OneFile:
    """The cache of one function, as a dispatcher of numba asks for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cache_path = str(path.parent)

    def load_overload(self, sig: object, target_context: Any) -> Any:
        """What was compiled, or None if there is nothing, or not what was written."""
        try:
            with open(self._path, "rb") as file:
                if not _is_private(file.fileno()):
                    return None
                content = file.read()
            digest, payload = content[:DIGEST], content[DIGEST:]
            if hashlib.sha256(payload).digest() != digest:
                return None
            target_context.refresh()
            return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # compiled anew, and written over
            return None

    def save_overload(self, sig: object, data: Any) -> None:
        """Keep what was compiled, if it can be kept."""
        if data.library.has_dynamic_globals or data.lifted:
            return
        temporary = None
        try:
            payload = serialize.dumps(data._reduce())
            handle, temporary = tempfile.mkstemp(dir=self._path.parent)
            with open(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, self._path)
        except Exception:  # a full disk, a directory that is gone
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    def enable(self) -> None:
        """It is."""

    def disable(self) -> None:
        """It stays."""

    def flush(self) -> None:
        """Nothing is kept in memory."""


def _root() -> Path:
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ["LOCALAPPDATA"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    of_user = os.environ.get("XDG_CACHE_HOME", "")
    return Path(of_user) if os.path.isabs(of_user) else Path.home() / ".cache"


def _state(function: Compiled) -> str:
    """A word for all that compiled code depends on."""
    settings = [getattr(config, name, None) for name in SETTINGS]
    processor = function.targetctx.codegen().magic_tuple()
    versions = numba.__version__, llvmlite.__version__, np.__version__, sys.version
    found = hashlib.sha256(repr((versions, processor, settings)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        found.update(source.read_bytes())
    return found.hexdigest()[:24]


def _is_private(place: Path | int) -> bool:
    """Whether a file or directory is the user's, and nobody else may write it."""
    if not hasattr(os, "geteuid"):
        return True
    found = os.stat(place)
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
