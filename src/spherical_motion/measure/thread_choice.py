"""How many threads to sum with, found out by measuring."""

from __future__ import annotations

TRIALS = 7
"""Calls that are timed with each number of threads, in turn, so that all meet the same load."""

PAST = 2
"""Calls before them that are not timed: memory is touched for the first time there."""

GAIN = 0.9
"""More threads are taken if their second fastest call takes less than this share of the time that
the second fastest takes with fewer."""

AGAIN = 5_000
"""Calls after which they are timed again, as the load of the machine may have changed."""


class ThreadChoice:
    """Chooses a number of threads by the time that calls take with each.

    torch's own threads keep spinning on their cores for milliseconds after each of its operations.
    Then a second thread of ours has no core to run on, and one alone does as well; where torch
    uses one thread, or sleeps, two are faster. Which of the two holds, only the running loop shows.

    Args:
        most: the largest number of threads.

    >>> choice = ThreadChoice(most=2)
    >>> for _ in range(20):
    ...     choice.took({1: 8.0, 2: 5.0}[choice.threads])
    >>> choice.threads
    2
    """

    def __init__(self, most: int) -> None:
        self._counts = [1]
        while self._counts[-1] * 2 <= most:
            self._counts.append(self._counts[-1] * 2)
        if self._counts[-1] < most:
            self._counts.append(most)
        self._times: dict[int, list[float]] = {count: [] for count in self._counts}
        self._calls = 0
        self.threads = 1

    def took(self, seconds: float) -> None:
        """A call with `threads` threads took so long; choose for the next."""
        trials = TRIALS * len(self._counts)
        if len(self._counts) == 1:
            return
        if 0 <= self._calls % AGAIN - PAST < trials:
            self._times[self.threads].append(seconds)
        self._calls += 1
        following = self._calls % AGAIN - PAST
        if 0 <= following < trials:
            self.threads = self._counts[following % len(self._counts)]
        elif following == trials:
            self._decide()

    def _decide(self) -> None:
        # Among the fastest, and not the median: what else runs on the machine only makes slower.
        typical = {count: sorted(times)[TRIALS // 4] for count, times in self._times.items()}
        self.threads = self._counts[0]
        for count in self._counts[1:]:
            if typical[count] < GAIN * typical[self.threads]:
                self.threads = count
        self._times = {count: [] for count in self._counts}
