"""Every option that takes a number answers a bad one in one line, with exit code 2."""

from __future__ import annotations

import os
import stat
import time
import typing
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from full_run import write_full_run

from spherical_motion.cli import app

BAD = ("nan", "inf", "-inf", "-1", "0", "1e308", "1e-320", "9223372036854775808", "99999999999")
TEXT = ("x", "", "1,2", "0x10")
SECONDS = 3.0

RATES = ("--lr", "0.1", "--weight-decay", "1e-3", "--momentum", "0.9")
USUAL = {
    "simulate": (*RATES, "--steps", "200"),
    "forecast": (*RATES, "--steps", "200"),
    "plan": (*RATES, "--angle", "3e-3"),
    "compare": ("run",),
    "train": ("no-such-recipe",),
    "inspect": ("no-such-model", "--input", "3x8x8"),
}
"""Arguments of each command that has numbers; the last two end before they begin."""

BESIDE = {
    "--epochs": ("--steps-per-epoch", "10"),
    "--steps-per-epoch": ("--epochs", "3"),
    "--warmup": ("--schedule", "cosine"),
    "--decay": ("--schedule", "wsd"),
    "--final-lr": ("--schedule", "exponential"),
    "--power": ("--schedule", "polynomial"),
    "--factor": ("--milestones", "100"),
    "--batch-factor": ("--steps-per-epoch", "10"),
}
"""What an option needs beside it."""

NUMBERS_IN_TEXT = ("--milestones", "--pull")


def numeric_options() -> list[tuple[str, str]]:
    """(command, option) for every option that takes a number."""
    found: list[tuple[str, str]] = []
    for command in app.registered_commands:
        hints = typing.get_type_hints(command.callback, include_extras=True)
        for parameter, hint in hints.items():
            plain, *extras = typing.get_args(hint) or (hint,)
            declared = [
                name for extra in extras for name in getattr(extra, "param_decls", ()) or ()
            ]
            option = next(
                (name for name in declared if name.startswith("--")),
                "--" + parameter.replace("_", "-"),
            )
            kinds = {plain, *typing.get_args(plain)}
            if kinds & {int, float} or option in NUMBERS_IN_TEXT:
                found.append((str(command.name), option))
    return found


OPTIONS = numeric_options()


def arguments(command: str, option: str, value: str) -> list[str]:
    """The usual arguments of a command with one option changed."""
    usual = list(USUAL[command])
    if option in usual:
        place = usual.index(option)
        del usual[place : place + 2]
    if option in ("--epochs", "--steps-per-epoch") and "--steps" in usual:
        del usual[usual.index("--steps") :][:2]
        usual = usual[: usual.index("--steps")] if "--steps" in usual else usual
    if option in ("--time-constant", "--batch-factor") and "--angle" in usual:
        usual = usual[: usual.index("--angle")]
    return [*usual, *BESIDE.get(option, ()), f"{option}={value}"]


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda value: value.strip("-"))
def test_bad_numbers_end_in_one_line(smd, tmp_path: Path, command: str, option: str) -> None:
    check(smd, tmp_path, command, option, ("nan", "-1", "x"))


@pytest.mark.slow
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda value: value.strip("-"))
def test_more_bad_numbers_end_in_one_line(smd, tmp_path: Path, command: str, option: str) -> None:
    check(smd, tmp_path, command, option, (*BAD, *TEXT))


def check(smd, tmp_path: Path, command: str, option: str, values: Sequence[str]) -> None:
    """Run a command with each value of an option."""
    if command == "compare":
        write_full_run(tmp_path / "run")
    text = [value for value in TEXT if not (value == "1,2" and option in NUMBERS_IN_TEXT)]
    for value in values:
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            code, _, err = smd(command, *arguments(command, option, value))
        assert time.process_time() - start < SECONDS, value
        assert code in (0, 1, 2), value
        if value in ("nan", "inf", "-inf", *text):
            assert code == 2, value
            assert err.strip(), value


def test_the_options_are_many() -> None:
    assert len(OPTIONS) > 50
    assert {command for command, _ in OPTIONS} == set(USUAL)


@pytest.mark.parametrize(
    "line",
    [
        ("forecast", *RATES, "--csv", "/dev/full"),
        ("forecast", *RATES, "--csv", "/dev/zero"),
        ("simulate", *RATES, "--csv", "/dev/full"),
        ("simulate", *RATES, "--steps", "99999999999"),
        ("simulate", *RATES, "--steps", "100", "--seed", "-1"),
        ("train", "digits", "--seed", "-1"),
        ("train", "digits", "--every", "0"),
    ],
    ids=lambda line: " ".join((line[0], *line[-2:])),
)
def test_what_ended_in_tracebacks(smd, line: tuple[str, ...]) -> None:
    code, _, err = smd(*line)
    assert code == 2
    assert err.strip()


def test_a_page_is_written_to_a_device_and_not_in_its_place(smd, tmp_path: Path) -> None:
    full = tmp_path / "full"
    try:
        os.mknod(full, 0o600 | stat.S_IFCHR, os.makedev(1, 7))  # as /dev/full
        full.open("rb").close()
    except OSError:
        pytest.skip("this user may not make devices")
    code, _, err = smd("simulate", *RATES, "--steps", "100", "--html", full)
    assert code == 2
    assert "No space left" in err
    assert full.is_char_device()


def test_a_page_is_written_through_a_link(smd, tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.touch()
    link.symlink_to(page)
    code, _, _ = smd("simulate", *RATES, "--steps", "100", "--html", link)
    assert code == 0
    assert link.is_symlink()
    assert page.stat().st_size > 0
