"""What a watched run records of the things around its steps."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from watched import batch, groups_of, loss_of, network, train

from spherical_motion.errors import InvalidArgument
from spherical_motion.monitor import Monitor, watch
from spherical_motion.records import read
from spherical_motion.vocabulary import HyperParameters, Schedule

HP = HyperParameters("sgd", lr=0.1)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def events(run: Path, kind: str) -> list[dict]:
    return [dict(e) for e in read(run).events if e["kind"] == kind]


def test_epsilon_of_a_watched_network_is_that_of_its_norm_layers(tmp_path: Path) -> None:
    model = network()
    model[1].eps = 0.5
    optimizer = sgd(model)
    with watch(model, optimizer, batch(0)[0], tmp_path / "run", quiet=True):
        model[4].eval()
        expected = []
        for step in range(3):
            optimizer.zero_grad()
            x = model[0](batch(step)[0]).detach()
            expected.append(float((0.5 / (x.var((0, 2, 3), correction=0) + 0.5)).mean()))
            loss_of(model, step).backward()
            optimizer.step()
    records = read(tmp_path / "run")
    place = records.info.parameters.index
    first, second = (records.audits.of(place(name)) for name in ("0.weight", "3.weight"))
    np.testing.assert_allclose(first.epsilon, expected, rtol=1e-5)
    assert first.eval_mode.tolist() == [0.0] * 3
    assert second.eval_mode.tolist() == [1.0] * 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_nothing_is_hooked_between_audits(tmp_path: Path) -> None:
    model = network()
    with watch(model, sgd(model), batch(0)[0], tmp_path / "run", quiet=True) as monitor:
        assert any(m._forward_hooks for m in model.modules())
        train(model, monitor.optimizers[0], 20)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with watch(
        model, sgd(model), batch(0)[0], tmp_path / "off", audit=False, quiet=True
    ) as monitor:
        assert not any(m._forward_hooks for m in model.modules())
        train(model, monitor.optimizers[0], 2)
    assert len(read(tmp_path / "off").audits) == len(read(tmp_path / "off").audit_steps) == 0


def test_without_inputs_epsilon_is_unknown_and_a_failed_probe_is_an_event(tmp_path: Path) -> None:
    model = network()
    with Monitor(model, sgd(model), groups_of(model), tmp_path / "run", quiet=True) as monitor:
        train(model, monitor.optimizers[0], 1)
    assert np.isnan(read(tmp_path / "run").audits.epsilon).all()
    assert events(tmp_path / "run", "norms_unknown") == []
    given = torch.ones(2, 3)  # these are no images
    groups = groups_of(model)
    watch(model, sgd(model), given, tmp_path / "failed", groups=groups, quiet=True).close()
    (event,) = events(tmp_path / "failed", "norms_unknown")
    assert "could not be probed" in event["why"]


def test_clipping_and_counts_are_recorded(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        for step in range(4):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
            if step == 2:
                for state in optimizer.state.values():
                    state["step"] += 5
            optimizer.step()
    steps = read(tmp_path / "run").audit_steps
    np.testing.assert_allclose(steps.grad_norm, 1e-2, rtol=1e-4)
    assert steps.taken.tolist() == [1, 2, 3, 4]
    assert steps.counter.tolist() == [1, 2, 8, 9]


def test_a_replaced_parameter_is_an_event_at_once(tmp_path: Path, caplog) -> None:
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 30)
        model[0].weight = nn.Parameter(model[0].weight.detach().clone())
        train(model, optimizer, 5)
    (event,) = events(tmp_path / "run", "not_stepped")
    assert (event["step"], event["parameters"]) == (30, ["0.weight"])
    (message,) = caplog.messages
    assert "0.weight is not stepped as watched" in message
    assert "resume=True" in message


def test_a_new_optimizer_is_an_event_and_a_notice(tmp_path: Path, caplog) -> None:
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True) as monitor:
        train(model, optimizer, 3)
        train(model, torch.optim.AdamW(model.parameters()), 5)
        monitor.log(loss=1.0)
    (event,) = events(tmp_path / "run", "not_stepped")
    assert event["step"] == 3
    assert event["parameters"] == ["0.weight", "3.weight"]
    assert "another optimizer (AdamW)" in event["why"]
    assert len(caplog.messages) == 1


def test_steps_by_hand_are_noticed_after_a_few_logs(tmp_path: Path, caplog) -> None:
    model = network()
    with Monitor(model, sgd(model), groups_of(model), tmp_path / "run", quiet=True) as monitor:
        for step in range(8):
            loss_of(model, step).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.01 * p.grad
            model.zero_grad()
            monitor.log(loss=0.1)
    assert len(events(tmp_path / "run", "not_stepped")) == len(caplog.messages) == 1


def test_a_second_optimizer_is_an_event(tmp_path: Path) -> None:
    model = network()
    first, second = sgd(model), sgd(model[3])
    with Monitor(model, first, groups_of(model), tmp_path / "run", quiet=True):
        for _ in range(3):
            train(model, first, 1)
            second.step()
    (event,) = events(tmp_path / "run", "second_optimizer")
    assert (event["parameters"], event["optimizer"]) == (["3.weight"], "SGD")
    assert events(tmp_path / "run", "not_stepped") == []
    assert not import_module("torch.optim.optimizer")._global_optimizer_post_hooks


def test_the_plan_is_kept_with_the_run(tmp_path: Path) -> None:
    model, plan = network(), Schedule.cosine(HP, 50)
    with watch(model, sgd(model), batch(0)[0], tmp_path / "run", plan=plan, quiet=True):
        pass
    kept = read(tmp_path / "run").info.planned
    assert kept is not None
    np.testing.assert_array_equal(kept.lr, plan.lr)
    assert json.loads((tmp_path / "run/run.json").read_text())["plan"]["hp"]["optimizer"] == "sgd"
    with pytest.raises(InvalidArgument, match="plan"):
        Monitor(model, sgd(model), groups_of(model), tmp_path / "no", plan=[0.1])


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_weights_are_bit_identical_with_all_of_it(kind: type, tmp_path: Path) -> None:
    plain = network()
    train(plain, kind(plain.parameters(), lr=1e-2), 25)
    model = network()
    optimizer = kind(model.parameters(), lr=1e-2)
    plan = Schedule.constant(HP, 25)
    with watch(model, optimizer, batch(0)[0], tmp_path / "run", plan=plan, quiet=True) as monitor:
        for step in range(25):
            train_one(model, optimizer, step)
            monitor.log(step=step)
    for a, b in zip(plain.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def train_one(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    loss_of(model, step).backward()
    optimizer.step()


def test_without_an_audit_no_hook_is_on_any_optimizer(tmp_path: Path) -> None:
    model = network()
    optimizer = sgd(model)
    before = dict(_global_optimizer_pre_hooks), dict(_global_optimizer_post_hooks)
    with watch(model, optimizer, batch(0)[0], tmp_path / "off", audit=False, quiet=True) as run:
        run.log(loss=1.0)
        assert (dict(_global_optimizer_pre_hooks), dict(_global_optimizer_post_hooks)) == before
    with watch(model, optimizer, batch(0)[0], tmp_path / "on", quiet=True):
        assert len(_global_optimizer_post_hooks) == len(before[1]) + 1
    assert dict(_global_optimizer_post_hooks) == before[1]
