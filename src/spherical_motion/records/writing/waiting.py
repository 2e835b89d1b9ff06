"""Waits that end, and say what they wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

EVERY = 5.0
"""Seconds between two announcements of a wait."""


def wait_aloud(
    changed: threading.Condition,
    done: Callable[[], bool],
    most: float,
    say: Callable[[float], None],
) -> bool:
    """Wait until `done()` holds, but at most `most` seconds; returns whether it holds.

    Args:
        changed: is notified when the answer may have changed; is released while waiting, also if
            the calling thread holds it already.
        done: is asked with `changed` held.
        most: seconds; may be infinite.
        say: is called every few seconds, with the seconds waited so far.

    >>> wait_aloud(threading.Condition(), lambda: False, 0.01, print)
    False
    """
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        with changed:
            if changed.wait_for(done, timeout=max(min(EVERY, most - waited), 0.0)):
                return True
        waited = time.monotonic() - began
        if waited >= most:
            return False
        say(waited)
