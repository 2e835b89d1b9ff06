"""A run directory may be read by anyone: it holds the command, and no secret of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from watched import groups_of, network

from spherical_motion.monitor import Monitor, provenance
from spherical_motion.monitor.run.command import shown_command

SECRETS = [
    ["--api-key", "s3cr3t"],
    ["--api-key=s3cr3t"],
    ["--wandb_token", "s3cr3t"],
    ["--WANDB-TOKEN=s3cr3t=s3cr3t&more"],
    ["-token", "s3cr3t"],
    ["--client.secret", "-s3cr3t"],
    ["--db-password=two words s3cr3t"],
    ["HF_TOKEN=s3cr3t"],
    ["+wandb.api_key=s3cr3t"],
    ["--url", "https://host/data?token=s3cr3t&part=2"],
    ["--url=https://me:s3cr3t@host/data"],
    ["--env", "A=1,X_SECRET=s3cr3t,B=2"],
    ['--config={"api_key":"s3cr3t"}'],
    ['{"depth": 3, "token": "two words \\"s3cr3t\\" s3cr3t", "lr": 1}'],
    ['{\\"token\\": \\"s3cr3t\\"}'],
    ["{'password': 's3cr3t'}"],
    ["{token: s3cr3t, lr: 1}"],
    ['{"keys": ["s3cr3t", "s3cr3t"]}'],
    ['{"credentials": {"user": "me", "pin": "s3cr3t"}}'],
    ["--header", "Authorization: Bearer s3cr3t"],
    ["--header=Authorization: Bearer s3cr3t"],
    ["--header", "X-Given: basic s3cr3t"],
    ["-H", "X-Api-Key: s3cr3t"],
    ["--auth", "me:s3cr3t"],
    ["--password", "--s3cr3t"],
    ["db.password:s3cr3t"],
    ["https://s3cr3t@host/x.git"],
]


@pytest.mark.parametrize("given", SECRETS, ids=" ".join)
def test_values_of_secrets_are_masked(given: list[str]) -> None:
    shown = shown_command(["train.py", *given, "--lr", "0.1"])
    assert "s3cr3t" not in shown
    assert "***" in shown
    assert shown.startswith("train.py ")
    assert shown.endswith(" --lr 0.1")


def test_all_else_is_as_it_was_typed() -> None:
    given = [
        "train.py",
        "--lr=0.1",
        "--name",
        "a b",
        "x=y",
        "https://host/a?b=c",
        "--no-key",
        "--t",
        "--author",
        "me",
        "--token-dropout",
        "--model={'depth': 3}",
    ]
    assert shown_command(given) == (
        "train.py --lr=0.1 --name 'a b' x=y 'https://host/a?b=c' --no-key --t "
        """--author me --token-dropout '--model={'"'"'depth'"'"': 3}'"""
    )


def test_neither_the_facts_of_a_run_nor_its_events_hold_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An argument that is no UTF-8, as a file name may be, must not stop a run from beginning.
    given = ["train.py", "--token", "s3cr3t", "A_KEY=s3cr3t", "data-\udcff.txt"]
    monkeypatch.setattr(sys, "argv", given)
    model = network()
    for resume in (False, True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        groups = groups_of(model)
        Monitor(model, optimizer, groups, tmp_path / "run", resume=resume, quiet=True).close()
    for file in ("run.json", "events.jsonl"):
        text = (tmp_path / "run" / file).read_text()
        assert "s3cr3t" not in text
        assert "--token" in text
    command = json.loads((tmp_path / "run" / "run.json").read_text())["command"]
    assert command == r"train.py --token '***' 'A_KEY=***' 'data-\udcff.txt'"


def test_git_is_read_and_never_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], **_: object) -> str:
        asked.append(command)
        return ""

    monkeypatch.setattr(subprocess, "check_output", answer)
    provenance._commit()
    assert len(asked) == 2
    assert all(command[:2] == ["git", "--no-optional-locks"] for command in asked)
