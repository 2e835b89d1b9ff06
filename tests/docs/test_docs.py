"""Pages that say what the code does are held against the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from simulated import constant, simulate_sgd
from watchable import TiedGPT

import spherical_motion as smd

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_blocks_run_in_order(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    printed = capsys.readouterr().out
    assert any(kind.value in printed for kind in smd.VerdictKind)
    assert (tmp_path / "report.html").stat().st_size > 100_000


def test_figures_in_the_readme_are_what_the_functions_say() -> None:
    hp = smd.HyperParameters("sgd", lr=1e-3, weight_decay=1e-4, momentum=0.9)
    assert f"{smd.theory.equilibrium_angle(hp):.2e}".replace("e-0", "e-") in README
    assert f"{smd.theory.steps_to_equilibrium(hp, lr_drop=10, within=0.05):,}" in README


def test_files_the_pages_link_to_exist() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_verdict_is_explained_in_the_readme() -> None:
    for kind in smd.VerdictKind:
        assert kind.value.removesuffix(" for this optimizer") in README, kind


def test_the_notice_of_plain_groups_is_what_watch_says(tmp_path, caplog) -> None:
    torch.manual_seed(0)
    model, tokens = TiedGPT(), torch.randint(12, (8, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    smd.watch(model, optimizer, tokens, tmp_path / "run").close()
    page = " ".join((ROOT / "docs/invariance.md").read_text(encoding="utf-8").split())
    (line,) = caplog.messages
    start, end = re.split(r"= 0\.\d+", line.removeprefix("spherical-motion: "))
    assert start in page
    assert end in page


def test_command_line_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_cli_docs", ROOT / "tools/make_cli_docs.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    found = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert found == tool.page(), "run `make docs`"


@pytest.mark.parametrize("name", [n for n in smd.__all__ if not n.startswith("__")])
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert (getattr(smd, name).__doc__ or "").strip()


def test_the_example_of_a_rule_runs_as_printed(tmp_path, monkeypatch, write_run, capsys) -> None:
    settings = constant(0.1, 0.0, 0.9, 300)
    run = write_run({"conv": simulate_sgd(settings)}, settings)
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page.partition("## Add a verdict")[2], re.S)
    exec(compile(block, "extending.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("conv off: the norm grew to ")
    assert "MOVING_NORM" in printed
    assert smd.compare("runs/mine").alarms == ()  # without weight decay, by the library's rules
