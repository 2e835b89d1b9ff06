"""Kill a writer at a chosen call that changes the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class Killed(BaseException):
    """Nothing may catch it, like a kill."""


def disk_calls(monkeypatch: pytest.MonkeyPatch, stop_at: int) -> list[str]:
    """Count the calls that change the disk; from number `stop_at` on, none is made."""
    made: list[str] = []

    def counted(function):
        def call(*args, **kwargs):
            if len(made) >= stop_at:
                raise Killed
            made.append(function.__name__)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    return made
