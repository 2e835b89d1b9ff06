"""Write down the values that the tests freeze: `python -m frozen.record [room ...]` in `tests`.

Record again only what is meant to change, and look at the difference before it is committed.
"""

from __future__ import annotations

import sys
import time

from frozen.rooms import ROOMS, now, path_of, write

__all__ = ["main"]


def main(rooms: list[str]) -> None:
    """Record the named rooms, or all of them."""
    unknown = sorted(set(rooms) - set(ROOMS))
    if unknown:
        sys.exit(f"frozen.record: no room {unknown[0]!r}; there are {', '.join(ROOMS)}.")
    for room in rooms or ROOMS:
        start = time.perf_counter()
        values = now(room)
        write(room, values)
        elapsed = time.perf_counter() - start
        print(f"{room}: {len(values)} keys, {path_of(room).stat().st_size:,} B, {elapsed:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
