"""Crashes without end: `make torture MINUTES=60 SEED=1` prints what was done, and what was lost.

Each round draws the lives of a run, and then a kill, a failure, power cuts, or a lack of memory at
a call of its own. It ends with exit code 1 at the first value that is lost or wrong, leaves the
directory as it is and names the round, which its seed repeats.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import errno
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from crash.calls import Counting, Failing, Killed, Killing, intercepted
from crash.children import Children
from crash.lives import LIVES, Alone, Life, Threaded, Truth, check, live
from crash.power import Cuts, Recording

ERRORS = (
    *(errno.ENOSPC, errno.EIO, errno.EROFS, errno.EINTR, errno.EDQUOT, errno.EACCES),
    *(errno.EPERM, errno.ENOENT, errno.EEXIST, errno.EMFILE, errno.ESTALE, errno.ENOMEM),
)

MOST_CALLS = 6000
"""About as many calls as the longest run makes."""

Counts = collections.Counter[str]


def main() -> int:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--round", type=int, help="repeat this round alone")
    asked = parser.parse_args()
    memory = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(prefix="torture-", dir=memory if memory.is_dir() else None))
    counts: Counts = collections.Counter()
    children = Children()
    end = time.monotonic() + 60.0 * asked.minutes
    number = asked.round or 0
    try:
        while time.monotonic() < end:
            rng = random.Random(f"{asked.seed} {number}")
            try:
                with contextlib.redirect_stderr(open(os.devnull, "w")):
                    rng.choice(ROUNDS)(base, rng, counts, children)
            except (AssertionError, Exception) as error:
                print(f"seed {asked.seed}, round {number}, in {base}: {error!r}", flush=True)
                _show(counts, wrong=1)
                return 1
            shutil.rmtree(base)
            base.mkdir()
            number += 1
            if number % 200 == 0:
                _show(counts)
            if asked.round is not None:
                break
    finally:
        children.close()
    shutil.rmtree(base)
    _show(counts)
    return 0


def _show(counts: Counts, wrong: int = 0) -> None:
    done = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    print(f"{done}; lost or wrong: {wrong}", flush=True)


def _lives(rng: random.Random) -> tuple[Life, ...]:
    """Up to four lives; each goes on, or back to a step that there was."""
    if rng.random() < 0.3:
        return LIVES
    last = rng.randint(1, 7)
    lives = [Life(None, last)]
    for _ in range(rng.randrange(4)):
        first = rng.choice([None, rng.randint(0, last)])
        steps = rng.randint(0, 6)
        last = (last if first is None else first) + steps
        lives.append(Life(first, steps))
    return tuple(lives)


def _calls(place: Path, lives: tuple[Life, ...]) -> int:
    counting = Counting()
    with intercepted(counting):
        live(place, Truth(), lives)
    shutil.rmtree(place)
    return len(counting.names)


def _kill(base: Path, rng: random.Random, counts: Counts, _: Children) -> None:
    place, lives = base / "deep/run", _lives(rng)
    number = rng.randrange(_calls(place, lives))
    truth = Truth()
    with contextlib.suppress(Killed), intercepted(Killing(number)):
        live(place, truth, lives)
    check(place, truth)
    counts["kills"] += 1


def _fail(base: Path, rng: random.Random, counts: Counts, _: Children) -> None:
    place, lives = base / "deep/run", _lives(rng)
    failing = Failing(
        rng.randrange(_calls(place, lives)), rng.choice(ERRORS), for_ever=rng.random() < 0.5
    )
    truth = Truth()
    with intercepted(failing), contextlib.suppress(OSError, pa.ArrowException):
        live(place, truth, lives)
    check(place, truth)
    counts["failed calls"] += len(failing.failed)


def _cut(base: Path, rng: random.Random, counts: Counts, _: Children) -> None:
    truth, below = Truth(), base / "disk"
    below.mkdir()
    cuts = Cuts(base / "cut", "deep/run", truth, rng, share=rng.choice([0.001, 0.004]))
    recording = Recording(below, cuts)
    kind = rng.choice([Alone, Threaded])
    with intercepted(recording) as aside:
        live(below / "deep/run", truth, _lives(rng), kind, lambda: aside(lambda: cuts(recording)))
    counts["power cuts"] += cuts.try_all()


def _end(mode: str, most: int) -> Callable[[Path, random.Random, Counts, Children], None]:
    def end(base: Path, rng: random.Random, counts: Counts, children: Children) -> None:
        place = base / "deep/run"
        truth, ended = children.run(place, mode, rng.randrange(most))
        if ended == "signal 14":
            raise AssertionError(f"a child hangs ({mode})")
        check(place, truth)
        counts[f"{NAMES[mode]} ({ended})"] += 1

    return end


NAMES = {"kill": "SIGKILL", "memory": "failed allocations", "space": "full address spaces"}

ROUNDS = (
    *(_kill, _fail, _cut, _end("kill", MOST_CALLS)),
    *(_end("memory", 20_000), _end("space", 64 << 20)),
)

if __name__ == "__main__":
    sys.exit(main())
