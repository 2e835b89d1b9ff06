"""What `smd audit` finds in a run, `smd compare` finds as well; neither alarms without reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from audited import adamw, nothing, recorded, sgd, stepping_with
from torch import nn

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
