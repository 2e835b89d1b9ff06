"""Processes that are killed in earnest, or run out of memory, in the middle of a short run.

A parent that has imported everything forks them, which takes milliseconds. It reads lines of
"directory mode number" and answers with what the child said and how it ended.

    python -m crash.children

Modes: `kill` ends the process by SIGKILL at this call to the disk; `memory` fails this allocation
of Python's; `space` leaves it this many bytes of address space. In a process that nothing ends all
lives of the run are lived.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

from crash.calls import Killing, intercepted
from crash.lives import LIVES, Alone, Threaded, Truth, live, value_of

LONGEST = 30
"""Seconds that a child may take; one that hangs is ended by an alarm."""


def main() -> None:
    """Fork a child for each line of the input."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        directory, mode, number = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            signal.alarm(LONGEST)
            _quiet()
            try:
                MODES[mode](Path(directory), int(number), writing)
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read().splitlines()
        _, status = os.waitpid(child, 0)
        ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "exit"
        print(json.dumps({"told": told[-1] if told else None, "ended": ended}), flush=True)


def _quiet() -> None:
    """What a child says on stderr is of no interest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class Telling(Truth):
    """Tells a pipe what is true each time that it changes."""

    def tell_to(self, pipe: int) -> None:
        """From now on."""
        object.__setattr__(self, "_pipe", pipe)
        self._tell()

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if hasattr(self, "_pipe"):
            self._tell()

    def _tell(self) -> None:
        state = [self.begun, self.stored, self.pending, self.returned]
        _write(self._pipe, f"{json.dumps(state)}\n".encode())  # pyright: ignore[reportAttributeAccessIssue]


_write = os.write


def truth_of(line: str | None) -> Truth:
    """What the last line of a child says that must be read."""
    if line is None:
        return Truth()
    begun, *values = json.loads(line)
    stored, pending, returned = (
        None if value is None else {int(step): number for step, number in value.items()}
        for value in values
    )
    return Truth(begun, stored or {}, pending or {}, returned)


class Children:
    """The parent, as seen by a test."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "crash.children"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
        )

    def run(self, directory: Path, mode: str, number: int) -> tuple[Truth, str]:
        """What is true when a child has ended, and how it ended."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(f"{directory} {mode} {number}\n")
        self._parent.stdin.flush()
        answer = json.loads(self._parent.stdout.readline())
        return truth_of(answer["told"]), answer["ended"]

    def close(self) -> None:
        """End the parent."""
        self._parent.communicate(timeout=60)


def _killed(directory: Path, number: int, pipe: int) -> None:
    truth = Telling()
    truth.tell_to(pipe)

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with intercepted(Killing(number, end)):
        live(directory, truth, kind=Threaded)


def _without_memory(directory: Path, number: int, pipe: int) -> None:
    import _testcapi

    truth = Telling()
    live(directory, truth, LIVES[:1], Alone)
    truth.tell_to(pipe)
    writer = Alone(directory, resume=True, first_step=None)
    try:
        for step in range(writer.next_step, writer.next_step + 3):
            truth.pending = {step: value_of(step, 9)}
            _testcapi.set_nomemory(number, number + 1)
            try:
                writer.write(step, 9)
                writer.merge()
            finally:
                _testcapi.remove_mem_hooks()
            truth.stored = truth.stored | truth.pending
            truth.pending = {}
    except (MemoryError, OSError):
        writer.close()


def _without_space(directory: Path, number: int, pipe: int) -> None:
    truth = Telling()
    live(directory, truth, LIVES[:1], Alone)
    truth.tell_to(pipe)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + number
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _live_on(directory, truth)


def _live_on(directory: Path, truth: Truth) -> None:
    """Resume and take more steps, with the writer's own thread."""
    writer = Threaded(directory, resume=True, first_step=None)
    for step in range(writer.next_step, writer.next_step + 6):
        truth.pending = truth.pending | {step: value_of(step, 9)}
        writer.write(step, 9)
        if writer.stopped:
            return
        truth.stored = truth.stored | truth.pending
        truth.pending = {}
    writer.close()


MODES = {"kill": _killed, "memory": _without_memory, "space": _without_space}

if __name__ == "__main__":
    main()
