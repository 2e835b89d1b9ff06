"""The data of the table: what this package and every Python bring along.

Images are the embedded digits. Some labels of each batch are drawn at random, so that the loss
never vanishes and gradients stay alive. Text is Python's own help (`pydoc_data.topics`).
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Iterator
from pydoc_data.topics import topics

import torch

from spherical_motion.recipes.digits import CLASSES, load_digits

__all__ = ["CHARACTERS", "LETTERS", "TOPICS", "WORDS", "characters", "digits", "words"]

RELABELLED = 0.2
"""Share of labels that are drawn at random."""

CHARACTERS = 128
"""ASCII. About 30 of them never occur in the text, so their embeddings never see a gradient."""

WORDS = 500
"""Words of the embedding tables: a padding row, one for all rare words, and the most common."""

LETTERS = 27
TOPICS = len(topics)


def digits(seed: int, size: int = 32) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images (size, 1, 8, 8) and labels (size,)."""
    data, generator = load_digits(), torch.Generator().manual_seed(seed)
    count = len(data.train_labels)
    while True:
        chosen = torch.randint(0, count, (size,), generator=generator)
        others = torch.randint(0, CLASSES, (size,), generator=generator)
        noise = torch.rand(size, generator=generator) < RELABELLED
        labels = torch.where(noise, others, data.train_labels[chosen])
        yield data.train_images[chosen], labels


def characters(
    seed: int, size: int = 8, length: int = 32
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Windows of text (size, length) and the characters that follow (size, length)."""
    text, generator = _text(), torch.Generator().manual_seed(seed)
    while True:
        start = torch.randint(0, len(text) - length - 1, (size, 1), generator=generator)
        window = text[start + torch.arange(length + 1)]
        yield window[:, :-1], window[:, 1:]


def words(seed: int, size: int = 64) -> Iterator[tuple[torch.Tensor, ...]]:
    """Word, the word before it (0 at the start of a text), topic; the two next words, a letter."""
    rows, generator = _word_rows(), torch.Generator().manual_seed(seed)
    while True:
        yield tuple(rows[torch.randint(0, len(rows), (size,), generator=generator)].T)


@functools.cache
def _text() -> torch.Tensor:
    joined = "\n".join(topics.values()).encode("ascii", "replace")
    return torch.frombuffer(bytearray(joined), dtype=torch.uint8).long()


@functools.cache
def _word_rows() -> torch.Tensor:
    """(rows, 6): word, word before, topic, next word, the one after, first letter of the next."""
    texts = [re.findall(r"[a-z_]+", text.lower()) for text in topics.values()]
    common = collections.Counter(word for text in texts for word in text).most_common(WORDS - 2)
    index = {word: i + 2 for i, (word, _) in enumerate(common)}
    rows = []
    for topic, text in enumerate(texts):
        ids = [0, *(index.get(word, 1) for word in text)]
        for i in range(1, len(ids) - 2):
            letter = ord(text[i][0]) - ord("a") if text[i][0] != "_" else LETTERS - 1
            rows.append((ids[i], ids[i - 1], topic, ids[i + 1], ids[i + 2], letter))
    return torch.tensor(rows)
