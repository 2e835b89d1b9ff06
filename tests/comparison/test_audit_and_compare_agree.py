"""What `smd audit` finds in a run, `smd compare` finds as well; neither alarms without reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from audited import adamw, nothing, recorded, sgd, stepping_with
from torch import nn
from watched import loss_of, network

from spherical_motion.comparison import audit, compare
from spherical_motion.vocabulary import HyperParameters, Schedule, Suspect

HP = HyperParameters("sgd", lr=0.1, weight_decay=0.01, momentum=0.9)


def clip_norm(model: nn.Module, *_: object) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 0.05)


def clip_first_norms(model: nn.Module, _: object, step: int) -> None:
    if step < 20:
        clip_norm(model)


def clip_values(model: nn.Module, *_: object) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 1e-4)


def phantom(_: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    for state in optimizer.state.values() if step == 7 else ():
        state["step"] += 1


def two_rates(model: nn.Module) -> torch.optim.Optimizer:
    rest = [p for m in model[1:] for p in m.parameters()]
    groups = [{"params": model[0].parameters()}, {"params": rest, "lr": 0.3}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize(
    ("make", "before", "plan", "expected"),
    [
        (sgd, nothing, None, None),
        (adamw, nothing, None, None),
        (stepping_with(adamw, weight_decay=10.0), nothing, None, Suspect.WRONG_SETTINGS),
        (sgd, clip_norm, None, Suspect.GRADIENT_CLIPPED),
        (sgd, clip_first_norms, None, None),
        (adamw, clip_values, None, Suspect.GRADIENT_CLIPPED),
        (adamw, phantom, None, Suspect.STEP_COUNTER),
        (two_rates, nothing, Schedule.constant(HP, 50), None),
    ],
)
def test_both_say_the_same(make, before, plan, expected, tmp_path: Path, monkeypatch) -> None:
    # Two bursts of two neighbours follow the first 20 steps.
    monkeypatch.setattr("spherical_motion.monitor.audit.when.PERIOD", 22)
    run = recorded(tmp_path / "run", make, 46, before=before, plan=plan)
    found, judged = audit(run), compare(run)
    assert found.alarm is (expected is not None)
    for row in found:
        verdict = judged[row.group].verdict
        alarming = [suspect for suspect in row.suspects if suspect.alarm]
        assert verdict.alarm is bool(alarming), verdict
        if expected is not None:
            assert verdict.suspect is expected
            assert expected in alarming


def half(model: nn.Module) -> torch.optim.Optimizer:
    model.to(torch.bfloat16)
    model.register_forward_pre_hook(lambda _, given: (given[0].bfloat16(),))
    return torch.optim.SGD(model.parameters(), lr=1e-4)


def freeze_norm(model: nn.Module, *_: object) -> None:
    model[1].eval()


def large_epsilon(model: nn.Module, *_: object) -> None:
    model[1].eps = 10.0


def phantom_at_once(_: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    for state in optimizer.state.values() if step == 1 else ():
        state["step"] += 1


def replace(model: nn.Module, _: object, step: int) -> None:
    if step == 0:
        model[0].weight = nn.Parameter(model[0].weight.detach().clone())


def step_a_second_optimizer(model: nn.Module, *_: object) -> None:
    torch.optim.SGD([model[0].weight], lr=0.01).step()


class Wandering(torch.optim.SGD):
    """Not the rule of the name that it has."""

    def step(self, closure: None = None) -> None:
        with torch.no_grad():
            for p in (p for group in self.param_groups for p in group["params"]):
                p.add_(torch.randn_like(p), alpha=1e-2)


Wandering.__name__ = "SGD"

SHORT_RUNS = {
    Suspect.EVAL_MODE: {"make": sgd, "after": freeze_norm},
    Suspect.EPSILON: {"make": sgd, "after": large_epsilon},
    Suspect.GRADIENT_CLIPPED: {"make": sgd, "before": clip_norm},
    Suspect.STEP_COUNTER: {"make": adamw, "before": phantom_at_once},
    Suspect.LOST_PRECISION: {"make": half},
    Suspect.NOT_STEPPED: {"make": sgd, "after": replace},
    Suspect.WEIGHTS_WRITTEN: {"make": sgd, "after": step_a_second_optimizer},
    Suspect.STEP_DIFFERS: {"make": lambda m: Wandering(m.parameters(), lr=0.1)},
    Suspect.WRONG_SETTINGS: {
        "make": sgd,
        "plan": Schedule.constant(dataclasses.replace(HP, lr=0.3), 50),
    },
}
"""What the audit can name in so few steps: a fault of each kind."""


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("suspect", SHORT_RUNS, ids=str)
def test_both_agree_on_short_runs(suspect, steps, tmp_path: Path) -> None:
    """With too few samples to judge anything else, what the audit saw is still said."""
    run = recorded(tmp_path / "run", steps=steps, **SHORT_RUNS[suspect])
    found, judged = audit(run), compare(run)
    if steps >= 6:
        assert any(suspect in row.suspects for row in found)
    for row in found:
        written = Suspect.WEIGHTS_WRITTEN is judged[row.group].verdict.suspect
        alarming = {s for s in row.suspects if s.alarm}
        # Continuity, which compare alone looks at, sees a write before the event says who writes.
        assert judged[row.group].alarm is bool(alarming) or (written and not alarming)
        if alarming and not written:
            assert judged[row.group].verdict.suspect in alarming


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("make", [sgd, adamw])
def test_both_are_quiet_on_healthy_short_runs(make, steps, tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", make, steps)
    assert not audit(run).alarm
    assert not compare(run).alarms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sam_by_hand_is_no_alarm(dtype, tmp_path: Path) -> None:
    """Added before a second backward, subtracted after it."""

    def second_backward(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        with torch.no_grad():
            moved = [(p, 0.02 * p.grad / (p.grad.norm() + 1e-12)) for p in model.parameters()]
            for p, e in moved:
                p.add_(e)
        optimizer.zero_grad()
        loss_of(model, step).backward()
        with torch.no_grad():
            for p, e in moved:
                p.sub_(e)

    model = network().to(dtype)
    model.register_forward_pre_hook(lambda _, given: (given[0].to(dtype),))
    run = recorded(tmp_path / "run", sgd, 60, model=model, before=second_backward)
    judged = compare(run)
    assert not any(row.verdict.suspect is Suspect.WEIGHTS_WRITTEN for row in judged)
    if dtype is torch.float32:
        assert not judged.alarms
        assert all("put them back up to rounding" in row.verdict.reason for row in judged)
