"""Audits of watched runs: which steps, what is skipped and why, and what never happens."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from watched import OPTIMIZERS, batch, groups_of, loss_of, network, train

from spherical_motion.monitor import Monitor, watch
from spherical_motion.monitor.audit import AuditTimes, StepObserver, observers
from spherical_motion.monitor.audit.replay import Replay
from spherical_motion.records import Records, read


def audited(path: Path, optimizer, model, steps: int, **options: object) -> Records:
    """A run of so many steps, read back."""
    with watch(model, optimizer, directory=path, groups="plain", quiet=True, **options):  # type: ignore[arg-type]
        train(model, optimizer, steps)
    return read(path)


def assert_kept(records: Records) -> None:
    """All that was replayed is the rule's step."""
    assert len(records.audits) > 0
    assert (records.audits.miss_sq <= records.audits.allowed_sq).all()
    assert not any(records.audit_steps.skipped)


# Which steps.


def audited_steps(settings, steps: int, start: int = 0) -> list[int]:
    times = AuditTimes(start)
    return [step for step in range(start, steps) if times.takes(step, settings(step))]


PAIRS = [50, 51, 100, 101, 200, 201, 500, 501]


def test_the_first_steps_and_pairs_ever_more_rarely_are_audited() -> None:
    found = audited_steps(lambda step: 0.1, 2500)
    assert found == [*range(20), *PAIRS, 1000, 1001, 2000, 2001]


def test_a_change_after_a_steady_stretch_adds_three() -> None:
    found = audited_steps(lambda step: 0.1 if step < 120 else 0.01, 300)
    assert found == [*range(20), *PAIRS[:4], 120, 121, 122, *PAIRS[4:6]]


def test_a_varying_stage_adds_none_but_at_its_ends() -> None:
    """A cosine from 200 to 400 between two constant stretches, then a drop."""

    def settings(step: int) -> float:
        return step if 200 <= step < 400 else 200 if step < 200 else 400 if step < 500 else 1

    found = audited_steps(settings, 600)
    assert found == [*range(20), *PAIRS[:6], 202, 203, 500, 501, 502]


def test_warming_up_from_the_first_step_adds_none() -> None:
    found = audited_steps(lambda step: min(step, 150), 200)
    assert found == [*range(20), *PAIRS[:4]]


def test_a_resumed_run_begins_with_an_audit() -> None:
    assert audited_steps(lambda step: 0.1, 5100, start=5050) == [5050, 5051, 5052]


def test_the_steps_of_a_run_are_recorded_whatever_is_sampled(tmp_path: Path) -> None:
    model = network()
    records = audited(tmp_path / "run", OPTIMIZERS["adamw"](model), model, 30, every=7)
    assert records.audits.of(1).step.tolist() == [*range(20)]
    assert records.audit_steps.of(0).step.tolist() == [*range(20)]
    sampled = np.isin(records.steps, range(20))
    np.testing.assert_allclose(
        records.slice_gram.dd[sampled, 1],
        records.audits.of(1).dd[records.steps[sampled]],
        rtol=1e-12,
    )
    assert_kept(records)


# Nothing of it reaches training.


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_random_numbers_are_the_same_without_an_audit(name: str, tmp_path) -> None:
    found = []
    for audit in (True, False):
        model = network()  # it has dropout, and seeds the generator
        optimizer = OPTIMIZERS[name](model)
        records = audited(tmp_path / str(audit), optimizer, model, 25, audit=audit)
        assert bool(len(records.audits)) == audit == (tmp_path / f"{audit}/audit").exists()
        found.append((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    (weights, state, random), (weights2, state2, random2) = found
    assert all(torch.equal(weights[key], weights2[key]) for key in weights)
    assert str(state) == str(state2)
    assert torch.equal(random, random2)


def test_a_failing_audit_ends_alone(tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room for the expected step")

    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monkeypatch.setattr(Replay, "after", fail)
    records = audited(tmp_path / "run", optimizer, model, 5)
    assert records.steps.tolist() == [*range(5)]
    (event,) = (e for e in records.events if e["kind"] == "audit_ended")
    assert (event["step"], event["why"]) == (0, "MemoryError: no room for the expected step")
    assert len(records.audits) == 0


def failing(where: str) -> StepObserver:
    """An observer that fails in one method, and in closing."""

    def fail(*_: object) -> None:
        raise ValueError(where)

    return type("Fails", (StepObserver,), {where: fail, "close": fail})()


@pytest.mark.parametrize("where", ["prepare", "before", "columns", "facts", "stepped"])
def test_a_failing_observer_ends_the_audit_alone(where: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(observers, "OBSERVERS", [lambda context: failing(where)])
    model = network()
    records = audited(tmp_path / "run", OPTIMIZERS["momentum"](model), model, 5)
    assert records.steps.tolist() == [*range(5)]
    assert [e["why"] for e in records.events if e["kind"] == "audit_ended"] == [
        f"ValueError: {where}"
    ]


class Counts(StepObserver):
    """Writes down how it is called."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def prepare(self, step: int) -> None:
        self.calls.append(f"prepare {step}")

    def before(self, step: int) -> None:
        self.calls.append(f"before {step}")

    def columns(self, step: int) -> dict[str, np.ndarray]:
        self.calls.append(f"columns {step}")
        return {"epsilon": np.array([0.5, 0.25, step])}

    def facts(self, step: int) -> dict[str, float]:
        return {"counter": step + 1.0, "taken": 2.0}

    def stepped(self) -> None:
        self.calls.append("stepped")

    def close(self) -> None:
        self.calls.append("close")


def test_observers_are_called_in_order_and_fill_their_columns(tmp_path, monkeypatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(observers, "OBSERVERS", [lambda context: Counts(calls)])
    model = network()
    records = audited(tmp_path / "run", OPTIMIZERS["momentum"](model), model, 21)
    assert calls[:5] == ["prepare 0", "before 0", "columns 0", "stepped", "prepare 1"]
    assert calls[-3:] == ["columns 19", "stepped", "stepped"] or calls[-3:-1] == ["stepped"] * 2
    assert "prepare 20" not in calls
    assert calls[-1] == "close"
    assert records.audits.of(0).epsilon.tolist() == [0.5] * 20
    assert records.audits.of(2).epsilon.tolist() == [*range(20)]
    assert records.audit_steps.counter.tolist() == [*range(1, 21)]
    assert np.isnan(records.audit_steps.grad_norm).all()


# What is skipped, and said.


def test_a_closure_is_skipped_and_said(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        for step in range(4):

            def closure(step: int = step) -> torch.Tensor:
                optimizer.zero_grad()
                loss = loss_of(model, step)
                loss.backward()
                return loss

            if step % 2:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
    records = read(tmp_path / "run")
    assert records.audit_steps.skipped.tolist() == ["", "closure", "", "closure"]
    own = records.audits.of(1)
    assert np.isnan(own.miss_sq).tolist() == [False, True] * 2
    assert np.isfinite(own.dd).all()
    assert np.isnan(own.rewritten).tolist() == [False, True] * 2
    assert (own.miss_sq[::2] <= own.allowed_sq[::2]).all()


@pytest.mark.parametrize("fused", [False, True])
def test_unscaling_in_a_fused_step_is_skipped_and_said(fused: bool, tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        for step in range(6):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            if step == 1:
                model[0].weight.grad.fill_(float("inf"))
            if step > 2:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
    records = read(tmp_path / "run")
    why = "gradient unscaled in the step"
    expected = [why, why, "", "", ""] if fused else [""] * 5
    assert records.audit_steps.skipped.tolist() == expected
    kept = np.isfinite(records.audits.miss_sq)
    assert kept.sum() == 3 * expected.count("")
    assert (records.audits.miss_sq[kept] <= records.audits.allowed_sq[kept]).all()
    if fused:
        assert np.isnan(records.audits.of(0).rewritten).tolist() == [True, True] + [False] * 3
        # Without copies, the gradients are those that the kernel has unscaled.
        np.testing.assert_allclose(records.gram.gg[:2], records.gram.gg[:2])


def test_a_tool_that_acts_after_the_step_is_said(tmp_path: Path) -> None:
    from spherical_motion.optim import Rotational

    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    groups = groups_of(model)
    with (
        Rotational(model, optimizer, groups),
        Monitor(model, optimizer, groups, tmp_path / "run", quiet=True),
    ):
        train(model, optimizer, 3)
    records = read(tmp_path / "run")
    assert records.audit_steps.skipped.tolist() == ["Rotational acts after the step"] * 3


def test_one_parameter_that_cannot_be_replayed_is_an_event(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        for step in range(3):
            optimizer.zero_grad()
            model(torch.tensor([step, 4])).square().sum().backward()
            optimizer.step()
    records = read(tmp_path / "run")
    assert np.isnan(records.audits.of(0).ee).all()
    assert (records.audits.of(1).miss_sq <= records.audits.of(1).allowed_sq).all()
    assert not any(records.audit_steps.skipped)
    (event,) = (e for e in records.events if e["kind"] == "not_replayed")
    assert (event["parameters"], event["why"]) == (["0.weight"], "sparse gradient")


# What is replayed all the same.


def test_a_state_that_is_loaded_in_between_is_the_one_replayed(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        train(model, optimizer, 4)
        kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        train(model, optimizer, 4)
        model.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[1])
        train(model, optimizer, 4)
        optimizer.state.clear()
        train(model, optimizer, 4)
    records = read(tmp_path / "run")
    assert len(records.audit_steps) == 16
    assert_kept(records)


def test_several_optimizers_are_audited_each_by_its_rule(tmp_path: Path) -> None:
    model = network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9)
    rest = [p for module in model[1:] for p in module.parameters()]
    second = torch.optim.AdamW(rest, lr=0.01)
    with watch(model, [first, second], directory=tmp_path / "run", groups="plain", quiet=True):
        for step in range(4):
            model.zero_grad()
            loss_of(model, step).backward()
            first.step()
            second.step()
    records = read(tmp_path / "run")
    assert records.audit_steps.optimizer.tolist() == [0] * 4 + [1] * 4
    assert sorted({*records.audits.parameter.tolist()}) == [0, 1, 2]
    assert_kept(records)


class Outer(torch.optim.SGD):
    """Decays a second time before the inherited step, around which the hooks run again."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1.0 - 0.01)
        return super().step(closure)


def test_a_step_around_the_inherited_one_is_one_step_and_is_seen(tmp_path: Path) -> None:
    torch.optim.SGD(network().parameters(), lr=0.1)  # now torch has wrapped both steps
    model = network()
    records = audited(tmp_path / "run", Outer(model.parameters(), lr=1e-4), model, 6)
    assert records.steps.tolist() == [*range(6)]
    own = records.audits.of(0)
    assert own.step.tolist() == [*range(6)]
    assert (own.miss_sq > 100 * own.allowed_sq).all()
    np.testing.assert_allclose(own.miss_sq, 1e-4 * own.ww, rtol=0.01)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_is_replayed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        torch._dynamo.reset()
        step = torch.compile(optimizer.step, backend="eager")
        for t in range(4):
            x = torch.randn(4, 5, generator=torch.Generator().manual_seed(t))
            optimizer.zero_grad()
            model(x).square().sum().backward()
            step()
    records = read(tmp_path / "run")
    assert len(records.audit_steps) == 4
    assert_kept(records)


# Gradients that a step writes.


class Writes(torch.optim.Optimizer):
    """Adds the weights' own direction to the gradient in place, and steps by the result."""

    def __init__(self, params, lr: float, until: int = 1000) -> None:
        super().__init__(params, {"lr": lr})
        self.until, self.taken = until, 0

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if self.taken < self.until:
                    p.grad.add_(p, alpha=0.5)
                p.sub_(p.grad, alpha=group["lr"])
        self.taken += 1


@pytest.mark.parametrize("every", [1, 4])
def test_gradients_that_a_step_writes_are_measured_as_they_were(every: int, tmp_path) -> None:
    model = network()
    groups = groups_of(model)
    optimizer = Writes(model.parameters(), lr=1e-3)
    products: list[tuple[float, float]] = []
    with Monitor(model, optimizer, groups, tmp_path / "run", every=every, quiet=True):
        for step in range(30):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            weights, gradient = model[0].weight.detach().double(), model[0].weight.grad.double()
            products.append((float((weights * gradient).sum()), float((gradient * gradient).sum())))
            optimizer.step()
    records = read(tmp_path / "run")
    wg, gg = np.array(products)[records.steps].T
    np.testing.assert_allclose(records.slice_gram.gg[:, 0], gg, rtol=1e-6)
    np.testing.assert_allclose(records.slice_gram.wg[:, 0], wg, atol=1e-6)
    own = records.audits.of(0)
    np.testing.assert_allclose(own.rewritten, 0.5 * np.sqrt(own.ww / own.gg), rtol=1e-4)
    assert set(records.audit_steps.skipped) == {"no rule for Writes"}


def test_gradients_that_no_step_writes_are_copied_for_a_while_only(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True) as m:
        auditor = m._stations[0]._auditor
        assert auditor is not None
        held = []
        for _ in range(22):
            train(model, optimizer, 1)
            held.append(auditor._copies.nbytes)
    assert all(held[:19])
    assert not any(held[19:])
    assert not auditor.writes_gradients
    assert (read(tmp_path / "run").audits.rewritten == 0.0).all()


def test_writing_that_begins_late_is_seen_at_the_next_audit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("spherical_motion.monitor.audit.when.PERIOD", 50)

    class Late(torch.optim.SGD):
        taken = 0

        @torch.no_grad()
        def step(self, closure=None) -> None:
            Late.taken += 1
            super().step()
            if Late.taken > 30:
                for group in self.param_groups:
                    for p in group["params"]:
                        p.grad.zero_()

    model = network()
    records = audited(tmp_path / "run", Late(model.parameters(), lr=1e-3), model, 60)
    own = records.audits.of(0)
    assert own.step.tolist() == [*range(20), 50, 51]
    assert own.rewritten.tolist() == [0.0] * 20 + [1.0] * 2
    gg = records.slice_gram.gg[:, 0]
    assert (gg[:30] > 0).all()
    assert (gg[30:50] == 0).all()
    assert (gg[50:] > 0).all()
    assert_kept(records)


def test_a_run_goes_on_with_audits(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model)
    audited(tmp_path / "run", optimizer, model, 40)
    records = audited(tmp_path / "run", optimizer, model, 10, resume=True)
    assert records.audit_steps.step.tolist() == [*range(20), 40, 41, 42]
    assert_kept(records)


def test_frozen_parameters_and_those_without_a_gradient(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        for step in range(6):
            if step == 3:
                model[0].weight.requires_grad_(False)
            optimizer.zero_grad()
            x, y = batch(step)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    records = read(tmp_path / "run")
    assert_kept(records)
    assert (records.audits.of(0).dd > 0).tolist() == [True] * 3 + [False] * 3
    assert np.isnan(records.audits.of(0).gg).tolist() == [False] * 3 + [True] * 3
