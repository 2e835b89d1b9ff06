"""What a look at a few entries sees, and how often it misses what."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spherical_motion.measure.writes import LINE, LINES, Writes

LOOKED_AT = LINES * LINE


def watched(
    words: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, Writes]:
    """A tensor, its copy (which must be kept alive), and what compares them."""
    tensor = torch.rand(words * 4 // dtype.itemsize, dtype=dtype) + 0.5
    copy = tensor.clone()
    writes = Writes(np.array([copy.data_ptr()]), np.array([copy.nbytes]))
    writes.remember([tensor])
    return tensor, copy, writes


def seen(writes: Writes, tensor: torch.Tensor) -> bool:
    return writes.seen([tensor], np.array([tensor.data_ptr()]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("words", [2, LOOKED_AT, LOOKED_AT + 2, 5_000, 262_144])
def test_equal_tensors_are_never_called_written(words: int, dtype: torch.dtype) -> None:
    tensor, _copy, writes = watched(words, dtype)
    assert not any(seen(writes, tensor) for _ in range(300))


@pytest.mark.parametrize("words", [2, LOOKED_AT + 2, 5_000, 262_144])
def test_a_write_to_every_word_is_always_seen(words: int) -> None:
    for _ in range(100):
        tensor, copy, writes = watched(words)
        tensor.data.mul_(1 + 2e-7)
        assert (tensor != copy).all()
        assert seen(writes, tensor)


def test_of_a_small_tensor_each_word_is_looked_at() -> None:
    for word in range(LOOKED_AT):
        tensor, _copy, writes = watched(LOOKED_AT)
        tensor.data[word] += 1.0
        assert seen(writes, tensor)


def test_bits_are_compared_and_not_numbers() -> None:
    tensor, copy, writes = watched(8)
    tensor.data[0] = copy[0] = torch.nan
    assert not seen(writes, tensor)
    tensor.data[1] = 0.0
    copy[1] = -0.0
    assert seen(writes, tensor)


def test_a_single_word_is_seen_as_often_as_the_docstring_says() -> None:
    words = 10 * LOOKED_AT
    hits = []
    for word in (0, 1, 3 * words // 7, words // 2, words - 1):
        tensor, _copy, writes = watched(words)
        tensor.data[word] += 1.0
        hits.append(np.mean([seen(writes, tensor) for _ in range(2_000)]))
    assert hits == pytest.approx([0.1] * 5, abs=0.03)


def test_in_time_every_word_is_looked_at() -> None:
    words = 4 * LOOKED_AT
    missed = []
    for word in range(words):
        tensor, _copy, writes = watched(words)
        tensor.data[word] += 1.0
        if not any(seen(writes, tensor) for _ in range(400)):
            missed.append(word)
    assert missed == []


@pytest.mark.parametrize(("share", "piece"), [(0.02, False), (0.3, True)])
def test_a_share_is_missed_as_often_as_the_docstring_says(share: float, piece: bool) -> None:
    words = 20_000
    tensor, _copy, writes = watched(words)
    rng = np.random.default_rng(1)
    missed = []
    for _ in range(1_500):
        changed = tensor.clone()
        if piece:
            start = int(rng.integers(0, words - int(share * words)))
            changed[start : start + int(share * words)] += 1.0
        else:
            changed[torch.from_numpy(rng.random(words) < share)] += 1.0
        writes.remember([changed])
        missed.append(not seen(writes, changed))
    expected = (1 - share) ** (LINES if piece else LOOKED_AT)
    assert np.mean(missed) == pytest.approx(expected, rel=0.35 if not piece else 1.0)


def test_what_torch_counts_is_seen_wherever_it_is() -> None:
    for write in (
        lambda w: w[123_456:123_457].zero_(),
        lambda w: w.view(2, -1)[1, 7:8].mul_(2.0),
        lambda w: w.detach()[9:10].add_(1.0),
    ):
        tensor, _copy, writes = watched(200_000)
        assert not seen(writes, tensor)
        write(tensor)
        assert seen(writes, tensor)


def test_tensors_whose_writes_torch_does_not_count_are_always_called_written() -> None:
    with torch.inference_mode():
        tensor = torch.ones(3)
    copy = tensor.clone()
    writes = Writes(np.array([copy.data_ptr()]), np.array([copy.nbytes]))
    writes.remember([tensor])
    assert seen(writes, tensor)
