"""A comparison made up of plausible curves, with the attributes that a report reads."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from spherical_motion.comparison import ForceCurves, TugOfWar
from spherical_motion.vocabulary import HyperParameters, Stage, Verdict, VerdictKind

NAN = math.nan


@dataclasses.dataclass
class FakeComparison:
    directory: Path
    groups: tuple[str, ...]
    rows: tuple[Any, ...]
    findings: tuple[str, ...]
    records: Any
    stages_by_group: dict[str, tuple[Stage, ...]]
    curves_by_group: dict[str, Any]
    span: int = 1_000
    band: float = 0.10

    def stages(self, group: str) -> tuple[Stage, ...]:
        return self.stages_by_group[group]

    def curves(self, group: str) -> Any:
        return self.curves_by_group[group]

    def forces(self, group: str) -> ForceCurves:
        return ForceCurves(*(np.empty(0) for _ in dataclasses.fields(ForceCurves)))


def layer_names(count: int) -> tuple[str, ...]:
    """Names like those of a residual network."""
    return tuple(f"layer{1 + i // 14}.{(i % 14) // 3}.conv{1 + i % 3}.{i}" for i in range(count))


def make_comparison(
    groups: int | Sequence[str] = 4,
    points: int = 400,
    every: int = 10,
    burst: int = 2,
    scalars: bool = True,
    seed: int = 0,
) -> FakeComparison:
    """A run of three stages in which the learning rate drops tenfold; norms relax, angles jitter.

    `points` steps are recorded, `burst` in a row at each multiple of `every`.
    """
    rng = np.random.default_rng(seed)
    names = layer_names(groups) if isinstance(groups, int) else tuple(groups)
    starts = np.arange(-(-points // burst)) * every
    steps = (starts[:, None] + np.arange(burst)).ravel()[:points]
    length = int(steps[-1]) + 1 if points else 0
    stages = _stages(length) if points else ()
    curves = {name: _curves(rng, steps, stages) for name in names}
    rows = tuple(
        _row(rng, name, number, stage, curves[name])
        for name in names
        for number, stage in enumerate(stages, start=1)
    )
    logged = np.arange(0, length, max(length // 2000, 1))
    noise = rng.normal(0, 0.1, logged.size)
    loss = 2.3 * np.exp(-logged / (0.2 * length + 1) + noise)
    return FakeComparison(
        directory=Path("runs/resnet-demo"),
        groups=names,
        rows=rows,
        findings=(
            "37 of 53 groups are in equilibrium in the last stage and turn as predicted.",
            "layer4.0.conv1.42 turns 1.31 times faster than predicted in stage 2.",
            "After the drop at stage 3 most groups need about 4,000 more steps.",
        )
        if rows
        else (),
        records=SimpleNamespace(
            steps=steps,
            scalars={"train/loss": (logged, loss), "accuracy": (logged, np.exp(-loss))}
            if scalars
            else {},
            events=tuple({"kind": "rate_changed", "step": s.start, "lr": 0.1} for s in stages[1:]),
            info=SimpleNamespace(
                versions={"torch": "2.13.0", "spherical-motion": "0.1.0"},
                command="python train.py --lr 0.1",
                commit="0123abc",
                created="2026-01-01T12:00:00+00:00",
            ),
        ),
        stages_by_group=dict.fromkeys(names, stages),
        curves_by_group=curves,
    )


def _stages(length: int) -> tuple[Stage, ...]:
    edges = [0, max(length // 3, 1), max(2 * length // 3, 2), max(length, 3)]
    return tuple(
        Stage(a, b, HyperParameters("sgd", lr=0.1 / 10**k, weight_decay=0.01, momentum=0.9))
        for k, (a, b) in enumerate(itertools.pairwise(edges))
    )


def _curves(rng: np.random.Generator, steps: np.ndarray, stages: tuple[Stage, ...]) -> Any:
    shape = steps.shape
    lr, norm = np.full(shape, NAN), np.full(shape, NAN)
    size, pace = rng.uniform(2, 12), rng.uniform(0.5, 2)
    for stage in stages:
        assert stage.hp is not None
        inside = (steps >= stage.start) & (steps < stage.stop)
        since = (steps[inside] - stage.start) / max(stage.steps, 1)
        goal = 8 * (stage.hp.lr / stage.hp.weight_decay) ** 0.25 * pace
        lr[inside] = stage.hp.lr
        norm[inside] = goal + (size - goal) * np.exp(-8 * stage.hp.lr**0.3 * since)
        size = norm[inside][-1] if inside.any() else size
    equilibrium = np.sqrt(2 * lr * 0.01 / 1.9)
    goal = 8 * (lr / 0.01) ** 0.25 * pace
    predicted = equilibrium * (goal / norm) ** 2
    return SimpleNamespace(
        steps=steps,
        angle=predicted * rng.lognormal(0, 0.12, shape),
        predicted_angle=predicted,
        equilibrium_angle=equilibrium,
        norm=norm * (1 + rng.normal(0, 0.004, shape)),
        predicted_norm=norm,
        lr=lr,
    )


class FakeRow(SimpleNamespace):
    """A row whose verdict a test may change."""

    beside = ""

    @property
    def tone(self) -> Any:
        return self.verdict.tone

    @property
    def called(self) -> str:
        return self.verdict.kind.value


def _row(rng: np.random.Generator, name: str, number: int, stage: Stage, curves: Any) -> Any:
    inside = (curves.steps >= stage.start) & (curves.steps < stage.stop)
    samples = int(inside.sum())
    ratio = float(rng.normal(1, 0.02)) if rng.random() < 0.9 else 1.31
    predicted = float(np.sqrt(np.mean(curves.predicted_angle[inside] ** 2))) if samples else NAN
    equilibrium = float(curves.equilibrium_angle[inside][-1]) if samples else NAN
    if samples < 20:
        kind, reason = VerdictKind.TOO_FEW_SAMPLES, f"{samples} samples, 20 are needed"
    elif ratio > 1.2:
        kind, reason = VerdictKind.OFF, "the weights turn faster than predicted"
    elif number == 3:
        kind, reason = VerdictKind.APPROACHING, "4,120 more steps to within 5%"
    else:
        kind, reason = VerdictKind.IN_EQUILIBRIUM, "measured and predicted agree within 5%"
    return FakeRow(
        group=name,
        stage=stage,
        number=number,
        measured=predicted * ratio,
        predicted=predicted,
        ratio=ratio if samples else NAN,
        interval=(ratio * 0.98, ratio * 1.02) if samples else (NAN, NAN),
        equilibrium=equilibrium,
        samples=samples,
        balance=ratio,
        pull=NAN,
        decay_share=NAN,
        growth=NAN,
        words="",
        says_more=False,
        tug=TugOfWar(),
        verdict=Verdict(kind, reason, {"ratio": ratio, "samples": samples}),
    )
