"""The number of threads follows what calls take, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from spherical_motion.measure import CpuGram
from spherical_motion.measure.thread_choice import AGAIN, PAST, TRIALS, ThreadChoice
from spherical_motion.measure.tiles import SHARE


def driven(choice: ThreadChoice, calls: int, seconds: Callable[[int, int], float]) -> list[int]:
    """The numbers of threads of some calls, which take `seconds(threads, call)`."""
    used = []
    for call in range(calls):
        used.append(choice.threads)
        choice.took(seconds(choice.threads, call))
    return used


@pytest.mark.parametrize(
    ("most", "times", "expected"),
    [
        (1, {1: 1.0}, 1),
        (2, {1: 1.0, 2: 0.6}, 2),
        (2, {1: 1.0, 2: 0.95}, 1),  # not worth waking a thread
        (2, {1: 1.0, 2: 3.0}, 1),
        (6, {1: 1.0, 2: 0.6, 4: 0.4, 6: 0.39}, 4),
        (8, {1: 1.0, 2: 1.2, 4: 0.5, 8: 0.3}, 8),
    ],
)
def test_the_fewest_that_are_clearly_fastest(
    most: int, times: Mapping[int, float], expected: int
) -> None:
    choice = ThreadChoice(most)
    trial = PAST + TRIALS * len(times)
    used = driven(choice, trial + 50, lambda threads, _: times[threads])
    assert used[:PAST] == [1] * PAST
    if most > 1:
        assert {used[PAST:trial].count(count) for count in times} == {TRIALS}
    assert set(used[trial:]) == {expected}


def test_calls_that_were_disturbed_do_not_decide() -> None:
    rng = np.random.default_rng(0)

    def seconds(threads: int, call: int) -> float:
        return (1.0 if threads == 1 else 0.6) + 20.0 * (rng.random() < 0.2) + 9.0 * (call == 0)

    choice = ThreadChoice(2)
    assert set(driven(choice, 100, seconds)[PAST + 2 * TRIALS :]) == {2}


def test_a_machine_that_becomes_busy_is_noticed() -> None:
    choice = ThreadChoice(2)
    used = driven(
        choice, 2 * AGAIN, lambda n, call: (1.0, 0.6 if call < AGAIN // 2 else 1.5)[n - 1]
    )
    assert set(used[PAST + 2 * TRIALS : AGAIN]) == {2}
    assert set(used[AGAIN + PAST + 2 * TRIALS :]) == {1}


@pytest.mark.parametrize("entries", [1_000, SHARE + 1, 5 * SHARE])
def test_the_kernel_tries_more_threads_only_where_there_is_work(entries: int, monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    weight = torch.zeros(entries)
    out, used = np.empty((1, 6)), set()
    with CpuGram([weight], [(0, 0, 0, entries)]) as measure:
        for _ in range(PAST + 3 * TRIALS):
            used.add(measure.threads)
            measure([weight], [weight], [weight], out)
    assert used == ({1, 2, 4} if entries == 5 * SHARE else {1})
