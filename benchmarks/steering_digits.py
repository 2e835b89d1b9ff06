"""Every way of steering on the digits recipe: loss, accuracy, angle, time to equilibrium, cost.

    python benchmarks/steering_digits.py [--seeds 5] [--steps 2800] [--width 16] [--only sgdm ...]

One row a method, mean ± standard error over seeds. "angle / target" is the mean over groups and
over the last quarter of each stage of the measured angle over the equilibrium angle of the
settings; "steps to 5%" the first step of a stage from which a running mean over 50 steps, and the
one after it, is within 5% of target ("-": not before the stage ends). Costs are ratios of step
times to plain SGDM's, blocks of both in turn, the median of the pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import MultiStepLR

from spherical_motion import theory
from spherical_motion.invariance import find_groups
from spherical_motion.optim import bind, scale_to_equilibrium, split_param_groups
from spherical_motion.optim.adagrad_g import AdaGradG
from spherical_motion.optim.exponential_schedule import ExponentialSchedule
from spherical_motion.optim.proportional_decay import ProportionalDecay
from spherical_motion.optim.rescale_on_decay import RescaleOnDecay
from spherical_motion.optim.rotational import Rotational
from spherical_motion.recipes import DigitsRecipe
from spherical_motion.recipes.digits import load_digits
from spherical_motion.vocabulary import HyperParameters, InvariantGroup

WINDOW = 50
DEFAULTS = DigitsRecipe()
PROBES = 10
"""Batches on which the equilibrium start measures the gradient."""


@dataclasses.dataclass
class Setup:
    """What one training needs beside the model."""

    optimizer: torch.optim.Optimizer
    scheduler: Any
    momentum: float
    rate: float
    """lr of the invariant groups in the first stage, as the theory counts it."""

    keep: Any = None
    """What only has to stay alive: hooks."""


Make = Callable[[nn.Module, Sequence[InvariantGroup], DigitsRecipe, torch.Tensor], Setup]


def sgdm(model: nn.Module, groups: Any, plan: DigitsRecipe, images: torch.Tensor) -> Setup:
    """The recipe as it is."""
    split = split_param_groups(model, groups, lr=plan.lr, weight_decay=plan.weight_decay)
    optimizer = torch.optim.SGD(split, momentum=plan.momentum)
    drops = MultiStepLR(optimizer, list(plan.milestones), 1.0 / plan.lr_drop)
    return Setup(optimizer, drops, plan.momentum, plan.lr)


def adagrad_g(model: nn.Module, groups: Any, plan: DigitsRecipe, images: torch.Tensor) -> Setup:
    """SGD without momentum at lr/(1 - momentum), on spheres; the others as in the recipe."""
    rate = plan.lr / (1.0 - plan.momentum)
    split = split_param_groups(
        model,
        groups,
        lr=plan.lr,
        weight_decay=plan.weight_decay,
        momentum=plan.momentum,
        invariant={"lr": rate, "momentum": 0.0},
    )
    optimizer = AdaGradG.from_sgd(model, groups, torch.optim.SGD(split))
    drops = MultiStepLR(optimizer, list(plan.milestones), 1.0 / plan.lr_drop)
    return Setup(optimizer, drops, 0.0, rate)


def rotational(model: nn.Module, groups: Any, plan: DigitsRecipe, images: torch.Tensor) -> Setup:
    """Each step turned by exactly the equilibrium angle."""
    setup = sgdm(model, groups, plan, images)
    setup.keep = Rotational(model, setup.optimizer, groups)
    return setup


def rescaled(model: nn.Module, groups: Any, plan: DigitsRecipe, images: torch.Tensor) -> Setup:
    """Rescaled at each drop."""
    setup = sgdm(model, groups, plan, images)
    setup.keep = RescaleOnDecay(model, setup.optimizer, groups, images)
    return setup


def exponential(model: nn.Module, groups: Any, plan: DigitsRecipe, images: torch.Tensor) -> Setup:
    """No weight decay, a growing rate."""
    setup = sgdm(model, groups, plan, images)
    setup.scheduler = ExponentialSchedule(
        model, setup.optimizer, groups, setup.scheduler, example_inputs=images
    )
    return setup


def started(model: nn.Module, groups: Any, plan: DigitsRecipe, images: torch.Tensor) -> Setup:
    """From the equilibrium norm."""
    setup = sgdm(model, groups, plan, images)
    batches = itertools.islice(plan._batches(load_digits()), PROBES)
    scale_to_equilibrium(
        model, setup.optimizer, groups, batches, lambda b: F.cross_entropy(model(b[0]), b[1])
    )
    return setup


def proportional(model: nn.Module, groups: Any, plan: DigitsRecipe, images: torch.Tensor) -> Setup:
    """From the equilibrium norm, with decay in proportion to the rate."""
    setup = started(model, groups, plan, images)
    setup.keep = ProportionalDecay(model, setup.optimizer, groups)
    return setup


METHODS: dict[str, Make] = {
    "sgdm": sgdm,
    "adagrad_g": adagrad_g,
    "rotational": rotational,
    "rescale": rescaled,
    "exponential": exponential,
    "start": started,
    "start_adamc": proportional,
}


@dataclasses.dataclass
class Outcome:
    """One training: final loss, test accuracy, and by stage angle over target and steps to 5%."""

    loss: float
    accuracy: float
    ratio: list[float]
    steps_to_target: list[float]


def prepare(make: Make, plan: DigitsRecipe) -> tuple[nn.Module, Any, Setup]:
    """Model, groups and the method attached."""
    model, _, images = plan.build()
    groups = find_groups(model, images)
    return model, groups, make(model, groups, plan, images)


def one_step(model: nn.Module, setup: Setup, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Train on one batch; the loss, which this small a run may wait for."""
    setup.optimizer.zero_grad()
    loss = F.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    setup.optimizer.step()
    setup.scheduler.step()
    return float(loss.detach())


def train(name: str, plan: DigitsRecipe) -> Outcome:
    """Train to the end, watching every step."""
    model, groups, setup = prepare(METHODS[name], plan)
    members, losses, angles, targets = bind(model, groups), [], [], []
    for step, batch in enumerate(plan._batches(load_digits())):
        share = plan.lr_drop ** -sum(step >= milestone for milestone in plan.milestones)
        decay = plan.weight_decay * (share if isinstance(setup.keep, ProportionalDecay) else 1.0)
        hp = HyperParameters("sgd", setup.rate * share, decay, setup.momentum)
        targets.append(theory.equilibrium_angle(hp))
        before = [p.detach().clone() for p in members.parameters]
        losses.append(one_step(model, setup, batch))
        moved = [p.detach() - b for p, b in zip(members.parameters, before, strict=True)]
        ww, wd, dd = (
            members.sums(a, b) for a, b in ((before, before), (before, moved), (moved, moved))
        )
        across = (dd - wd * wd / ww).clamp_min(0.0).sqrt() * ww.sqrt()
        angles.append(torch.atan2(across, ww + wd).numpy())
    ratios = np.stack(angles) / np.array(targets)[:, None]
    ends = [*plan.milestones, plan.steps]
    stages = [ratios[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    return Outcome(
        float(np.mean(losses[-WINDOW:])),
        plan.evaluate(model, load_digits()),
        [float(stage[-max(1, len(stage) // 4) :].mean()) for stage in stages],
        [steps_to_target(stage.mean(axis=1)) for stage in stages],
    )


def steps_to_target(ratio: np.ndarray) -> float:
    """First step from which two running means in a row are within 5% of 1; NaN if none."""
    if len(ratio) < 2 * WINDOW:
        return float("nan")
    means = np.convolve(ratio, np.ones(WINDOW) / WINDOW, "valid")
    near = np.abs(means - 1.0) < 0.05
    both = np.flatnonzero(near[:-WINDOW] & near[WINDOW:])
    return float(both[0]) if both.size else float("nan")


def cost(name: str, plan: DigitsRecipe, pairs: int = 7, block: int = 10) -> float:
    """Median ratio of this method's step time to SGDM's, blocks in turn."""
    # No drops: what is timed is an ordinary step.
    plan = dataclasses.replace(plan, steps=2 * block * (pairs + 1), milestones=())
    runs = {key: prepare(METHODS[key], plan) for key in ("sgdm", name)}
    batches = list(plan._batches(load_digits()))
    ratios = []
    for pair in range(pairs + 1):
        seconds = {}
        order = ("sgdm", name) if pair % 2 else (name, "sgdm")
        for key in order:
            model, _, setup = runs[key]
            start = time.perf_counter()
            for batch in batches[pair * block : (pair + 1) * block]:
                one_step(model, setup, batch)
            seconds[key] = time.perf_counter() - start
        ratios.append(seconds[name] / seconds["sgdm"])
    return float(np.median(ratios[1:]))


def summary(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± standard error over seeds; what is NaN in a seed is left out and counted."""
    kept = np.array([v for v in values if np.isfinite(v)])
    if not kept.size:
        return "-"
    text = f"{kept.mean():.{digits}f}"
    if kept.size > 1:
        text += f" ± {kept.std(ddof=1) / np.sqrt(kept.size):.{digits}f}"
    return text + (f" ({kept.size} of {len(values)})" if kept.size < len(values) else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=DEFAULTS.steps)
    parser.add_argument("--width", type=int, default=DEFAULTS.width)
    parser.add_argument("--threads", type=int, default=1, help="more do not pay off at this size")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    shrunk = options.steps / DEFAULTS.steps
    plan = DigitsRecipe(
        steps=options.steps,
        milestones=tuple(round(m * shrunk) for m in DEFAULTS.milestones),
        width=options.width,
    )
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {plan}")
    print(
        "| method | train loss | test accuracy, % | angle / target, by stage "
        "| steps to 5%, by stage | step time / SGDM's |"
    )
    print("|---|---|---|---|---|---|")
    for name in options.only:
        seeds = range(options.seeds)
        found = [train(name, dataclasses.replace(plan, seed=seed)) for seed in seeds]
        stages = range(len(found[0].ratio))
        print(
            f"| {name} | {summary([o.loss for o in found])} "
            f"| {summary([100 * o.accuracy for o in found], 2)} "
            f"| {', '.join(summary([o.ratio[s] for o in found]) for s in stages)} "
            f"| {', '.join(summary([o.steps_to_target[s] for o in found], 0) for s in stages)} "
            f"| {cost(name, plan):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
