"""What one optimizer step costs on ResNet-50's weights, against torch's SGD.

    python benchmarks/optim_step.py --repeats 30

The steps of all candidates alternate within one run, and each is divided by the step of torch's
SGD (momentum 0.9, weight decay) timed just before it, so a busy machine disturbs both sides. Two
figures are promised, for 53 layers and for 26,560 filters: at most 1.5 × SGD(foreach=True) and at
most 2 × SGD(fused=True). Printed are the 20th, 50th and 80th percentile of the ratios.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from gram_kernel import processor
from torch import nn

from spherical_motion import InvariantGroup, Slice, optim
from spherical_motion.compat import ensure_torchvision

SETTINGS = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}
PROMISED = {"foreach": 1.5, "fused": 2.0}


def resnet50() -> nn.Module:
    """The model with gradients of a plausible size; they are never computed here."""
    ensure_torchvision()
    from torchvision.models import resnet50 as build

    torch.manual_seed(0)
    model = build(weights=None)
    for parameter in model.parameters():
        parameter.grad = 1e-3 * torch.randn_like(parameter)
    return model


def groups_of(model: nn.Module, filters: bool) -> list[InvariantGroup]:
    """Every convolution of a ResNet feeds a batch norm: as layers, or each filter by itself."""
    groups = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        rows, each = module.weight.shape[0], module.weight[0].numel()
        step = 1 if filters else rows
        for start in range(0, rows, step):
            s = Slice(f"{name}.weight", 0, start, start + step)
            label = f"{name}[{start}]" if filters else name
            groups.append(InvariantGroup(label, "scale", (s,), (), step * each, defect=0.0))
    return groups


def candidates(model: nn.Module) -> dict[str, Callable[[], object]]:
    """A step of each optimizer, on a copy of the model of its own."""
    steps: dict[str, Callable[[], object]] = {}

    def copied() -> nn.Module:
        other = copy.deepcopy(model)
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            theirs.grad = mine.grad
        return other

    for label, filters in (("layers", False), ("filters", True)):
        groups = groups_of(model, filters)
        name = f"{len(groups):,} {label}"
        steps[f"AdaGradG, {name}"] = optim.AdaGradG(copied(), groups).step
        steps[f"AdamG, {name}"] = optim.AdamG(copied(), groups).step
        if hasattr(optim, "Rotational"):
            own = copied()
            sgd = torch.optim.SGD(own.parameters(), foreach=True, **SETTINGS)
            optim.Rotational(own, sgd, groups)
            steps[f"SGD(foreach) + Rotational, {name}"] = sgd.step
            own = copied()
            sgd = torch.optim.SGD(own.parameters(), fused=True, **SETTINGS)
            optim.Rotational(own, sgd, groups)
            steps[f"SGD(fused) + Rotational, {name}"] = sgd.step
    return steps


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ratios(
    baseline: Callable[[], object], steps: dict[str, Callable[[], object]], repeats: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Each step over the baseline's just before it, and the baseline's own seconds."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    base: list[float] = []
    for work in (baseline, *steps.values()):
        work()
        work()
    for _ in range(repeats):
        for name, work in steps.items():
            base.append(seconds(baseline))
            found[name].append(seconds(work) / base[-1])
    return found, base


def main() -> None:
    parser = argparse.ArgumentParser(description="Time optimizer steps on ResNet-50.")
    parser.add_argument("--repeats", type=int, default=30, help="rounds of all candidates")
    repeats = parser.parse_args().repeats
    model = resnet50()
    steps = candidates(model)
    entries = sum(p.numel() for p in model.parameters())
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, ", end="")
    print(f"Python {platform.python_version()}; {entries:,} weights, {repeats} repeats")
    for kind, limit in PROMISED.items():
        base = copy.deepcopy(model)
        for mine, theirs in zip(model.parameters(), base.parameters(), strict=True):
            theirs.grad = mine.grad
        sgd = torch.optim.SGD(base.parameters(), **SETTINGS, **{kind: True})
        found, times = ratios(sgd.step, steps, repeats)
        low, mid, high = np.percentile(times, [20, 50, 80]) * 1e3
        print(f"\n× SGD({kind}=True), {low:.1f} / {mid:.1f} / {high:.1f} ms; promised {limit}")
        for name, values in found.items():
            low, mid, high = np.percentile(values, [20, 50, 80])
            verdict = "kept" if mid <= limit else "MISSED"
            print(f"  {name:42s} {low:6.2f} / {mid:6.2f} / {high:6.2f}   {verdict}")


if __name__ == "__main__":
    main()
