"""Running `smd` as a person would."""

from __future__ import annotations

import sys

import pytest

from spherical_motion import cli


@pytest.fixture
def smd(monkeypatch, capsys, tmp_path):
    """Run `smd` in an empty directory; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["smd", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(exit.value.code or 0), captured.out, captured.err

    return run
