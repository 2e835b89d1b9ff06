"""Notices reach people, and nothing that tells may raise."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings

import pytest

from spherical_motion.errors import RecordingStopped
from spherical_motion.notices import announce, described, listed, notify, warn_recording_stopped


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


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("this handler always fails")


class Unprintable:
    def write(self, text: str) -> int:
        raise RuntimeError("this stream always fails")


def tell_everything() -> None:
    notify("left out: a bias")
    announce("watching 3 groups")
    warn_recording_stopped("the disk is full")


@pytest.mark.parametrize("place", ["handler", "filter"])
def test_logging_that_raises_reaches_nobody(place: str) -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise RuntimeError("this filter always fails")

    logger, handler = logging.getLogger("spherical_motion"), Raising()
    logger.addHandler(handler) if place == "handler" else logger.addFilter(refuse)
    try:
        notify("left out: a bias")
    finally:
        logger.removeHandler(handler)
        logger.removeFilter(refuse)


def test_a_closed_stderr_reaches_nobody_through_logging() -> None:
    code = """
import logging, os, sys, warnings
from spherical_motion.notices import announce, notify, warn_recording_stopped
out = os.dup(1)
for close in (sys.stderr.close, sys.stdout.close, lambda: os.close(2)):
    close()
    for tell in (notify, announce, warn_recording_stopped):
        tell("said to nobody")
    for how in ("error", "always"):
        warnings.simplefilter(how)
        warn_recording_stopped("the disk is full")
    logging.captureWarnings(True)
    warn_recording_stopped("the disk is full")
    logging.captureWarnings(False)
os.write(out, b"went on")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "went on"


@pytest.mark.filterwarnings("error")
def test_a_stream_that_raises_reaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Unprintable())
    tell_everything()


@pytest.mark.filterwarnings("default")
def test_warnings_shown_by_code_that_raises_reach_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("warnings cannot be shown")

    monkeypatch.setattr(warnings, "showwarning", fail)
    warn_recording_stopped("the disk is full")
    assert "the disk is full" in capsys.readouterr().err


def test_an_error_that_cannot_describe_itself_is_still_named() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert described(Silent()) == "Silent: it cannot be shown"
    assert described(OSError(5, "no\x1b[2Jdisk")) == r"OSError: [Errno 5] no\x1b[2Jdisk"


def test_recording_stopped_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(RecordingStopped, match="disk"):
        warn_recording_stopped("the disk is full")
    announce("watching 3 groups")
    announce("never seen", quiet=True)
    assert capsys.readouterr().err == "spherical-motion: watching 3 groups\n"


def test_few_are_listed_and_the_rest_is_counted() -> None:
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"], most=2, separator="; ") == "a; b and 2 more"
