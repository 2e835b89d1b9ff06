"""What `watch` watches: certified groups, all matrices, plain ones, or a list."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from watchable import CASES, Case, HalfNormed, TiedGPT, Unrunnable, mlp, partly_certified

import spherical_motion as smd
from spherical_motion.errors import InvalidArgument, ModelError, RunDirectoryError
from spherical_motion.measure.reference import gram
from spherical_motion.records import read_info


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, inputs, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_all_are_watched_recorded_and_read_back(case: Case, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = case.make(), case.inputs()
    optimizer = case.optimizer(model.parameters(), lr=1e-2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    expected = smd.all_groups(model, optimizer, inputs)
    with smd.watch(model, optimizer, inputs, tmp_path / "run", groups="all", quiet=True) as monitor:
        watched = monitor.groups
        steps(model, optimizer, inputs, 1)
    assert watched == expected
    records = smd.read(tmp_path / "run")
    assert records.info.groups == read_info(tmp_path / "run").groups == watched
    for number, group in enumerate(watched):
        rows = []
        for s in group.slices:
            w, p = before[s.parameter], model.get_parameter(s.parameter)
            grad = p.grad.to_dense()
            parts = (t.narrow(s.axis, s.start, s.length) for t in (w, p.detach(), grad))
            rows.append(gram(*(part.reshape(1, -1) for part in parts)).to_array()[0, :6])
        found = records.gram[0, number].to_array()[..., :6]
        np.testing.assert_allclose(found, np.sum(rows, axis=0), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("groups", ["plain", "all", "certified"])
def test_weights_are_bit_identical_with_and_without_a_monitor(groups: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, inputs = partly_certified(), torch.randn(8, 1, 6, 6)
    second = copy.deepcopy(first)
    steps(first, sgd(first), inputs, 5)
    optimizer = sgd(second)
    with smd.watch(
        second, optimizer, inputs, tmp_path / "run", groups=groups, vectors=True, quiet=True
    ):
        steps(second, optimizer, inputs, 5)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_plain_starts_on_a_model_that_runs_on_no_input(tmp_path: Path) -> None:
    model = Unrunnable()
    optimizer = sgd(model)
    with smd.watch(
        model, optimizer, directory=tmp_path / "run", groups="plain", vectors=True, quiet=True
    ):
        (model.fc.weight.sum() * model.temperature).backward()
        optimizer.step()
    records = smd.read(tmp_path / "run")
    assert [g.name for g in records.info.groups] == ["temperature", "fc", "fc.bias"]
    assert records.gram.ww[0, 0] == 4.0  # a parameter without an axis
    assert np.isnan(records.gram.wg[0, 2])  # it had no gradient


def test_plain_starts_at_once_on_large_weights(tmp_path: Path) -> None:
    model = nn.Embedding(40_000, 400)
    optimizer = sgd(model)
    start = time.perf_counter()
    with smd.watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        elapsed = time.perf_counter() - start
    assert elapsed < 5.0


@pytest.mark.parametrize(
    ("make", "inputs", "expected"),
    [
        (mlp, torch.randn(16, 6), ["no normalization layer is fed", "straight after a matrix"]),
        (
            TiedGPT,
            torch.randint(12, (8, 6)),
            ["norm layers run, but no weights", "closest is", "only in a sum with another branch"],
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)).eval(),
            torch.randn(8, 1, 6, 6),
            ["in eval mode", "closest is 0.weight (the next norm", "Call model.train() first"],
        ),
    ],
)
def test_where_nothing_is_certified_watch_goes_on_and_says_what_would_change_it(
    make, inputs, expected: list[str], tmp_path: Path, caplog
) -> None:
    model = make()
    optimizer = sgd(model)
    with smd.watch(model, optimizer, inputs, tmp_path / "run") as monitor:
        assert monitor.groups == smd.all_groups(model, optimizer)
    (line,) = caplog.messages
    assert "is scale-invariant, so its stepped matrices are watched as plain groups" in line
    assert len(line) < 500
    for part in expected:
        assert part in line


def test_quiet_says_nothing_where_nothing_is_certified(tmp_path: Path, caplog, capfd) -> None:
    model = mlp()
    smd.watch(model, sgd(model), torch.randn(16, 6), tmp_path / "run", quiet=True).close()
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []


@pytest.mark.parametrize("groups", ["certified", "all"])
def test_a_probe_needs_inputs_and_a_model_that_runs(groups: str, tmp_path: Path) -> None:
    model = Unrunnable()
    optimizer = sgd(model)
    with pytest.raises(InvalidArgument, match=rf"groups='{groups}'.*needs example_inputs.*'plain'"):
        smd.watch(model, optimizer, directory=tmp_path / "run", groups=groups)
    with pytest.raises(ModelError, match=r"runs in its trainer only.*groups='plain'"):
        smd.watch(model, optimizer, torch.ones(1), tmp_path / "run", groups=groups)
    assert not (tmp_path / "run").exists()
    assert not optimizer._optimizer_step_pre_hooks


def test_a_path_in_the_place_of_inputs_is_refused() -> None:
    model = mlp()
    for path in ("runs/mine", Path("runs/mine")):
        with pytest.raises(InvalidArgument, match=r"got the path 'runs/mine'.*directory="):
            smd.watch(model, sgd(model), path, groups="plain")


def test_an_unknown_choice_names_the_known_ones() -> None:
    model = mlp()
    with pytest.raises(InvalidArgument, match=r"'plain' or a list.*Did you mean 'plain'"):
        smd.watch(model, sgd(model), groups="plian")
    with pytest.raises(InvalidArgument, match=r"watch\(groups=...\) expects at least one group"):
        smd.watch(model, sgd(model), groups=[])


def test_a_list_is_taken_as_it_is(tmp_path: Path) -> None:
    model = mlp()
    optimizer = sgd(model)
    given = smd.all_groups(model, optimizer)[1:]
    with smd.watch(model, optimizer, directory=tmp_path / "a", groups=given, quiet=True) as monitor:
        assert monitor.groups == given
    short = mlp().to(torch.float8_e4m3fn)
    with pytest.raises(InvalidArgument, match="float8"):
        smd.watch(short, sgd(short), directory=tmp_path / "b", groups=given)


def test_nothing_stepped_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    model, other = mlp(), mlp()
    for groups in ("certified", "all", "plain"):
        with pytest.raises(InvalidArgument, match="watch: expected an optimizer that steps a matr"):
            smd.watch(model, sgd(other), torch.randn(16, 6), tmp_path / "run", groups=groups)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_plain_groups(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = HalfNormed(), torch.randn(16, 5)
    optimizer = sgd(model)
    with smd.watch(
        model, optimizer, inputs, tmp_path / "run", groups="all", vectors=True, quiet=True
    ) as monitor:
        steps(model, optimizer, inputs, 3)
        began = monitor.groups
    with smd.watch(
        model, optimizer, directory=tmp_path / "run", resume=True, quiet=True
    ) as monitor:
        assert monitor.groups == began
        steps(model, optimizer, inputs, 2)
    # A list is not replaced by the run's groups silently.
    with pytest.raises(RunDirectoryError, match="recorded group 'fc'"):
        smd.watch(model, optimizer, directory=tmp_path / "run", resume=True, groups=began[1:])
    records = smd.read(tmp_path / "run")
    assert list(records.steps) == [0, 1, 2, 3, 4]
    assert {group.kind for group in records.info.groups} == {"scale", "plain"}


@pytest.mark.parametrize(
    ("make", "inputs", "vectors", "expected"),
    [
        (lambda: nn.Linear(4, 2), None, False, "watching 1 plain group (80% of all parameters)"),
        (mlp, None, False, "watching 2 plain groups (87% of"),
        (partly_certified, torch.randn(8, 1, 6, 6), False, "watching 3 groups, 2 of them plain"),
        # 40 weights and 6 of 8 biases of the first layer, 24 weights of the head, of 87.
        (HalfNormed, torch.randn(16, 5), False, "watching 3 groups, 2 of them plain (80% of"),
        (HalfNormed, torch.randn(16, 5), True, "watching 7 groups, 6 of them plain (100% of"),
    ],
)
def test_the_announcement_counts_groups_by_kind(
    make, inputs, vectors: bool, expected: str, tmp_path: Path, capsys
) -> None:
    model = make()
    groups = "plain" if inputs is None else "all"
    run = tmp_path / "run"
    smd.watch(model, sgd(model), inputs, run, groups=groups, vectors=vectors).close()
    assert expected in capsys.readouterr().err


def test_a_run_of_all_kinds_is_compared_and_drawn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = partly_certified(), torch.randn(8, 1, 6, 6)
    optimizer = sgd(model)
    run = tmp_path / "run"
    with smd.watch(
        model, optimizer, inputs, run, groups="all", vectors=True, cells_every=10, quiet=True
    ):
        steps(model, optimizer, inputs, 40)
    comparison = smd.compare(run)
    assert comparison.groups == ("0", "1.weight", "1.bias", "3", "3.bias", "6", "6.bias")
    assert "3.bias" in str(comparison)
    assert smd.report(run, tmp_path / "report.html").stat().st_size > 100_000
    records = smd.read(run)
    assert records.cells("0").gram.ww.shape == (4, 2)
    assert records.cells("3").gram.ww.size == 0
