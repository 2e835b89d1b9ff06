"""What measuring costs on the weights of ResNet-50 and MobileNetV2, against reading them once.

    python benchmarks/gram_kernel.py --repeats 30
    python benchmarks/gram_kernel.py --only pull      # the seventh product against the six

All candidates alternate within one run, and each ratio is taken between neighbours in time, so
that a busy machine disturbs both sides. Three figures are promised:

- the backend (a look at the snapshot that rolled along, sums, and rolling it on) costs at most
  1.35 × the floor on ResNet-50's 53 convolutions, and 1.8 × on MobileNetV2's 52, where the floor
  is `torch.dot` over as many bytes on as many threads;
- the kernel alone costs as much for 26,560 filters as for 53 layers;
- copying the weights and measuring all six products is at least 3 × cheaper than cloning them and
  taking one float32 cosine, arccos and `.item()` a layer. What it is in a training loop,
  monitor_overhead.py says.

With the seventh product, wp of Adam, the kernel costs at most 1.4 × that of the six on large
tensors and 1.6 × on many small ones; for SGD, which has no state to read, the same. `call` counts
all of `CpuGram.__call__`, and `call + reading` also what looks up the state of each tensor: at most
1.4 × the call of the six on large tensors and 1.7 × on many small ones. These are seconds of the
processor on one thread, each taken straight after a step of the optimizer, as in training.

The floor is timed twice over: with the kernel straight after it, and after a rest, in which torch's
threads have fallen asleep. The first is what training is like, the second what the kernel can do.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence

import numba
import numpy as np
import torch

from spherical_motion.binding import StateReader, preconditioner_rule
from spherical_motion.measure import CpuBackend, CpuGram, RowSet

REST = 0.02
"""Seconds after which torch's threads sleep. Straight after an operation they spin on their cores
for some milliseconds, waiting for the next, which in training is what the kernel finds."""

WARM = 20
"""Rounds before the first that counts; in the first calls the kernel tries numbers of threads."""

Shape = tuple[int, int, int, int]


def resnet50_convolutions() -> list[Shape]:
    """Weight shapes (out, in, height, width) of He et al. (2016), bottleneck version."""
    shapes: list[Shape] = [(64, 3, 7, 7)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += [(width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                shapes.append((4 * width, inputs, 1, 1))
            inputs = 4 * width
    return shapes


def mobilenet_convolutions() -> list[Shape]:
    """Weight shapes of Sandler et al. (2018): 52 convolutions, many of them small."""
    shapes: list[Shape] = [(32, 3, 3, 3)]
    inputs = 32
    stages = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    for factor, width, blocks in stages:
        for _ in range(blocks):
            hidden = inputs * factor
            if factor > 1:
                shapes.append((hidden, inputs, 1, 1))
            shapes += [(hidden, 1, 3, 3), (width, hidden, 1, 1)]
            inputs = width
    return [*shapes, (1280, inputs, 1, 1)]


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(
    floor: Callable[[], object],
    candidates: dict[str, Callable[[], object]],
    repeats: int,
    rest: float,
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each candidate, and of the floor just before it, alternating."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            time.sleep(rest)
            of_floor = seconds(floor)
            time.sleep(rest)
            times[name].append((seconds(candidate), of_floor))
    return times


def spread(values: list[float]) -> str:
    return " / ".join(f"{x:6.2f}" for x in np.percentile(values, [20, 50, 80]))


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


class Workload:
    """One training step's weights, gradients and reused copies, and what is done with them."""

    def __init__(self, shapes: list[Shape]) -> None:
        rng = torch.Generator().manual_seed(0)
        self.weights = [torch.randn(shape, generator=rng) for shape in shapes]
        self.grads = [torch.randn(shape, generator=rng) for shape in shapes]
        self.buffers = [torch.empty_like(w) for w in self.weights]
        self.copy()
        self.older = self.clone()
        for w, g in zip(self.weights, self.grads, strict=True):
            w -= 1e-3 * g
        numbers = 3 * sum(w.numel() for w in self.weights)  # weights, copies and gradients
        self.vectors = torch.randn(2, -(-numbers // 2), generator=rng)

    def floor(self) -> torch.Tensor:
        return torch.dot(*self.vectors)

    def copy(self) -> None:
        for buffer, w in zip(self.buffers, self.weights, strict=True):
            buffer.copy_(w)

    def clone(self) -> list[torch.Tensor]:
        return [w.clone() for w in self.weights]

    def clone_and_arccos(self) -> list[float]:
        """What is done by hand: before the step clones, after it a cosine for each layer."""
        self.clone()
        angles = []
        for w, old in zip(self.weights, self.older, strict=True):
            cosine = torch.nn.functional.cosine_similarity(w.flatten(), old.flatten(), dim=0)
            angles.append(torch.arccos(cosine.clamp(-1, 1)).item())
        return angles

    def backend(self, slices: list[tuple[int, int, int, int]]) -> Callable[[], None]:
        """What the monitor does around each step."""
        backend = CpuBackend(self.weights, [RowSet(slices)])

        def step() -> None:
            backend.keep(self.weights)
            backend.measure(0, self.weights, self.grads, roll=True)
            backend.read()

        return step

    def kernel(self, slices: list[tuple[int, int, int, int]]) -> Callable[[], None]:
        gram, out = CpuGram(self.weights, slices), np.empty((len(slices), 6))
        return lambda: gram(self.weights, self.older, self.grads, out)


def small_tensors() -> list[tuple[int]]:
    """200 tensors of 1,000 to 4,000 entries."""
    rng = np.random.default_rng(0)
    return [(int(n),) for n in rng.integers(1000, 4000, 200)]


class Stepped:
    """Tensors that AdamW has stepped twice, measured with six and with seven products."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        rng = torch.Generator().manual_seed(0)
        self.weights = [torch.randn(shape, generator=rng) for shape in shapes]
        self.grads = [torch.randn(shape, generator=rng) for shape in shapes]
        for w, g in zip(self.weights, self.grads, strict=True):
            w.grad = g
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-3)
        self.optimizer.step()
        self.before = [w.clone() for w in self.weights]
        self.optimizer.step()
        slices = [(t, 0, 0, shape[0]) for t, shape in enumerate(shapes)]
        self.six, self.seven = (
            CpuGram(self.weights, slices, threads=1, products=n) for n in (6, 7)
        )
        self.out = {n: np.empty((len(slices), n)) for n in (6, 7)}
        rule = preconditioner_rule(self.optimizer)
        assert callable(rule)
        every = [0] * len(self.weights)  # all in the first param group
        self.reader = StateReader(self.optimizer, rule, self.weights, every, with_average=False)
        self.read()
        self.measure_six()  # the sums alone need the addresses that a call writes down
        self.measure_seven()

    def read(self) -> None:
        """What the monitor looks up at each measured step."""
        self.reader.read()

    def seconds_after_a_step(self, part: Callable[[], None]) -> float:
        """Of the processor, so that others on the machine count less."""
        self.optimizer.step()
        begin = time.thread_time()
        part()
        return time.thread_time() - begin

    def measure_six(self) -> None:
        self.six(self.weights, self.before, self.grads, self.out[6])

    def measure_sgd(self) -> None:
        """What a run of SGD with seven products does: no tensor has a preconditioner."""
        self.seven(self.weights, self.before, self.grads, self.out[7])

    def measure_seven(self) -> None:
        self.seven(self.weights, self.before, self.grads, self.out[7], self.reader.table)

    def read_and_measure(self) -> None:
        self.read()
        self.measure_seven()

    def sum_six(self) -> None:
        self.six._sum_tiles(0, len(self.six._table.tiles))

    def sum_seven(self) -> None:
        assert self.seven._pulls is not None
        self.seven._pulls(0, len(self.seven._table.tiles))


def compare_products(repeats: int) -> None:
    """Seven products over six, each pair straight after one another."""
    print(f"\n{'seven products / six':32}{'ratio, p20 / p50 / p80':>26}{'six, CPU ms':>26}")
    sets = {"large": resnet50_convolutions(), "many small": small_tensors()}
    for kind, shapes in sets.items():
        work = Stepped(shapes)
        pairs = {
            "kernel, one thread": (work.sum_six, work.sum_seven),
            "call": (work.measure_six, work.measure_seven),
            "call + reading": (work.measure_six, work.read_and_measure),
            "call, SGD": (work.measure_six, work.measure_sgd),
        }
        for name, pair in pairs.items():
            for part in pair:
                part()
            times = [
                [work.seconds_after_a_step(part) for part in pair]
                for _ in range(repeats if kind == "large" else 10 * repeats)
            ]
            ratios = [seven / six for six, seven in times]
            print(
                f"{kind + ': ' + name:32}{spread(ratios):>26}"
                f"{spread([1e3 * six for six, _ in times]):>26}"
            )


def compare_with_floor(name: str, shapes: list[Shape], repeats: int) -> None:
    """The six products against reading their bytes once, and against measuring by hand."""
    work = Workload(shapes)
    layers = [(t, 0, 0, shape[0]) for t, shape in enumerate(shapes)]
    filters = [(t, 0, i, i + 1) for t, shape in enumerate(shapes) for i in range(shape[0])]
    by_layer, by_filter = work.kernel(layers), work.kernel(filters)

    def copied() -> None:
        work.copy()
        by_layer()

    candidates: dict[str, Callable[[], object]] = {
        "backend, snapshot rolls": work.backend(layers),
        "copy + kernel": copied,
        "copy of the weights": work.copy,
        f"kernel, {len(layers)} layers": by_layer,
        f"kernel, {len(filters):,} filters": by_filter,
        "clone + arccos": work.clone_and_arccos,
    }
    for _ in range(WARM):  # also finds out how many threads are fastest
        for run in (work.floor, *candidates.values()):
            run()
    busy, rested = (measure(work.floor, candidates, repeats, rest) for rest in (0.0, REST))

    entries = sum(w.numel() for w in work.weights)
    print(f"\n{name}: {entries / 1e6:.1f}M float32 weights, {repeats} repeats, p20 / p50 / p80\n")
    print(f"{'':24}{'ms, straight after':>26}{'times the floor':>26}{'and after a rest':>26}")
    for candidate in candidates:
        straight = [1e3 * own for own, _ in busy[candidate]]
        factors = [[own / floor for own, floor in run[candidate]] for run in (busy, rested)]
        print(f"{candidate:24}" + "".join(f"{spread(x):>26}" for x in (straight, *factors)))
    for other in ("backend, snapshot rolls", "copy + kernel"):
        pairs = zip(busy["clone + arccos"], busy[other], strict=True)
        print(f"clone + arccos over {other}: {spread([a / b for (a, _), (b, _) in pairs])}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the Gram kernel on ResNet-50.")
    parser.add_argument("--repeats", type=int, default=30, help="rounds of all candidates")
    parser.add_argument("--only", choices=["floor", "pull"], help="one of the two comparisons")
    options = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads, {platform.platform()}")
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, numba {numba.__version__}"
    )
    if options.only != "pull":
        compare_with_floor("ResNet-50", resnet50_convolutions(), options.repeats)
        compare_with_floor("MobileNetV2", mobilenet_convolutions(), 4 * options.repeats)
    if options.only != "floor":
        compare_products(options.repeats)


if __name__ == "__main__":
    main()
