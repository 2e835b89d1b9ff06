"""Use a run as a user does, and say what went wrong."""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from full_run import full_info
from given import give

from spherical_motion.comparison import audit, compare
from spherical_motion.errors import SphericalMotionError
from spherical_motion.records import RunWriter, read, read_info, steps_at_close
from spherical_motion.reporting import report

SECONDS = 2.0
"""How long a processor may work on each use."""

HANGS = 60
"""After so many seconds, also of waiting, a use is broken off."""


class Hangs(BaseException):
    """A use took far too long."""


def read_all(directory: Path) -> None:
    """Read a run and everything in it."""
    read_info(directory)
    records = read(directory)
    repr(records)
    for group in records.groups:
        records.cells(group)
        records.correlations(group)
        with contextlib.suppress(SphericalMotionError):
            records.schedule(group)
    for figure in (records.angle, records.norm, records.pull, records.decay_share, records.growth):
        figure()
    assert len(records.mixed) <= len(records.groups)
    assert len(records.lr) == len(records.steps)
    assert len(records.audits) >= 0 <= len(records.audit_steps)
    assert records.info.planned is None or records.info.planned.steps
    assert all(part.name and part.why for part in records.unreadable)


def read_strictly(directory: Path) -> None:
    """Read a run that must be whole."""
    read(directory, strict=True)


def compare_and_print(directory: Path) -> None:
    """Compare a run with the theory, and print the result."""
    str(compare(directory))


def draw(directory: Path) -> None:
    """Write the report of a run; nearly all of its time goes into drawing sound numbers."""
    report(compare(directory), directory.parent / "report.html")


def audit_and_print(directory: Path) -> None:
    """Audit a run, and print the result."""
    str(audit(directory))


def resume(directory: Path) -> None:
    """Go on with a copy of a run."""
    copy = directory.parent / "copy"
    shutil.copytree(directory, copy, symlinks=True, ignore=_pipes)
    try:
        steps_at_close(copy)
        with RunWriter(copy, full_info(), resume=True) as writer:
            step = writer.next_step
            give(writer, step, [(0.1, 0.1, 0.9, None)] * 2)
            writer.rows(step, np.ones((3, 6)))
            writer.flush()
        read(copy)
    finally:
        shutil.rmtree(copy)


USES = (read_all, read_strictly, compare_and_print, audit_and_print, resume, draw)


def faults(directory: Path, uses: Sequence[Callable[[Path], None]] = USES) -> Iterator[str]:
    """What went wrong in each use of a run: an error that is not ours, or a wait."""
    for use in uses:
        start = time.process_time()
        try:
            with _limited(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                use(directory)
        except SphericalMotionError:
            pass
        except (Exception, Hangs):
            last = "\n".join(traceback.format_exc().strip().splitlines()[-14:])
            yield f"{use.__name__}: {last}"
        elapsed = time.process_time() - start
        if elapsed > SECONDS:
            yield f"{use.__name__}: {elapsed:.1f} s"


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _pipes(folder: str, names: list[str]) -> list[str]:
    """A copy has no pipes, which `copytree` would read."""
    return [name for name in names if (Path(folder) / name).is_fifo()]
