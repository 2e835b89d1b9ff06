"""The correlation of updates, measured in bursts."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wandering import Wandering
from watched import groups_of, loss_of, network

from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, RecordingStopped
from spherical_motion.monitor import Monitor
from spherical_motion.monitor.burst import Burst, Memory, UpdatePiece
from spherical_motion.monitor.correlation import BURST, Bursts, CorrelationMeter, lags_of
from spherical_motion.monitor.provenance import run_facts
from spherical_motion.monitor.sampling import Sampling
from spherical_motion.monitor.targets import Target, pieces_of
from spherical_motion.records import RunInfo, read
from spherical_motion.vocabulary import InvariantGroup, Slice
from spherical_motion.vocabulary.events import EventKind


@dataclasses.dataclass
class Kept:
    """A sink that keeps what it is given."""

    found: list[tuple[int, int, np.ndarray, float]] = dataclasses.field(default_factory=list)
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def rows(self, *_: object) -> None:
        raise AssertionError("a correlation meter records no rows")

    settings = cells = rows

    def correlation(self, step: int, group: int, rho: np.ndarray, update_sq: float) -> None:
        self.found.append((step, group, rho, update_sq))

    def event(self, kind: str, /, step: int | None = None, **data: object) -> None:
        self.events.append({"kind": kind, "step": step, **data})


def meter_of(
    optimizer: torch.optim.Optimizer, every: int, limit: int = 10**8
) -> tuple[CorrelationMeter, Kept]:
    """A meter of one group for each parameter of an optimizer."""
    homes = {id(p): i for i, g in enumerate(optimizer.param_groups) for p in g["params"]}
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    pieces = {i: [UpdatePiece(p, 0, 0, len(p), homes[id(p)])] for i, p in enumerate(parameters)}
    bursts = Bursts(every, tuple(pieces))
    kept = Kept()
    names = [f"group {i}" for i in pieces]
    return CorrelationMeter(optimizer, bursts, pieces, names, kept, limit), kept


def run(
    optimizer: torch.optim.Optimizer,
    meter: CorrelationMeter,
    steps: int,
    before: Callable[[int], None] = lambda step: None,
    first: int = 0,
) -> tuple[list[list[torch.Tensor]], list[list[tuple[float, float]]]]:
    """Step `steps` times; the weights before each and after the last, and (lr, decay) of each."""
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    weights, rates = [], []
    for step in range(first, first + steps):
        before(step)
        rates.append(
            [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups for _ in g["params"]]
        )
        weights.append([p.detach().clone() for p in parameters])
        meter.before(step)
        optimizer.step()
        meter.after(step)
    weights.append([p.detach().clone() for p in parameters])
    return weights, rates


def parameters(*shapes: Sequence[int], dtype: torch.dtype = torch.float32) -> list[Any]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(*shape, dtype=dtype)) for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_burst_agrees_with_the_autocorrelation_of_all_updates(dtype: torch.dtype) -> None:
    optimizer = Wandering(parameters((7, 5), dtype=dtype), lr=0.05, weight_decay=0.3, momentum=0.8)
    meter, kept = meter_of(optimizer, every=75)

    def warm_up(step: int) -> None:  # every step of the burst has its own rates
        optimizer.param_groups[0].update(lr=0.05 / (1 + step), weight_decay=0.1 + 0.01 * step)

    weights, rates = run(optimizer, meter, 75, warm_up)
    lr, weight_decay = np.array(rates)[:, 0].T
    w = np.array([row[0].double().numpy().ravel() for row in weights])
    updates = theory.updates_between(w[:-1], w[1:], lr, weight_decay)
    [(step, group, rho, update_sq)] = kept.found
    assert (step, group, lags_of(optimizer.param_groups[0])) == (0, 0, 15)
    assert rho[0] == 1.0
    np.testing.assert_allclose(rho[1:], theory.autocorrelation(updates, 15), atol=2e-6)
    np.testing.assert_allclose(update_sq, (updates**2).sum() / 75, rtol=1e-5)


def test_each_burst_takes_the_next_group_and_a_resumed_run_goes_on() -> None:
    optimizer = Wandering(parameters((4, 3), (5,), (2, 2)), lr=0.05, momentum=0.5)
    meter, kept = meter_of(optimizer, every=40)
    run(optimizer, meter, 200)
    assert [(step, group) for step, group, *_ in kept.found] == [
        (0, 0), (40, 1), (80, 2), (120, 0), (160, 1),
    ]  # fmt: skip
    again, kept = meter_of(optimizer, every=40)
    for step in range(190, 280):  # begins in the middle of a burst, which is left out
        again.before(step)
        optimizer.step()
        again.after(step)
    assert [(step, group) for step, group, *_ in kept.found] == [(200, 2), (240, 0)]


def test_a_group_spread_over_param_groups_obeys_the_law_at_its_main_rate() -> None:
    # d = -ηu - ηλw piece by piece; ηu of all pieces over the main piece's η has the group's c.
    big, small = parameters((30, 8), (8,))
    optimizer = Wandering(
        [
            {"params": [big], "lr": 0.02, "weight_decay": 0.5},
            {"params": [small], "lr": 0.2, "weight_decay": 0.0, "momentum": 0.0},
        ],
        lr=0.0,
        momentum=0.8,
    )
    kept = Kept()
    pieces = {0: [UpdatePiece(small, 0, 0, 8, 1), UpdatePiece(big, 0, 0, 30, 0)]}
    meter = CorrelationMeter(optimizer, Bursts(75, (0,)), pieces, ["both"], kept)
    weights, _ = run(optimizer, meter, 75)
    moved = []
    for before, after in itertools.pairwise(weights):
        parts = [
            (w - w_after - lr * decay * w).double().numpy().ravel() / 0.02
            for w, w_after, lr, decay in zip(before, after, (0.02, 0.2), (0.5, 0.0), strict=True)
        ]
        moved.append(np.concatenate(parts))
    [(_, _, rho, update_sq)] = kept.found
    np.testing.assert_allclose(rho[1:], theory.autocorrelation(moved, 15), atol=1e-5)
    np.testing.assert_allclose(update_sq, (np.array(moved) ** 2).sum(1).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda o: o.param_groups[0].update(lr=0.0), "learning rate is 0"),
        (lambda o: o.param_groups[0]["params"][0].data.fill_(math.nan), "NaN"),
    ],
)
def test_a_burst_that_cannot_be_finished_says_why(spoil: Callable[..., None], why: str) -> None:
    optimizer = Wandering(parameters((4, 3)), lr=0.05, momentum=0.5)
    meter, kept = meter_of(optimizer, every=40)
    run(optimizer, meter, 40, lambda step: spoil(optimizer) if step == 10 else None)
    assert not kept.found
    [event] = kept.events
    assert event["kind"] == EventKind.CORRELATION_ENDED
    assert event["group"] == "group 0"
    assert why in event["why"]


def test_weights_that_never_move_have_no_correlation() -> None:
    # Their "update" would be what undoes the decay, alike in all steps.
    [w] = parameters((4, 3))
    optimizer = torch.optim.SGD([w], lr=0.1, weight_decay=0.1, momentum=0.5)
    meter, kept = meter_of(optimizer, every=30)
    run(optimizer, meter, 30)
    assert not kept.found
    assert "no step changed the weights" in kept.events[0]["why"]


def test_a_skipped_step_is_no_part_of_a_burst() -> None:
    twins = [Wandering(parameters((6, 4)), lr=0.05, momentum=0.5) for _ in range(2)]
    (plain, kept), (skipping, kept_too) = (meter_of(twin, every=30) for twin in twins)
    run(twins[0], plain, 30)
    for step in range(30):
        skipping.before(step)  # GradScaler found inf: no step, no number
        skipping.before(step)
        twins[1].step()
        skipping.after(step)
    np.testing.assert_array_equal(kept.found[0][2], kept_too.found[0][2])


def test_momentum_that_rises_takes_more_lags_and_waits_if_they_do_not_fit() -> None:
    optimizer = Wandering(parameters((40, 4)), lr=0.05, momentum=0.5)
    meter, kept = meter_of(optimizer, every=100)
    run(optimizer, meter, 100)
    optimizer.param_groups[0]["momentum"] = 0.8
    run(optimizer, meter, 100, first=100)
    optimizer.param_groups[0]["momentum"] = 0.9
    run(optimizer, meter, 100, first=200)
    assert [len(rho) - 1 for *_, rho, _ in kept.found] == [6, 15]
    # The memory was laid out for 6 lags, so 15 are measured on a part of the entries.
    assert [e["kind"] for e in kept.events] == [
        EventKind.CORRELATION_SAMPLED,
        EventKind.CORRELATION_ENDED,
    ]
    assert "150 steps" in kept.events[1]["why"]


def test_drawn_entries_give_an_unbiased_correlation() -> None:
    optimizer = Wandering(parameters((50, 6), (20, 5)), lr=0.05, momentum=0.5)
    a, b = (p for g in optimizer.param_groups for p in g["params"])
    a.data *= 30  # entries of different size, so that a bias would show
    a.stretch = 30.0
    pieces = [UpdatePiece(b, 0, 0, 20, 0), UpdatePiece(a, 0, 0, 50, 0)]
    lags, steps, entries = 6, 30, 100
    memory = Memory.needed(entries, lags)
    bursts = [Burst(pieces, lags, steps, Memory(memory), seed) for seed in range(150)]
    whole = Burst(pieces, lags, steps, Memory(10**6), 0)
    assert (whole.entries, bursts[0].entries) == (400, 100)
    for _ in range(steps):
        for burst in (whole, *bursts):
            burst.take()
        optimizer.step()
        for burst in (whole, *bursts):
            burst.measure([(0.05, 0.0)] * 2)
    exact = whole.result()
    drawn = [burst.result() for burst in bursts]
    products = np.array([one.rho * one.update_sq for one in drawn])
    error = products.std(axis=0) / math.sqrt(len(drawn))
    off = (products.mean(axis=0) - exact.rho * exact.update_sq) / error
    assert np.abs(off).max() < 4.0
    assert (error > 0).all()


def test_a_large_group_is_measured_within_the_limit() -> None:
    optimizer = Wandering(parameters((300, 40)), lr=0.05, momentum=0.5)
    meter, kept = meter_of(optimizer, every=50, limit=200_000)
    run(optimizer, meter, 50)
    assert meter.nbytes <= 200_000
    [event] = kept.events
    assert (event["kind"], event["group"]) == (EventKind.CORRELATION_SAMPLED, "group 0")
    assert event["entries"] == 200_000 // Memory.needed(1, 6) < event["numel"] == 12_000
    [(_, _, rho, update_sq)] = kept.found
    assert rho[1] == pytest.approx(0.5, abs=0.05)
    assert update_sq == pytest.approx(12_000, rel=0.1)


def test_a_stored_slice_is_read_whatever_its_layout() -> None:
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.randn(6, 4, 3).permute(2, 0, 1))
    scalar = torch.nn.Parameter(torch.tensor(2.0))
    own = [UpdatePiece(w, 1, 2, 5, 0), UpdatePiece(scalar, 0, 0, 1, 0)]
    for nbytes in (10**6, 20 * Memory.needed(1, 6)):
        burst = Burst(own, 6, 30, Memory(nbytes), seed=0)
        burst.take()
        before = torch.cat([w.detach()[:, 2:5].reshape(-1), scalar.detach().reshape(1)])
        chosen = before[torch.cat([i + at for i, at in zip(burst._drawn, (0, 36), strict=True)])] \
            if burst._drawn else before  # fmt: skip
        assert torch.equal(burst._before, chosen.double())


def info_of(
    optimizers: Sequence[torch.optim.Optimizer],
) -> tuple[RunInfo, list[list[UpdatePiece]]]:
    """The facts of a run in which each parameter is a group."""
    groups, targets = [], {}
    for number, optimizer in enumerate(optimizers):
        for index, param_group in enumerate(optimizer.param_groups):
            for p in param_group["params"]:
                name = f"w{len(groups)}"
                s = Slice(name, 0, 0, len(p))
                groups.append(InvariantGroup(name, "scale", (s,), ((s,),), p.numel()))
                targets[name] = Target(p, number, index)
    info = run_facts(tuple(groups), optimizers, targets, Sampling(1, 1), products=7)
    return info, pieces_of(groups, targets)


def test_groups_with_a_closed_form_are_passed_over_unless_there_are_no_others() -> None:
    adamw = torch.optim.AdamW(parameters((3, 2)), lr=1e-3)
    muon = torch.optim.Muon(parameters((3, 2), (4, 2)), lr=0.02, momentum=0.9)
    unknown = Wandering(parameters((3, 2)), lr=0.05)
    assert Bursts.of(1000, *info_of([adamw, muon, unknown])).groups == (1, 2, 3)
    assert Bursts.of(1000, *info_of([adamw])).groups == (0,)


@pytest.mark.parametrize(("momentum", "longest"), [(0.9, 150), (0.95, 300), (None, 300)])
def test_a_period_that_is_shorter_than_a_burst_is_refused(
    momentum: float | None, longest: int
) -> None:
    optimizer = Wandering(parameters((3, 2)), lr=0.05, momentum=momentum or 0.0)
    if momentum is None:
        del optimizer.param_groups[0]["momentum"]
    facts = info_of([optimizer])
    assert Bursts.of(longest, *facts).every == longest
    with pytest.raises(InvalidArgument, match=f"must be at least {longest}"):
        Bursts.of(longest - 1, *facts)
    with pytest.raises(InvalidArgument, match="correlation_every"):
        Bursts.of(0, *facts)


def test_more_bursts_and_longer_memory_find_c_to_one_over_the_root() -> None:
    # ρ_k = φ^k: the largest sum over 3/(1 - φ) lags is (1 + φ)/(1 - φ) less e^-3 of the sum.
    spread = []
    for entries in (25, 400):
        optimizer = Wandering(parameters((entries,)), lr=0.05, momentum=0.8, seed=1)
        meter, kept = meter_of(optimizer, every=75)
        run(optimizer, meter, 75 * 24)
        found = [theory.largest_correlation_sum(rho[1:], 0.8) for *_, rho, _ in kept.found]
        assert len(found) == 24
        spread.append(np.std(found))
    assert np.mean(found) == pytest.approx(1 + 8 * (1 - 0.8**15), rel=0.04)
    assert spread[0] / spread[1] == pytest.approx(4.0, rel=0.35)
    assert BURST * 15 == 75


def monitored(directory: Path, correlation_every: int | None) -> tuple[Monitor, Any, Any]:
    model = network()
    unknown = Wandering([model[8].weight], lr=0.02, momentum=0.5)
    others = [p for p in model.parameters() if p is not model[8].weight]
    adamw = torch.optim.AdamW(others, lr=1e-3)
    head = Slice("8.weight", 0, 0, 3)
    groups = [*groups_of(model), InvariantGroup("8", "plain", (head,), (), 432)]
    monitor = Monitor(
        model, [unknown, adamw], groups, directory, correlation_every=correlation_every, quiet=True
    )

    def steps(count: int) -> None:
        for step in range(count):
            for optimizer in (unknown, adamw):
                optimizer.zero_grad()
            loss_of(model, step).backward()
            unknown.step()
            adamw.step()

    return monitor, model, steps


def test_weights_are_bit_identical_with_bursts_and_without(tmp_path: Path) -> None:
    weights = []
    for every in (None, 30):
        monitor, model, steps = monitored(tmp_path / str(every), every)
        with monitor:
            steps(70)
        weights.append(model.state_dict())
    for a, b in zip(weights[0].values(), weights[1].values(), strict=True):
        assert torch.equal(a, b)
    found = read(tmp_path / "30").correlations("8")
    assert found.steps.tolist() == [0, 30]
    assert found.rho.shape == (2, 7)
    assert not len(read(tmp_path / "30").correlations("0").steps)


def test_a_failing_burst_stops_recording_and_not_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Burst, "measure", fail)
    monitor, model, steps = monitored(tmp_path / "run", 30)
    before = model[8].weight.detach().clone()
    with pytest.warns(RecordingStopped, match="no room"):
        steps(3)
    monitor.close()
    assert not torch.equal(before, model[8].weight)


def test_memory_for_bursts_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    muon = torch.optim.Muon([model[8].weight], lr=0.02, momentum=0.95)
    head = InvariantGroup("8", "plain", (Slice("8.weight", 0, 0, 3),), (), 432)
    with Monitor(model, muon, [head], tmp_path / "run", correlation_every=300):
        pass
    assert "118 kB of memory" in capsys.readouterr().err  # 432 × (4 × 61 + 24) bytes and the copy
