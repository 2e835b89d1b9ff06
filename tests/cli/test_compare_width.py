"""How `smd compare` looks in narrow and wide terminals."""

from __future__ import annotations

import pytest
from pulled import pulled_sgd
from rich.console import Console
from simulated import constant

from spherical_motion.cli import printing
from spherical_motion.comparison import compare


@pytest.mark.parametrize("width", [100, 120, 160])
def test_no_line_is_wider_than_the_terminal_and_every_reason_is_read(
    write_run, monkeypatch, capsys, width
) -> None:
    settings = constant(0.1, 0.02, 0.9, 300)
    products = {"blocks.0.mlp.fc": pulled_sgd(settings, -0.01), "head": pulled_sgd(settings, 0.01)}
    comparison = compare(write_run(products, settings, kind="plain"))
    monkeypatch.setattr(printing, "stdout", lambda: Console(width=width, highlight=False))
    printing.print_comparison(comparison)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= width
    heading = next(line for line in lines if line.startswith("group"))
    for name in ("balance", "pull", "decay share", "growth"):
        assert name in heading
    assert "of equil." not in heading  # no row has one
    words = " ".join(printed.split())
    assert "50% of your decay is cancelled" in words or width == 160
    assert ("blocks.0.mlp.fc: turns at" in words) == (width < 140)
