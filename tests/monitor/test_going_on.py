"""What `watch` says of arguments that a run which goes on, or plain groups, do not take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from watchable import mlp, partly_certified

import spherical_motion as smd
from spherical_motion.errors import InvalidArgument


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def begin(model: nn.Module, optimizer: torch.optim.Optimizer, run: Path, **how: object) -> None:
    inputs = torch.randn(8, 1, 6, 6)
    smd.watch(model, optimizer, inputs, run, quiet=True, **how).close()


@pytest.mark.parametrize(
    ("first", "again", "parts"),
    [
        ("all", {"groups": "plain"}, ["groups='plain'", "of which 0 is certified"]),
        ("all", {"groups": "certified"}, ["groups='certified'", "with 3 and 6"]),
        ("certified", {"groups": "all"}, ["groups='all'", "without 3 and 6"]),
        (
            "all",
            {"groups": "all", "vectors": True},
            ["groups='all', vectors=True", "without 1.weight, 1.bias, 3.bias and 1 more"],
        ),
        ("all", {"groups": "all", "granularity": "filter"}, ["granularity='filter'"]),
    ],
)
def test_a_run_that_goes_on_says_what_it_does_not_apply(
    first: str, again: dict, parts: list[str], tmp_path: Path, caplog
) -> None:
    model = partly_certified()
    optimizer = sgd(model)
    begin(model, optimizer, tmp_path / "run", groups=first)
    with smd.watch(model, optimizer, directory=tmp_path / "run", resume=True, **again) as monitor:
        assert monitor.groups == smd.read(tmp_path / "run").info.groups
    (line,) = caplog.messages
    for part in (*parts, "goes on with the groups it began with"):
        assert part in line


@pytest.mark.parametrize("groups", ["all", "certified", "plain"])
def test_it_is_silent_if_the_same_is_asked_again(groups: str, tmp_path: Path, caplog) -> None:
    model = partly_certified()
    optimizer = sgd(model)
    begin(model, optimizer, tmp_path / "run", groups=groups, vectors=groups != "certified")
    with smd.watch(
        model,
        optimizer,
        directory=tmp_path / "run",
        resume=True,
        groups=groups,
        vectors=groups != "certified",
    ):
        assert caplog.messages == []


def test_a_wrong_word_is_an_error_also_when_the_run_goes_on(tmp_path: Path) -> None:
    model = mlp()
    optimizer = sgd(model)
    begin(model, optimizer, tmp_path / "run", groups="plain")
    with pytest.raises(InvalidArgument, match="Did you mean 'plain'"):
        smd.watch(model, optimizer, directory=tmp_path / "run", resume=True, groups="plian")


@pytest.mark.parametrize(("before", "now", "lost"), [(8, 7, "ws"), (8, 6, "wp and ws"), (7, 8, "")])
def test_products_that_are_recorded_no_more_are_named(
    before: int, now: int, lost: str, tmp_path: Path, caplog
) -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    begin(model, optimizer, tmp_path / "run", groups="plain", products=before)
    run = tmp_path / "run"
    smd.watch(model, optimizer, directory=run, groups="plain", products=now, resume=True).close()
    said = [
        f"products={now}: from here on the run is without {lost}, which" in m
        for m in caplog.messages
    ]
    assert said == ([True] if lost else [])


def test_what_needs_certified_groups_says_so_without_them(tmp_path: Path, caplog) -> None:
    model = mlp()
    smd.watch(
        model,
        sgd(model),
        directory=tmp_path / "run",
        groups="plain",
        granularity="filter",
        cells_every=5,
    ).close()
    assert [m.partition(": ")[2].partition(" ")[0] for m in caplog.messages] == [
        "granularity='filter'",
        "cells_every=5",
    ]
