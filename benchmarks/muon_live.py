"""Muon on three small networks: does each matrix turn as the correlation of its updates says?

    python benchmarks/muon_live.py [--steps 4000] [--nets conv mlp vit] [--seed 0]

Muon steps the hidden matrices, AdamW all else; one monitor watches both optimizers and records the
correlation of one Muon matrix's updates in each burst. One row a matrix: c with its spread between
bursts, and the angle over the second half of the run divided by the balance law's, twice: with the
measured c, and with Adam's (1 + β)/(1 - β) for contrast. The data are the embedded digits, a fifth
of them relabelled at random in each batch, so that gradients do not die out.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import spherical_motion as smd
from spherical_motion import theory
from spherical_motion.comparison.memory import UpdateMemory, memory_of
from spherical_motion.recipes.digits import load_digits
from spherical_motion.vocabulary import HyperParameters

LR, DECAY = 0.02, 0.1
MOMENTA = ((0.9, False), (0.95, True))
"""β, and whether with Nesterov's step."""

BATCH, RELABELLED = 64, 0.2


class MatrixConv(nn.Module):
    """A 3×3 convolution whose filters are the rows of one matrix, as Muon takes them."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outside, 9 * inside) / math.sqrt(9 * inside))
        self.inside, self.stride = inside, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        filters = self.weight.view(-1, self.inside, 3, 3)
        return F.conv2d(x, filters, stride=self.stride, padding=1)


class Block(nn.Module):
    """Pre-norm attention and a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, shape = self.norm1(x), (*x.shape[:2], self.heads, -1)
        q, k, v = (m(y).view(shape).transpose(1, 2) for m in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """Two blocks over the sixteen 2×2 patches of a digit."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.blocks(x)).mean(1))


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(),
        MatrixConv(16, 32), nn.GroupNorm(4, 32), nn.ReLU(),
        MatrixConv(32, 32, stride=2), nn.GroupNorm(4, 32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(),
        nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10),
    )  # fmt: skip


NETS = {"conv": conv, "mlp": mlp, "vit": ViT}


@dataclasses.dataclass(frozen=True)
class Found:
    """One matrix of one run: its c, and measured angle over the law's with it and with Adam's."""

    net: str
    momentum: float
    nesterov: bool
    matrix: str
    memory: UpdateMemory
    ratio: float
    adam_ratio: float

    @property
    def text(self) -> str:
        beta = f"{self.momentum:g}{' N' if self.nesterov else ''}"
        spread = f"{self.memory.spread:.0%}" if self.memory.bursts > 1 else "–"
        return (
            f"{self.net:5} {beta:7} {self.matrix:16} {self.memory.correlation:6.1f} {spread:>6} "
            f"{self.memory.bursts:7d} {self.ratio:8.3f} {self.adam_ratio:8.3f}"
        )


def batches(steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    digits, generator = load_digits(), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(digits.train_labels), (BATCH,), generator=generator)
        wrong = torch.rand(BATCH, generator=generator) < RELABELLED
        others = torch.randint(10, (BATCH,), generator=generator)
        labels = torch.where(wrong, others, digits.train_labels[chosen])
        yield digits.train_images[chosen], labels


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """What Muon steps: all matrices but the last layer's."""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and parameter is not head.weight
    }


def measure(
    net: str, momentum: float, nesterov: bool, steps: int, seed: int, directory: Path
) -> list[Found]:
    torch.manual_seed(seed)
    model = NETS[net]()
    hidden = hidden_matrices(model)
    ours = {id(parameter) for parameter in hidden.values()}
    muon = torch.optim.Muon(
        list(hidden.values()), lr=LR, weight_decay=DECAY, momentum=momentum, nesterov=nesterov
    )
    rest = [parameter for parameter in model.parameters() if id(parameter) not in ours]
    adamw = torch.optim.AdamW(rest, lr=2e-3, weight_decay=DECAY)
    burst = round(15 / (1 - momentum))
    with smd.watch(
        model, [muon, adamw], directory=directory, groups="plain", correlation_every=burst,
        quiet=True,
    ):  # fmt: skip
        for images, labels in batches(steps, seed):
            model.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            muon.step()
            adamw.step()
    return list(judge(directory, net, momentum, nesterov))


def judge(directory: Path, net: str, momentum: float, nesterov: bool) -> Iterator[Found]:
    """Every matrix with bursts on record, over the second half of the run."""
    records = smd.read(directory)
    late = records.steps >= records.steps[-1] // 2
    hp = HyperParameters("muon", LR, DECAY, momentum, nesterov=nesterov)
    for index, name in enumerate(records.groups):
        memory = memory_of(records, name)
        if memory is None:
            continue
        ratios = [
            theory.balance(
                hp,
                records.gram[late, index],
                steps=records.steps[late],
                lr=LR,
                weight_decay=DECAY,
                momentum=momentum,
                correlation=c,
            ).ratio
            for c in (memory.correlation, (1 + momentum) / (1 - momentum))
        ]
        yield Found(net, momentum, nesterov, name, memory, *ratios)


def summary(name: str, ratios: Sequence[float]) -> str:
    logs = np.log(ratios)
    return (
        f"{name}: {len(ratios)} matrices, {min(ratios):.2f} to {max(ratios):.2f}, geometric mean "
        f"{math.exp(logs.mean()):.2f}, rms distance from 1 {math.sqrt((logs**2).mean()):.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--nets", nargs="+", choices=tuple(NETS), default=list(NETS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.machine()}, seed {options.seed}")
    print("net   β       matrix                c spread  bursts   with c   Adam's")
    found: list[Found] = []
    for net in options.nets:
        for momentum, nesterov in MOMENTA:
            with tempfile.TemporaryDirectory() as directory:
                rows = measure(
                    net, momentum, nesterov, options.steps, options.seed, Path(directory) / "run"
                )
            print("\n".join(row.text for row in rows), flush=True)
            found += rows
    print(summary("with the measured c", [row.ratio for row in found]))
    print(summary("with Adam's f      ", [row.adam_ratio for row in found]))


if __name__ == "__main__":
    main()
