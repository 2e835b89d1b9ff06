"""Going on after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from watched import OPTIMIZERS, batch, groups_of, loss_of, network, train

from spherical_motion.errors import NotARun
from spherical_motion.monitor import Monitor, watch
from spherical_motion.records import read


def test_resuming_appends_and_leaves_out_what_was_given_up(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    directory, groups = tmp_path / "run", groups_of(model)
    with Monitor(model, optimizer, groups, directory, quiet=True):
        train(model, optimizer, 5)
    first = read(directory).gram.to_array()
    with Monitor(model, optimizer, groups, directory, resume=True, quiet=True) as monitor:
        assert monitor.step == 5
        train(model, optimizer, 2)
    with Monitor(
        model, optimizer, groups, directory, resume=True, first_step=3, quiet=True
    ) as monitor:
        train(model, optimizer, 1)
    records = read(directory)
    assert records.steps.tolist() == list(range(4))
    assert read(directory, branch=1).steps.tolist() == list(range(7))
    np.testing.assert_array_equal(records.gram.to_array()[:3], first[:3])
    assert not np.array_equal(records.gram.to_array()[3], first[3])
    assert [e["step"] for e in records.events if e["kind"] == "resumed"] == [5, 3]


def test_a_resume_says_where_it_goes_on_and_what_it_gives_up(tmp_path: Path, capsys) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    directory, groups = tmp_path / "run", groups_of(model)
    lines = []
    for first in (None, None, 3, 9):
        go_on = {"resume": directory.exists(), "first_step": first}
        with Monitor(model, optimizer, groups, directory, **go_on):
            lines.append(capsys.readouterr().err)
            train(model, optimizer, 5)
    assert "goes on" not in lines[0]
    assert f"{directory} goes on at step 5; the last recorded step is 4\n" in lines[1]
    aside = "steps 3 to 9 are set aside, read(directory, branch=1) shows them"
    assert f"goes on at step 3; {aside}\n" in lines[2]
    assert read(directory, branch=1).steps[3:].tolist() == list(range(3, 10))
    assert "goes on at step 9; the last recorded step is 7\n" in lines[3]


def test_a_run_goes_on_with_the_groups_it_began_with(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with watch(model, optimizer, batch(0)[0], tmp_path / "run", quiet=True) as monitor:
        train(model, optimizer, 3)
        groups = monitor.groups
    with torch.no_grad():  # a channel dies: probing now would certify fewer rows
        model[1].weight[2], model[1].bias[2] = 0.0, -50.0
    with watch(model, optimizer, batch(0)[0], tmp_path / "run", resume=True, quiet=True) as monitor:
        assert monitor.groups == groups
        train(model, optimizer, 2)
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2, 3, 4]


def test_a_closed_run_goes_on_where_each_optimizer_was(tmp_path: Path) -> None:
    model = network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD([*model[3].parameters(), *model[8].parameters()], lr=0.1)
    directory, groups = tmp_path / "run", groups_of(model)

    def go(steps: int) -> None:
        for step in range(steps):
            model.zero_grad()
            loss_of(model, step).backward()
            first.step()
            if step % 3 == 0:
                second.step()
            monitor.log(loss=step)

    with Monitor(model, [first, second], groups, directory, every=10, quiet=True) as monitor:
        go(19)
    with Monitor(
        model, [first, second], groups, directory, every=10, resume=True, quiet=True
    ) as monitor:
        assert [station.step for station in monitor._stations] == [19, 7]
        go(1)
    assert read(directory).scalars["loss"].steps.tolist() == list(range(20))


def test_a_change_of_rate_that_was_gone_back_on_is_forgotten(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    directory, groups = tmp_path / "run", groups_of(model)
    with Monitor(model, optimizer, groups, directory, every=100, quiet=True):
        train(model, optimizer, 30)
        optimizer.param_groups[0]["lr"] = 1.0
        train(model, optimizer, 20)
    optimizer.param_groups[0]["lr"] = 0.1
    with Monitor(
        model, optimizer, groups, directory, every=100, resume=True, first_step=25, quiet=True
    ):
        train(model, optimizer, 80)
    assert read(directory).schedule("0").stages()[0].hp.lr == 0.1
    assert len(read(directory).schedule("0").stages()) == 1


def test_each_param_group_has_its_own_changes(tmp_path: Path) -> None:
    model = network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[3].parameters(), lr=0.2)
    with Monitor(model, [first, second], groups_of(model), tmp_path / "run", every=100, quiet=True):
        first.add_param_group({"params": list(model[8].parameters()), "lr": 0.5})
        for step in range(110):
            if step == 15:
                second.param_groups[0]["lr"] = 0.02
            first.param_groups[0]["lr"] = 0.1 + step * 1e-6
            if step == 50:
                first.param_groups[1]["lr"] = 7.0
            first.step()
            second.step()
    stages = read(tmp_path / "run").schedule("3").stages()
    assert [(s.stop, s.hp and s.hp.lr) for s in stages] == [(15, None), (102, 0.02)]


def test_a_setting_that_no_schedule_touches_is_an_event_when_it_changes(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    optimizer.param_groups[0]["dampening"] = 0
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 2)
        optimizer.param_groups[0]["nesterov"] = True
        train(model, optimizer, 2)
    events = [e for e in read(tmp_path / "run").events if e["kind"] == "settings_changed"]
    assert [(e["step"], e["changed"]) for e in events] == [(2, {"nesterov": True})]


def test_events_of_the_loop_may_use_any_names(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True) as monitor:
        monitor.event("mine", kind="odd", time=5)
    event = read(tmp_path / "run").events[0]
    assert (event["kind"], event["kind_"], event["time_"]) == ("mine", "odd", 5)


def test_resuming_records_the_settings_of_its_first_step(tmp_path: Path) -> None:
    model = network()
    directory, groups = tmp_path / "run", groups_of(model)

    def go(first: int | None, steps: int, rates: dict[int, float]) -> None:
        optimizer = OPTIMIZERS["momentum"](model)
        with Monitor(
            model,
            optimizer,
            groups,
            directory,
            every=4,
            resume=first is not None,
            first_step=first,
            quiet=True,
        ) as monitor:
            for _ in range(steps):
                optimizer.param_groups[0]["lr"] = rates.get(
                    monitor.step, optimizer.param_groups[0]["lr"]
                )
                train(model, optimizer, 1)

    go(None, 10, {0: 0.1, 6: 0.2, 9: 0.3})
    go(7, 6, {7: 0.1, 10: 0.4})  # step 9 is another one now
    records = read(directory)
    assert records.steps.tolist() == [0, 1, 4, 5, 8, 9, 12]
    assert records.schedule("0").lr.tolist() == [0.1] * 6 + [0.2] + [0.1] * 3 + [0.4] * 3
    assert records.lr[:, 0].tolist() == [0.1] * 6 + [0.4]


def test_two_optimizers_have_settings_of_their_own(tmp_path: Path) -> None:
    model = network()
    first = torch.optim.SGD([{"params": model[0].parameters()}, {"params": []}], lr=0.1)
    second = torch.optim.AdamW(
        [{"params": model[3].parameters()}, {"params": model[8].parameters(), "lr": 0.3}], lr=0.2
    )
    with Monitor(model, [first, second], groups_of(model), tmp_path / "run", quiet=True):
        for step in range(5):
            loss_of(model, step).backward()
            first.step()
            second.param_groups[1]["lr"] = 0.3 + step
            if step % 2:
                second.step()
    records = read(tmp_path / "run")
    columns = {name: records.lr[:, records.index(name)] for name in records.groups}
    assert columns["0"].tolist() == [0.1] * 5
    np.testing.assert_array_equal(columns["3"], [0.2] * 2 + [np.nan] * 3)
    np.testing.assert_array_equal(records.beta2[:2, records.index("3")], [0.999] * 2)
    assert records.changes is not None
    by_group = {i: records.changes["lr"][records.changes["param_group"] == i] for i in range(4)}
    assert [len(rates) for rates in by_group.values()] == [1, 1, 1, 2]
    assert by_group[3].tolist() == [1.3, 3.3]


def test_a_killed_run_goes_on_after_the_last_step_that_any_optimizer_told_of(
    tmp_path: Path,
) -> None:
    """Between samples nothing but scalars and settings tell how far it had come."""
    model = network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[3].parameters(), lr=0.2)
    directory, groups = tmp_path / "run", groups_of(model)[:2]

    def go(monitor: Monitor, steps: range) -> None:
        for step in steps:
            if step == 30:
                first.param_groups[0]["lr"] = 0.01
            model.zero_grad()
            loss_of(model, step).backward()
            first.step()
            if step % 2 == 0:
                second.step()
            monitor.log(loss=step)

    with Monitor(model, [first, second], groups, directory, every=100, quiet=True) as monitor:
        go(monitor, range(40))
    path = directory / "events.jsonl"
    told = [line for line in path.read_text().splitlines(keepends=True) if '"closed"' not in line]
    path.write_text("".join(told))
    with Monitor(
        model, [first, second], groups, directory, every=100, resume=True, quiet=True
    ) as monitor:
        assert [station.step for station in monitor._stations] == [40, 40]
        go(monitor, range(40, 50))
    records = read(directory, strict=True)
    assert records.scalars["loss"].steps.tolist() == list(range(50))
    assert [e["step"] for e in records.events if e["kind"] == "rate_changed"] == [30]
    assert 30 in records.changes["step"].tolist()
    assert records.branches[0].abandoned_rows == 0


def test_words_of_the_library_that_a_loop_uses_do_not_move_where_a_run_goes_on(
    tmp_path: Path,
) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    directory, groups = tmp_path / "run", groups_of(model)
    with Monitor(model, optimizer, groups, directory, quiet=True) as monitor:
        for step in range(6):
            train(model, optimizer, 1)
            monitor.event("resumed", step=2, segments={"records": 1})
            monitor.event("closed", steps=[1000])
            monitor.event("stopped")
            monitor.event("rescaled", factor=0.5)
            assert monitor.step == step + 1
    with Monitor(model, optimizer, groups, directory, resume=True, quiet=True) as monitor:
        assert monitor.step == 6
    records = read(directory, strict=True)
    assert records.steps.tolist() == list(range(6))
    kinds = [event["kind"] for event in records.events]
    for kind in ("resumed_", "closed_", "stopped_", "rescaled"):
        assert kinds.count(kind) == 6
    assert (kinds.count("closed"), kinds.count("resumed")) == (2, 1)


def test_a_first_start_with_resume_says_what_to_leave_out(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with pytest.raises(NotARun, match="Leave out resume=True to begin one"):
        watch(model, optimizer, batch(0)[0], tmp_path / "new", resume=True, quiet=True)
    with pytest.raises(NotARun, match="Leave out resume=True to begin one"):
        Monitor(model, optimizer, groups_of(model), tmp_path / "new", resume=True, quiet=True)
    assert not (tmp_path / "new").exists()
