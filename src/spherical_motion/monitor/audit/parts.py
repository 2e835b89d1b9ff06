"""Tensors as vectors, in parts that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from spherical_motion.measure.layout import lacks_memory

PART = 1 << 16
"""Entries of a part: ten vectors of them in float64 take 5 MB."""

PLAIN = (torch.Tensor, torch.nn.Parameter)
"""Types of tensors that lie in memory as they say."""


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is whole, dense, in memory and of no class of its own."""
    plain = type(tensor) in PLAIN and tensor.layout is torch.strided
    return plain and not lacks_memory(tensor)


def flat(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`tensor` as a vector whose entries follow each other as those of `like` lie in memory.

    It is a view where `tensor` has the strides of `like` and no gaps, else a copy.

    >>> w = torch.arange(6).reshape(2, 3).T
    >>> flat(w, w).tolist(), flat(torch.zeros(3, 2), w).shape
    ([0, 1, 2, 3, 4, 5], torch.Size([6]))
    """
    if like.is_contiguous() and tensor.is_contiguous():
        return tensor.view(-1)
    dense = torch.empty_like(like, device="meta", memory_format=torch.preserve_format).stride()
    if tensor.stride() != dense:
        laid = torch.empty_strided(like.shape, dense, dtype=tensor.dtype)
        tensor = laid.copy_(tensor)
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())


def parts_of(vectors: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
    """The parts of vectors of one length, side by side; none if they are empty."""
    for start in range(0, vectors[0].numel(), PART):
        yield tuple(vector[start : start + PART] for vector in vectors)


def overlapping(tensors: Iterable[torch.Tensor]) -> set[int]:
    """`id` of each tensor that shares memory with another one.

    >>> whole = torch.zeros(10)
    >>> a, b, c = whole[:6], whole[5:], torch.zeros(3)
    >>> overlapping([a, b, c]) == {id(a), id(b)}
    True
    """
    spans = sorted(
        (
            tensor.data_ptr(),
            tensor.data_ptr() + tensor.element_size() * (1 + _reach(tensor)),
            id(tensor),
        )
        for tensor in tensors
        if is_plain(tensor) and tensor.numel()
    )
    found: set[int] = set()
    last_end, last = 0, 0
    for start, end, which in spans:
        if start < last_end:
            found |= {which, last}
        if end > last_end:
            last_end, last = end, which
    return found


def _reach(tensor: torch.Tensor) -> int:
    """Distance in entries from the first to the last in memory."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return sum((length - 1) * stride for length, stride in steps)
