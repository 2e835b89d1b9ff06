"""The audit of runs with known faults: which steps, as with which settings, and what was around."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from audited import ONSET, adamw, recorded, sgd, stepping_with
from torch import nn
from watched import loss_of, network

from spherical_motion.comparison import audit
from spherical_motion.comparison.laws import audited_steps, clipped_norm
from spherical_motion.comparison.laws.step_fit import fit_products
from spherical_motion.monitor import watch
from spherical_motion.records import read
from spherical_motion.vocabulary import HyperParameters, Schedule, Stage, Suspect

HP = HyperParameters("sgd", lr=0.1, weight_decay=0.01, momentum=0.9)


@pytest.mark.parametrize("make", [sgd, adamw])
def test_a_healthy_run_is_the_rules(make, tmp_path: Path) -> None:
    found = audit(recorded(tmp_path / "run", make))
    assert not found.alarm
    assert found.findings == ()
    for row in found:
        assert row.audited.steps == row.audited.replayed == 20
        assert row.audited.differing == ()
        assert row.audited.fit is None
        assert row.audited.lost < 0.01
        assert row.audited.eval_mode == 0.0
        assert 0.0 < row.audited.epsilon < 0.01
    assert "every replayed step is the rule's" in str(found)
    assert "20 of 20 replayed steps are the rule's" in str(found[found.rows[0].group])


@pytest.mark.parametrize(
    ("make", "real", "words"),
    [
        (sgd, {"weight_decay": 0.0}, "steps as if weight decay were 0: declared 0.01"),
        (sgd, {"weight_decay": 0.02}, "steps as if weight decay were 0.02: declared 0.01"),
        (sgd, {"lr": 0.11}, "1.1 × the length of the rule's, as with learning rate 0.11"),
        (sgd, {"momentum": 0.85}, "steps as with momentum 0.85: declared 0.9"),
        (adamw, {"weight_decay": 0.0}, "steps as if weight decay were 0: declared 0.1"),
        (adamw, {"weight_decay": 10.0}, "steps as if weight decay were 10: declared 0.1"),
        (adamw, {"lr": 0.02}, "2 × the length of the rule's, as with learning rate 0.02"),
    ],
)
def test_settings_other_than_declared_are_named(make, real, words: str, tmp_path: Path) -> None:
    found = audit(recorded(tmp_path / "run", stepping_with(make, **real)))
    assert found.alarm
    for row in found:
        assert row.audited.onset == (ONSET - 1, ONSET)
        assert row.audited.differing == tuple(range(ONSET, 20))
        assert row.suspects == (Suspect.WRONG_SETTINGS,)
    finding = found.findings[0]  # ε may follow, of weights that became small
    assert finding.startswith("all groups: 15 of 20 replayed steps are not the rule's, from step 5")
    assert words in finding


@pytest.mark.parametrize(("lr", "real", "declared"), [(1.9, 0.1, 0.2), (2.2, 0.85, 0.9)])
def test_momentum_is_named_where_neighbouring_steps_point_apart(
    lr: float, real: float, declared: float, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, target = nn.Linear(16, 16, bias=False), torch.randn(16, 16)
    curvature = torch.linspace(0.6, 1.2, 16)

    def make(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=declared, weight_decay=1e-3)

    optimizer = stepping_with(make, momentum=real)(model)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        for _ in range(40):
            optimizer.zero_grad()
            (0.5 * (model.weight - target).square() * curvature).sum().backward()
            optimizer.step()
    (row,) = audit(tmp_path / "run")
    assert row.audited.fit.kind == "momentum"
    assert row.audited.fit.real_momentum == pytest.approx(real, rel=1e-2)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_noise_in_the_step_is_no_other_momentum(momentum: float, tmp_path: Path) -> None:
    """Noise of one size makes |d - e|/|d'| the same at every step, as another momentum would."""
    noise = torch.Generator().manual_seed(3)

    def make(model: nn.Module) -> torch.optim.Optimizer:
        class SGD(torch.optim.SGD):
            @torch.no_grad()
            def step(self, closure: None = None) -> None:
                super().step()
                for group in self.param_groups:
                    for p in group["params"]:
                        p.add_(torch.randn(p.shape, generator=noise), alpha=0.05)

        return SGD(model.parameters(), lr=0.01, momentum=momentum, weight_decay=0.01)

    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False)
    optimizer = make(model)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        for _ in range(25):
            optimizer.zero_grad()
            (0.5 * model.weight.square()).sum().backward()
            optimizer.step()
    (row,) = audit(tmp_path / "run")
    assert len(row.audited.differing) == 20
    assert row.audited.fit.kind == ""
    assert row.suspects == (Suspect.STEP_DIFFERS,)


@pytest.mark.parametrize("real", [{"betas": (0.8, 0.999)}, {"eps": 1e-2}])
def test_a_rule_that_no_rate_and_no_decay_makes(real, tmp_path: Path) -> None:
    found = audit(recorded(tmp_path / "run", stepping_with(adamw, **real)))
    for row in found:
        assert row.audited.first == ONSET
        assert row.suspects == (Suspect.STEP_DIFFERS,)
        assert row.audited.fit.kind == ""
    assert "no learning rate and no weight decay makes them" in found.findings[0]


def test_clipping_says_at_which_norm_and_how_often(tmp_path: Path) -> None:
    def often(model: nn.Module, _: object, step: int) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)

    def at_times(model: nn.Module, _: object, step: int) -> None:
        if step in (3, 8, 12, 17):
            for p in model.parameters():
                p.grad *= 10.0
            nn.utils.clip_grad_norm_(model.parameters(), 40.0)
            nn.utils.clip_grad_norm_(model.parameters(), 30.0)

    always = audit(recorded(tmp_path / "always", sgd, before=often))
    row = always.rows[0].audited
    assert (row.clipped_at, row.clipped_share) == (pytest.approx(0.05, rel=1e-4), 1.0)
    assert row.clipped_since == 0
    assert always.rows[0].suspects == (Suspect.GRADIENT_CLIPPED,)
    assert "sits at 0.05 in 100% of the audited steps" in always.findings[0]
    found = audit(recorded(tmp_path / "rare", sgd, before=at_times))
    if found.rows[0].audited.clipped_share:
        assert found.rows[0].suspects == (Suspect.NORM_CLIPPED,)
        assert not found.alarm


def test_clipped_entries(tmp_path: Path) -> None:
    def clip(model: nn.Module, *_: object) -> None:
        nn.utils.clip_grad_value_(model.parameters(), 1e-3)

    found = audit(recorded(tmp_path / "run", sgd, before=clip))
    for row in found:
        assert row.audited.peak > 0.3
        assert row.audited.peak_since == 0
        assert Suspect.GRADIENT_CLIPPED in row.suspects


def test_large_epsilon_and_eval_mode(tmp_path: Path) -> None:
    model = network()

    def change(_: nn.Module, __: object, step: int) -> None:
        model[1].eps = 1.0
        model[4].eval()

    found = audit(recorded(tmp_path / "run", sgd, model=model, after=change))
    assert found["0"].audited.epsilon > 0.1
    assert Suspect.EPSILON in found["0"].suspects
    assert Suspect.EVAL_MODE in found["3"].suspects
    assert found["3"].audited.eval_mode == pytest.approx(19 / 20)
    assert any("first at step 1: it is in eval mode" in words for words in found.findings)
    assert (found["3"].audited.eval_since, found["0"].audited.epsilon_since) == (1, 1)
    assert found["0"].audited.eval_since is None


def test_a_phantom_step(tmp_path: Path) -> None:
    def phantom(_: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        for state in optimizer.state.values() if step == 7 else ():
            state["step"] += 1

    found = audit(recorded(tmp_path / "run", adamw, before=phantom))
    for row in found:
        assert (row.audited.counter, row.audited.taken, row.audited.miscounted) == (21, 20, 7)
        assert row.suspects == (Suspect.STEP_COUNTER,)
        assert row.audited.peak_since is None
    assert "has counted 21 steps where 20 were taken, first at step 7" in found.findings[0]


@pytest.mark.parametrize("phantom", [None, 7])
def test_parts_that_are_used_in_turn_have_counts_of_their_own(phantom, tmp_path: Path) -> None:
    def take_turns(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        for name, parameter in model.named_parameters():
            if not name.startswith("03"[step % 2]):
                parameter.grad = None
        if step == phantom:
            optimizer.state[model[3].weight]["step"] += 1

    found = audit(recorded(tmp_path / "run", adamw, before=take_turns))
    first, second = found["0"], found["3"]
    assert (first.audited.counter, first.audited.taken) == (10, 10)
    assert first.suspects == ()
    assert (second.audited.counter, second.audited.taken) == (10 + (phantom is not None), 10)
    assert second.audited.miscounted == phantom
    assert second.suspects == (() if phantom is None else (Suspect.STEP_COUNTER,))


def test_weights_too_coarse_for_their_steps(tmp_path: Path) -> None:
    def slow(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1e-8)

    found = audit(recorded(tmp_path / "run", slow))
    for row in found:
        assert row.audited.lost > 0.1
        assert row.suspects == (Suspect.LOST_PRECISION,)
        assert row.audited.differing == ()  # rounding is no other rule
    assert "rounding to float32 loses" in found.findings[0]


def test_tensors_and_optimizers_left_behind(tmp_path: Path) -> None:
    model = network()

    def replace(_: nn.Module, __: object, step: int) -> None:
        if step == 9:
            model[0].weight = nn.Parameter(model[0].weight.detach().clone())

    found = audit(recorded(tmp_path / "run", sgd, model=model, after=replace))
    assert found["0"].audited.replaced == 10
    assert set(found["0"].suspects) == {Suspect.NOT_STEPPED}
    assert found["3"].suspects == ()
    other = torch.optim.SGD(model[3].parameters(), lr=1e-3)
    second = recorded(tmp_path / "two", sgd, model=model, after=lambda *_: other.step())
    assert audit(second)["3"].suspects == (Suspect.WEIGHTS_WRITTEN,)


def test_rates_other_than_planned(tmp_path: Path) -> None:
    plan = Schedule.polynomial(HP, 100)

    def twice(_: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - 2 * (step + 1) / 100)

    found = audit(recorded(tmp_path / "run", sgd, after=twice, plan=plan))
    assert found.rows[0].planned.how.times == 2.0
    assert found.rows[0].suspects == (Suspect.WRONG_SETTINGS,)
    (words,) = found.findings
    assert "0.058 instead of 0.079 at step 21" in words
    assert "the scheduler is stepped 2 times as often as planned" in words

    def once(_: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - (step + 1) / 100)

    good = audit(recorded(tmp_path / "good", sgd, after=once, plan=plan))
    assert not good.alarm
    assert "at the planned rates" in str(good)


def test_param_groups_with_rates_of_their_own_may_share_a_plan(tmp_path: Path) -> None:
    def two(model: nn.Module) -> torch.optim.Optimizer:
        groups = [
            {"params": model[0].parameters(), "lr": 0.1},
            {"params": [p for m in model[1:] for p in m.parameters()], "lr": 0.3},
        ]
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01)

    found = audit(recorded(tmp_path / "run", two, plan=Schedule.constant(HP, 50)))
    assert found["3"].planned.how.factor == pytest.approx(3.0)
    assert not found.alarm


def test_stages_and_runs_without_an_audit(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", stepping_with(sgd, lr=0.2))
    records = read(run)
    group = records.groups[0]
    early, late = Stage(0, ONSET, None), Stage(ONSET, 20, None)
    assert audited_steps(records, group, early).differing == ()
    assert audited_steps(records, group, late).onset == (None, ONSET)
    assert audited_steps(records, group, Stage(20, 22, None)).steps == 0
    off = audit(recorded(tmp_path / "off", sgd, audit=False))
    assert not off.alarm
    assert "no step was audited" in str(off)
    assert "not audited" in str(off.rows[0])


def test_what_was_not_replayed_says_why(tmp_path: Path) -> None:
    model = network()
    optimizer = sgd(model)
    with watch(model, optimizer, directory=tmp_path / "run", groups="plain", quiet=True):
        for step in range(3):

            def closure(step: int = step) -> torch.Tensor:
                optimizer.zero_grad()
                loss = loss_of(model, step)
                loss.backward()
                return loss

            optimizer.step(closure)
    row = audit(tmp_path / "run").rows[0]
    assert (row.audited.steps, row.audited.replayed, row.audited.skipped) == (3, 0, "closure")
    assert "none replayed (closure)" in str(row)


def test_json_holds_everything(tmp_path: Path) -> None:
    found = audit(recorded(tmp_path / "run", stepping_with(sgd, lr=0.2)))
    plain = found.to_dict()
    assert json.loads(json.dumps(plain))["groups"][0]["suspects"] == ["wrong settings"]
    assert plain["alarm"] is True
    assert plain["groups"][0]["audited"]["fit"]["factor"] == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_of_a_step_is_least_squares(seed: int) -> None:
    generator = np.random.default_rng(seed)
    w, e = generator.normal(size=(2, 30, 50))
    factor, pull = generator.uniform(0.5, 2.0), generator.uniform(-0.3, 0.3)
    d = factor * e + pull * w
    pairs = {"ww": (w, w), "wd": (w, d), "we": (w, e), "dd": (d, d), "ee": (e, e), "de": (d, e)}
    sums = {name: (a * b).sum(1) for name, (a, b) in pairs.items()}
    sums |= {"miss_sq": ((d - e) ** 2).sum(1), "allowed_sq": np.zeros(30)}
    found = fit_products(sums)
    solved = [np.linalg.lstsq(np.stack([e[i], w[i]], 1), d[i], rcond=None)[0] for i in range(30)]
    assert found.fit.kind == "both"
    np.testing.assert_allclose(found.factor_at, [a for a, _ in solved], rtol=1e-9)
    np.testing.assert_allclose(found.pull_at, [b for _, b in solved], rtol=1e-9)
    assert found.fit.left < 1e-6


def test_norms_that_are_equal_by_chance_are_not_clipped() -> None:
    generator = np.random.default_rng(0)
    hits = [
        clipped_norm(generator.lognormal(0.0, sigma, 20))[1] > 0
        for sigma in (0.01, 0.1, 1.0)
        for _ in range(500)
    ]
    assert not any(hits)
    slow = 1.0 + 1e-5 * np.arange(20)  # full batches that hardly move
    assert math.isnan(clipped_norm(slow)[0])
    limit, share = clipped_norm([*np.minimum(generator.lognormal(0.0, 1.0, 1000), 1.0)])
    assert limit == 1.0
    assert share == pytest.approx(0.5, abs=0.05)


def test_a_count_from_the_first_step_on_explains_the_steps(tmp_path: Path) -> None:
    def twice(_: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        for state in optimizer.state.values():
            state["step"] += 1

    found = audit(recorded(tmp_path / "run", adamw, after=twice))
    for row in found:
        assert row.suspects == (Suspect.STEP_COUNTER,)
