"""Notices reach people, and nothing that tells may raise."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings

import pytest

from spherical_motion.errors import RecordingStopped
from spherical_motion.notices import announce, listed, notify, warn_recording_stopped


def test_notices_are_logged_unless_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "spherical_motion"):
        notify("left out: a bias")
        notify("never seen", quiet=True)
    assert caplog.messages == ["spherical-motion: left out: a bias"]


def test_a_program_without_logging_set_up_shows_them_on_stderr() -> None:
    code = "from spherical_motion.notices import notify; notify('look here')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == "spherical-motion: look here\n"
    assert ran.stdout == ""


@pytest.mark.parametrize("broken", [None, "closed"])
def test_a_broken_stderr_reaches_nobody(monkeypatch: pytest.MonkeyPatch, broken) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if broken else None)
    announce("watching 3 groups")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_recording_stopped("the disk is full")


def test_recording_stopped_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(RecordingStopped, match="disk"):
        warn_recording_stopped("the disk is full")
    announce("watching 3 groups")
    announce("never seen", quiet=True)
    assert capsys.readouterr().err == "spherical-motion: watching 3 groups\n"


def test_few_are_listed_and_the_rest_is_counted() -> None:
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"], most=2, separator="; ") == "a; b and 2 more"
