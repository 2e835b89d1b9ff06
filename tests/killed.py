"""Kill a writer at a chosen call that changes the disk."""

from __future__ import annotations

import os

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

    for name in ("fsync", "link", "replace", "unlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    return made
