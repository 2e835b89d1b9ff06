"""Transformers: pre-LN GPTs with tied and untied head and with QK-norm, and a ViT with QK-norm."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

from balance.data import CHARACTERS, characters, digits
from balance.images import image_loss
from balance.net import Batch, Net

__all__ = ["GPT", "NETS", "ViT"]

HEADS = 4


class PreNormBlock(nn.Module):
    """Attention and a feed-forward part, each behind a layer norm; QK-norm if asked for."""

    def __init__(self, width: int, causal: bool, qk_norm: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        each = width // HEADS
        self.q_norm = nn.LayerNorm(each) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(each) if qk_norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, length, width) to the same shape."""
        n, length, width = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (p.view(n, length, HEADS, -1).transpose(1, 2) for p in parts)
        q, k = self.q_norm(q), self.k_norm(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Two pre-LN blocks over characters."""

    def __init__(self, width: int = 32, tied: bool = False, qk_norm: bool = False) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(CHARACTERS, width), nn.Embedding(32, width)
        self.blocks = nn.Sequential(*(PreNormBlock(width, True, qk_norm) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CHARACTERS, bias=False)
        for table in (self.token, self.place, self.head):
            nn.init.normal_(table.weight, std=0.05)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map characters (n, length) to logits (n, length, CHARACTERS)."""
        x = self.token(ids) + self.place(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


class ViT(nn.Module):
    """Two pre-LN blocks with QK-norm over 16 patches of 2 × 2."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, 2)
        self.place = nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.Sequential(*(PreNormBlock(width, False, True) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (n, 1, 8, 8) to logits (n, 10)."""
        x = self.patch(images).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(x)).mean(1))


def text_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross entropy of the next character."""
    ids, following = batch
    return F.cross_entropy(model(ids).flatten(0, 1), following.flatten())


LR = {"sgd": 0.1, "adam": 2e-3}
WEIGHT_DECAY = {"sgd": 1e-3, "adam": 1e-4, "adamw": 0.1}

NETS = (
    *(
        Net(
            name,
            functools.partial(GPT, tied=tied, qk_norm=qk_norm),
            characters,
            text_loss,
            f"2 pre-LN blocks, 32 wide, {note}; characters of English text",
            LR,
            WEIGHT_DECAY,
        )
        for name, tied, qk_norm, note in (
            ("GPT, tied", True, False, "the head is the embedding"),
            ("GPT, untied", False, False, "head and embedding apart"),
            ("GPT, QK-norm", False, True, "untied, layer norm on queries and keys"),
        )
    ),
    Net(
        "ViT, QK-norm",
        ViT,
        digits,
        image_loss,
        "2 pre-LN blocks, 32 wide, layer norm on queries and keys; digits",
        {"sgd": 0.05, "adam": 2e-3},
        {"sgd": 5e-3, "adam": 2e-3, "adamw": 0.5},
    ),
)
