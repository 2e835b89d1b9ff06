"""Bad input names the remedy and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from watched import OPTIMIZERS, batch, groups_of, network, train

from spherical_motion.errors import (
    AlreadyAttached,
    InvalidArgument,
    RunDirectoryError,
    RunExists,
)
from spherical_motion.monitor import Monitor, watch
from spherical_motion.records import read
from spherical_motion.vocabulary import InvariantGroup, Slice


def test_bad_arguments_name_the_remedy_and_leave_nothing_behind(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    groups, where = groups_of(model), tmp_path / "run"
    other = OPTIMIZERS["momentum"](network())
    bad: list[tuple[dict, str]] = [
        ({"every": 0}, r"every=\.\.\.\) must be an int >= 1, got 0. Use every=1"),
        ({"every": 2.5}, "got 2.5"),
        ({"every": 2, "burst": 3}, "at most every=2, got 3"),
        ({"cells_every": -1}, "cells_every"),
        ({"steps": 0}, "steps"),
        ({"first_step": -3}, "first_step"),
        ({"first_step": "3"}, "got '3'"),
        ({"directory": "s3://bucket/run"}, "local directory, got 's3://bucket/run'. Record to"),
        ({"groups": []}, "find_groups"),
        ({"optimizers": []}, "expects a torch.optim.Optimizer or several, got none"),
        ({"optimizers": "sgd"}, "expects a torch.optim.Optimizer"),
        ({"optimizers": other}, "stepped by none of the optimizers"),
        ({"optimizers": [optimizer, optimizer]}, "2 param groups"),
        ({"model": nn.Linear(2, 2)}, "'0.weight', which this model does not have"),
        (
            {"groups": [InvariantGroup("0", "scale", (Slice("0.weight", 0, 0, 9),), (), 9)]},
            "does not fit a parameter of shape",
        ),
        (
            {"groups": [InvariantGroup("0", "scale", (Slice("0.weigth", 0, 0, 6),), (), 9)]},
            "Closest: 0.weight",
        ),
    ]
    for change, message in bad:
        arguments = {"model": model, "optimizers": optimizer, "groups": groups}
        arguments |= {"directory": where, **change}
        with pytest.raises(InvalidArgument, match=message):
            Monitor(quiet=True, **arguments)
        assert not where.exists()
        assert not optimizer._optimizer_step_pre_hooks


def test_weights_of_8_bits_are_refused_at_attach(tmp_path: Path) -> None:
    model = network().to(torch.float8_e4m3fn)
    optimizer = OPTIMIZERS["sgd"](model)
    with pytest.raises(InvalidArgument, match="float8"):
        Monitor(model, optimizer, groups_of(model), tmp_path / "run")


def test_attaching_twice_names_the_first(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    first = Monitor(model, optimizer, groups_of(model), tmp_path / "first", quiet=True)
    with pytest.raises(AlreadyAttached, match="first"):
        Monitor(model, optimizer, groups_of(model), tmp_path / "second")
    assert not (tmp_path / "second").exists()
    first.close()
    Monitor(model, optimizer, groups_of(model), tmp_path / "second", quiet=True).close()


def test_an_existing_run_is_refused_and_not_touched(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 2)
    with pytest.raises(RunExists, match="resume"):
        Monitor(model, optimizer, groups_of(model), tmp_path / "run")
    assert not optimizer._optimizer_step_pre_hooks
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError):
        Monitor(model, optimizer, groups_of(model), tmp_path / "full")
    assert len(read(tmp_path / "run").steps) == 2


def test_attaching_says_what_it_will_cost(tmp_path: Path, capsys) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    Monitor(model, optimizer, groups_of(model), tmp_path / "run", every=10, steps=450_000).close()
    line = capsys.readouterr().err
    assert "2 groups" in line
    assert "2 of every 10 steps" in line
    assert "7.56 MB for 450,000 steps" in line


def test_groups_that_are_not_stepped_are_left_out_with_a_notice(tmp_path: Path, caplog) -> None:
    model = network()
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.1)
    with watch(model, optimizer, batch(0)[0], tmp_path / "run", steps=10) as monitor:
        assert {name for group in monitor.groups for name in group.parameters} == {"3.weight"}
    assert "2 of 3 groups are not stepped by the optimizer and left out: 0 and 1" in caplog.text


def test_quiet_is_quiet_also_about_what_was_left_out(tmp_path: Path, caplog, capfd) -> None:
    model = network()
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.1)
    watch(model, optimizer, batch(0)[0], tmp_path / "run", quiet=True).close()
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []


def test_a_directory_is_made_up_if_none_is_given(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), quiet=True) as monitor:
        train(model, optimizer, 1)
    assert monitor.directory.parent == Path("runs")
    assert len(read(monitor.directory).steps) == 1
