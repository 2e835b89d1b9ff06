"""A net of embedding tables and heads, as in skip-gram models and recommenders; no norm."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

from balance.data import LETTERS, TOPICS, WORDS, words
from balance.net import Batch, Net

__all__ = ["NETS", "RARE", "Tables"]


class Tables(nn.Module):
    """Three tables are added, one hidden layer follows, three heads read it.

    Words are rare or common as in any language: with 64 examples a step the middle row of the
    table of words sees a gradient every 24 steps, with 4 examples every 380. Row 0 of `before` is
    padding and never sees one.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.word = nn.Embedding(WORDS, width)
        self.before = nn.Embedding(WORDS, width, padding_idx=0)
        self.topic = nn.Embedding(TOPICS, width)
        for table in (self.word, self.before, self.topic):
            nn.init.normal_(table.weight, std=0.3)
        self.hidden = nn.Linear(width, 2 * width)
        self.next, self.after = nn.Linear(2 * width, WORDS), nn.Linear(2 * width, WORDS)
        self.letter = nn.Linear(2 * width, LETTERS)

    def forward(
        self, word: torch.Tensor, before: torch.Tensor, topic: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Logits of the next word, the word after it, and the first letter of the next."""
        x = self.word(word) + self.before(before) + self.topic(topic)
        hidden = F.relu(self.hidden(x))
        return self.next(hidden), self.after(hidden), self.letter(hidden)


def words_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Sum of the three cross entropies."""
    logits = model(*batch[:3])
    losses = [F.cross_entropy(x, y) for x, y in zip(logits, batch[3:], strict=True)]
    return torch.stack(losses).sum()


def tables(name: str, size: int) -> Net:
    """The net with batches of `size` examples."""
    return Net(
        name,
        Tables,
        functools.partial(words, size=size),
        words_loss,
        f"3 embedding tables, a hidden layer, 3 heads, no norm; {size} words of text a step",
        {"sgd": 0.1, "adam": 2e-3},
        {"sgd": 1e-3, "adam": 1e-4, "adamw": 0.1},
    )


NETS = (tables("tables and heads", 64),)
RARE = tables("tables, rare words", 4)
