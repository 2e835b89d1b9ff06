"""Two versions of the library on the same hot paths, in turn: is the new one as fast as the old?

    python benchmarks/two_versions.py OLD/src NEW/src [--rounds 31]

Three processes stay alive: old, new, and old again as a control. In each round each runs the same
work once, in turn. Printed are new/old and control/old, median and quartiles over the rounds: a
difference is real only where it exceeds what the control shows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Work = Callable[[], object]


def gram_of_large_tensors() -> Work:
    """Copy and kernel over 8 convolutions of ResNet-50's sizes, through `measure.CpuGram`."""
    import numpy as np
    import torch

    from spherical_motion.measure import CpuGram

    shapes = [(512, 512, 3, 3), (256, 256, 3, 3), (1024, 256, 1, 1), (2048, 512, 1, 1)] * 2
    tensors = [torch.randn(shape) for shape in shapes]
    after = [t + 1e-3 * torch.randn_like(t) for t in tensors]
    grads: list[torch.Tensor | None] = [torch.randn_like(t) for t in tensors]
    slices = np.array([(i, 0, 0, len(t)) for i, t in enumerate(tensors)])
    kernel, out = CpuGram(tensors, slices), np.empty((len(tensors), 6))
    return lambda: [kernel(after, tensors, grads, out) for _ in range(3)]


def _small_net() -> tuple[object, object, Callable[[], None]]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    blocks = [
        part
        for _ in range(6)
        for part in (nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    ]
    model = nn.Sequential(nn.Conv2d(1, 16, 3), *blocks, nn.Flatten(), nn.Linear(576, 10))
    x, y = torch.randn(16, 1, 8, 8), torch.randint(10, (16,))
    nn.functional.cross_entropy(model(x), y).backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]

    def give_gradients() -> None:
        for p, g in zip(model.parameters(), grads, strict=True):
            p.grad = g

    return model, x, give_gradients


def _steps(tool: str) -> Work:
    """100 optimizer steps with ready gradients under a tool: the hooks are what differs."""
    import tempfile

    import torch

    import spherical_motion as smd

    model, x, give_gradients = _small_net()
    groups = smd.find_groups(model, x)
    plain = {"lr": 1e-3, "weight_decay": 1e-3}
    if tool in ("AdaGradG", "AdamG"):
        optimizer = getattr(smd.optim, tool)(model, groups, lr=1e-3)
    elif tool == "rotational adamw":
        optimizer = torch.optim.AdamW(model.parameters(), **plain)
    else:
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, **plain)
    acting: object = None  # held by `work`, so that it lives as long
    if tool == "monitor":
        acting = smd.Monitor(model, optimizer, groups, tempfile.mkdtemp(), quiet=True)
    elif tool.startswith("rotational"):
        acting = smd.optim.Rotational(model, optimizer, groups)
    elif tool == "RescaleOnDecay":
        acting = smd.optim.RescaleOnDecay(model, optimizer, groups, example_inputs=x)
    give_gradients()

    def work() -> object:
        for _ in range(100):
            optimizer.step()
        return acting

    return work


def finding() -> Work:
    """`find_groups` on the small network."""
    import spherical_motion as smd

    model, x, _ = _small_net()
    return lambda: smd.find_groups(model, x)


def comparing() -> Work:
    """`compare` on a recorded run of 8 groups × 2,000 steps, rows and curves."""
    import tempfile

    import torch

    import spherical_motion as smd

    model, x, give_gradients = _small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-2)
    directory = tempfile.mkdtemp()
    with smd.watch(model, optimizer, x, directory, quiet=True):
        give_gradients()
        for _ in range(2000):
            optimizer.step()
    return lambda: [len(smd.compare(directory).rows)]


def predicting() -> Work:
    """1,000 predictions by the closed forms."""
    import spherical_motion as smd

    hp = smd.HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)

    def work() -> None:
        for _ in range(1000):
            smd.theory.equilibrium_angle(hp)
            smd.theory.equilibrium_norm(hp, unit_grad_sq=10.0)

    return work


WORKS: dict[str, Callable[[], Work]] = {
    "kernel, large tensors": gram_of_large_tensors,
    "monitored steps": lambda: _steps("monitor"),
    "AdaGradG steps": lambda: _steps("AdaGradG"),
    "AdamG steps": lambda: _steps("AdamG"),
    "Rotational SGD steps": lambda: _steps("rotational sgd"),
    "Rotational AdamW steps": lambda: _steps("rotational adamw"),
    "RescaleOnDecay steps": lambda: _steps("RescaleOnDecay"),
    "find_groups": finding,
    "compare": comparing,
    "predictions": predicting,
}


def serve(name: str) -> None:
    """A worker: prepare, warm up, then run and time once for each line on standard input."""
    work = WORKS[name]()
    work()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, flush=True)


def _worker(source: str, name: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(source).resolve())}
    command = [sys.executable, __file__, "--serve", name]
    pipe = subprocess.PIPE
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
    assert worker.stdout is not None
    if worker.stdout.readline() != "ready\n":
        raise SystemExit(f"{name!r} failed in {source}")
    return worker


def _timings(workers: list[subprocess.Popen[str]], rounds: int) -> Iterator[list[float]]:
    for _ in range(rounds):
        times = []
        for worker in workers:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            times.append(float(worker.stdout.readline()))
        yield times


def _ratios(times: list[list[float]], which: int) -> str:
    ratios = [row[which] / row[0] for row in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", help="OLD/src NEW/src")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--only", help="one of the works")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if len(options.sources) != 2:
        parser.error("pass the source folders of the two versions: OLD/src NEW/src")
    old, new = options.sources
    print(f"{'':<24} {'new / old, median (quartiles)':<32} control: old / old")
    for name in [options.only] if options.only else WORKS:
        workers = [_worker(source, name) for source in (old, new, old)]
        times = list(_timings(workers, options.rounds))
        for worker in workers:
            worker.kill()
        print(f"{name:<24} {_ratios(times, 1):<32} {_ratios(times, 2)}", flush=True)


if __name__ == "__main__":
    main()
