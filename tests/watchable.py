"""Networks of which only some weights are scale-invariant, for tests of several rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class TiedGPT(nn.Module):
    """A pre-LN GPT of two blocks whose head is its embedding."""

    def __init__(self, width: int = 16, tokens: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(tokens, width), nn.Embedding(6, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(2))
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.head(self.ln_f(x))


class Block(nn.Module):
    """Causal attention and a GELU layer, each after a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, length = self.ln_1(x), x.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.out(F.gelu(self.fc(self.ln_2(x))))


class HalfNormed(nn.Module):
    """A layer of which a norm takes the first six of eight rows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.head = nn.Linear(5, 8), nn.GroupNorm(1, 6), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x)
        return self.head(torch.cat([self.norm(y[:, :6]), y[:, 6:]], dim=1))


class LastState(nn.Module):
    """An LSTM with a head on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Unrunnable(nn.Module):
    """A model whose forward runs on no input."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.temperature = nn.Linear(4, 3), nn.Parameter(torch.tensor(2.0))

    def forward(self, *_: object) -> torch.Tensor:
        raise RuntimeError("this model runs in its trainer only")


class Case(NamedTuple):
    """A network, inputs for it, and the names of all its groups by kind."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], torch.Tensor]
    certified: Sequence[str]
    plain: Sequence[str]
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))


def partly_certified() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


CASES = {
    "MLP without norms": Case(mlp, lambda: torch.randn(16, 6), (), ("0", "2")),
    "tied GPT": Case(
        TiedGPT,
        lambda: torch.randint(12, (8, 6)),
        (),
        (
            *("wte", "wpe"),
            *(f"h.{i}.{name}" for i in (0, 1) for name in ("attn", "attn.out_proj", "fc", "out")),
        ),
    ),
    "conv net, partly certified": Case(
        partly_certified, lambda: torch.randn(8, 1, 6, 6), ("0",), ("3", "6")
    ),
    "layer, six of eight rows": Case(
        HalfNormed, lambda: torch.randn(16, 5), ("fc",), ("fc.weight", "head")
    ),
    "embeddings, sparse gradients": Case(
        lambda: nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Tanh(), nn.Linear(4, 2)),
        lambda: torch.randint(9, (32,)),
        (),
        ("0", "2"),
        lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
    ),
    "LSTM": Case(
        LastState,
        lambda: torch.randn(8, 3, 4),
        (),
        ("lstm.weight_ih_l0", "lstm.weight_hh_l0", "head"),
    ),
}
