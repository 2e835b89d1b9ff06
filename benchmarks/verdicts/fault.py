"""A known fault: what it does to a training loop, and what the verdict on it should be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from verdicts.loop import Loop
from verdicts.nets import Task

__all__ = ["ADAMS", "ANY", "COUNTED", "Fault", "Kind", "known_faults", "make_fault"]

Kind = Literal["weights", "settings", "step", "gradient", "norm", "wiring", "harmless"]

KINDS = ("weights", "settings", "step", "wiring", "norm", "gradient", "harmless")
"""In the order of the table."""

ANY = ("momentum", "AdamW", "SGD", "Lion", "Adam", "Nesterov", "NAdam", "dampening", "Muon")
"""All optimizers, the most common first."""

ADAMS = ("AdamW", "Adam")
COUNTED = ("AdamW", "Adam", "NAdam")


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the table.

    Attributes:
        name: as printed.
        kind: what it changes. Those that change weights or settings are "weights", "settings" and
            "step"; "harmless" is no alarm.
        sentence: what it does in code.
        install: edits a loop before it starts.
        optimizers: those it concerns; each occurs at least once.
        suspects: names of the suspects that are right; "ANY" alone asks for an alarm only.
        alarm: whether the verdict must be an alarm; if not, it must be none.
        begins: the first step that it changes.
        needs: whether it concerns a net.
        schedule: of the learning rate.
    """

    name: str
    kind: Kind
    sentence: str
    install: Callable[[Loop], None]
    optimizers: tuple[str, ...]
    suspects: tuple[str, ...]
    alarm: bool
    begins: int = 0
    needs: Callable[[Task], bool] = lambda task: True
    schedule: str = "constant"

    @property
    def changes(self) -> bool:
        """Whether it changes weights, settings or the step itself."""
        return self.kind in ("weights", "settings", "step", "wiring")


def make_fault(
    name: str,
    kind: Kind,
    suspects: str,
    optimizers: tuple[str, ...] = ANY,
    *,
    begins: int = 0,
    alarm: bool = True,
    needs: Callable[[Task], bool] = lambda task: True,
    schedule: str = "constant",
) -> Callable[[Callable[[Loop], None]], Callable[[Loop], None]]:
    """Enter a function that edits a loop as a fault; its docstring is the sentence.

    `suspects` are names separated by spaces. May be used several times on one function.
    """

    def enter(install: Callable[[Loop], None]) -> Callable[[Loop], None]:
        sentence = " ".join((install.__doc__ or "").split())
        _FAULTS[name] = Fault(
            name,
            kind,
            sentence,
            install,
            optimizers,
            tuple(suspects.split()),
            alarm,
            begins,
            needs,
            schedule,
        )
        return install

    return enter


_FAULTS: dict[str, Fault] = {}


def known_faults() -> dict[str, Fault]:
    """The faults by name, in the order of the table."""
    return dict(sorted(_FAULTS.items(), key=lambda item: KINDS.index(item[1].kind)))
