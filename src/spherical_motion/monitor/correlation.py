"""Which groups' updates are measured for their correlation in time, and when.

An optimizer with decoupled decay, w_{t+1} = (1 - ηλ)w_t - ηu_t, turns its weights by an angle that
depends on how its updates u are correlated in time (`theory.adaptive`), and no product of a single
step holds this. The monitor therefore keeps the updates of one group at a time over a burst of
steps: a burst begins every `every` steps, and each takes the next group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch

from spherical_motion import theory
from spherical_motion.checks import whole
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.measure.layout import lacks_memory
from spherical_motion.monitor.burst import Burst, Memory, Rates, UpdatePiece, largest
from spherical_motion.monitor.sinks import Sink
from spherical_motion.monitor.targets import Target, pieces_of
from spherical_motion.records import RunInfo
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.hyperparameters import HyperParameters, ParamGroup, settings_of

MEMORIES = 3.0
"""Lags up to this many times 1/(1 - β) steps are measured. Momentum has forgotten all but e^-3 by
then; longer lags show how the loss answers to the weights, not how updates remember each other."""

LAGS_UNKNOWN = 60
"""Lags where the param group names no momentum: as many as for β = 0.95."""

BURST = 5
"""Length of a burst in lags, so that the longest lag still averages over four times as many."""

LIMIT = 256_000_000
"""Bytes for the updates of one group; of a group that needs more, entries are drawn at random."""


def lags_of(param_group: ParamGroup) -> int:
    """Lags to measure: 3/(1 - β) with β of the param group, 60 if it names none.

    >>> lags_of({"lr": 0.02, "momentum": 0.9}), lags_of({"lr": 0.02})
    (30, 60)
    """
    if param_group.get("momentum") is None and param_group.get("betas") is None:
        return LAGS_UNKNOWN
    momentum = settings_of(param_group)[2]
    if not 0.0 <= momentum < 1.0:
        return LAGS_UNKNOWN
    return math.ceil(MEMORIES / (1.0 - momentum) - 1e-9)


def has_closed_form(hp: HyperParameters) -> bool:
    """Whether the motion, at rest or in balance, follows from settings and recorded products.

    >>> [has_closed_form(HyperParameters(name, lr=1e-3)) for name in ("adamw", "radam", "muon")]
    [True, True, False]
    """
    try:
        return not theory.family_of(hp).unrecorded
    except NoTheory:
        pass
    try:
        theory.law_of(hp)
    except NoTheory:
        return False
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class Bursts:
    """A burst begins at every multiple of `every` steps, and each takes the next of `groups`.

    Attributes:
        every: period in steps.
        groups: numbers of the measured groups in the run.

    >>> bursts = Bursts(every=500, groups=(1, 4))
    >>> [bursts.starting(step) for step in (0, 500, 1000, 1001)]
    [1, 4, 1, None]
    """

    every: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, every: object, info: RunInfo, pieces: Sequence[Sequence[UpdatePiece]]) -> Bursts:
        """From the argument of `Monitor`, the facts of the run and the slices of each group.

        Groups whose optimizer has a closed form (SGD, Adam, AdamW) are passed over, unless all
        have.

        Raises:
            InvalidArgument: no positive integer, or a burst would not end before the next begins.
        """
        period = whole("Monitor", "correlation_every", every, least=1)
        mains = [members[largest(own)] for members, own in zip(info.members, pieces, strict=True)]
        unknown = [i for i, s in enumerate(mains) if not has_closed_form(info.hyperparameters(s))]
        groups = tuple(unknown) or tuple(range(len(mains)))
        settings = [info.param_groups[info.slice_param_group[mains[i]]] for i in groups]
        longest = max(BURST * lags_of(each) for each in settings)
        if period < longest:
            raise InvalidArgument(
                f"Monitor(correlation_every=...) must be at least {longest}, got {period}: a burst "
                f"takes {BURST} × 3/(1 - momentum) steps, and must end before the next begins. "
                f"Use correlation_every={max(1000, 2 * longest)}."
            )
        return cls(period, groups)

    def starting(self, step: int) -> int | None:
        """The group whose burst begins with step number `step`; None if none does."""
        if step % self.every:
            return None
        return self.groups[step // self.every % len(self.groups)]


class CorrelationMeter:
    """Measures the correlation of updates of the groups that one optimizer steps.

    Outside of bursts it costs one division a step. A step in a burst copies the group twice and
    reads all kept updates once.

    Args:
        optimizer: whose settings are read at each step of a burst.
        bursts: which group is measured when.
        pieces: the slices of each group of this optimizer, by the group's number in the run.
        names: the groups' names, by number.
        sink: takes the results.
        limit: bytes for the updates of one group.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        bursts: Bursts,
        pieces: Mapping[int, Sequence[UpdatePiece]],
        names: Sequence[str],
        sink: Sink,
        limit: int = LIMIT,
    ) -> None:
        self._optimizer, self._bursts, self._sink = optimizer, bursts, sink
        self._pieces = {number: pieces[number] for number in bursts.groups if number in pieces}
        self._names = names
        sizes = [
            Memory.needed(sum(piece.numel for piece in own), self._lags(number))
            for number, own in self._pieces.items()
        ]
        # Larger lags later on, when a schedule raises the momentum, take fewer entries.
        self._memory = Memory(min(max(sizes, default=0), limit))
        self._number, self._began = -1, -1
        self._burst: Burst | None = None
        self._rates: list[Rates] | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the kept updates."""
        return self._memory.nbytes

    def before(self, step: int) -> None:
        """Copy the weights if step number `step` belongs to a burst; to be called before it."""
        number = self._bursts.starting(step)
        if number in self._pieces and step != self._began:
            self._begin(number, step)
        self._rates = None
        if self._burst is None:
            return
        rates = [self._settings(piece)[:2] for piece in self._pieces[self._number]]
        lr = rates[self._burst.main][0]
        if not 0.0 < lr < math.inf:
            self._end(step, f"the learning rate is {lr:g}")
            return
        if any(lacks_memory(piece.parameter) for piece in self._pieces[self._number]):
            self._end(step, "the memory of its weights was freed")
            return
        self._burst.take()
        self._rates = rates

    def after(self, step: int) -> None:
        """Take step number `step`; to be called after it, unless it was skipped."""
        if self._burst is None or self._rates is None:
            return
        if any(lacks_memory(piece.parameter) for piece in self._pieces[self._number]):
            self._end(step, "the memory of its weights was freed")
            return
        self._burst.measure(self._rates)
        self._rates = None
        if not self._burst.ended:
            return
        found = self._burst.result()
        if not found.finite:
            self._end(step, "weights or updates became NaN or infinite")
        elif not found.moved:
            self._end(step, "no step changed the weights")
        else:
            self._sink.correlation(self._began, self._number, found.rho, found.update_sq)
            self._burst = None

    def missed(self, step: int) -> None:
        """Step number `step` was taken and not seen, so that a burst cannot go on."""
        if self._burst is not None:
            self._end(step, "a step of it was not measured")

    def _begin(self, number: int, step: int) -> None:
        lags = self._lags(number)
        self._number, self._began, self._burst = number, step, None
        if BURST * lags > self._bursts.every:
            self._end(step, f"its momentum takes a burst of {BURST * lags} steps, too many")
            return
        self._burst = Burst(self._pieces[number], lags, BURST * lags, self._memory, seed=number)
        if self._burst.entries < self._burst.numel:
            self._sink.event(
                EventKind.CORRELATION_SAMPLED,
                step=step,
                group=self._names[number],
                entries=self._burst.entries,
                numel=self._burst.numel,
                seed=number,
            )

    def _end(self, step: int, why: str) -> None:
        """End the burst without a result."""
        name = self._names[self._number]
        self._sink.event(EventKind.CORRELATION_ENDED, step=step, group=name, why=why)
        self._burst = None

    def _lags(self, number: int) -> int:
        pieces = self._pieces[number]
        main = pieces[largest(pieces)]
        return lags_of(self._optimizer.param_groups[main.param_group])

    def _settings(self, piece: UpdatePiece) -> tuple[float, float, float, float | None]:
        return settings_of(self._optimizer.param_groups[piece.param_group])


def correlation_meters(
    every: int | None,
    info: RunInfo,
    optimizers: Sequence[torch.optim.Optimizer],
    targets: Mapping[str, Target],
    sink: Sink,
) -> dict[int, CorrelationMeter]:
    """The meter of each optimizer by its number; none if `every` is None."""
    if every is None:
        return {}
    pieces = pieces_of(info.groups, targets)
    bursts = Bursts.of(every, info, pieces)
    home = [targets[group.slices[0].parameter].optimizer for group in info.groups]
    names = [group.name for group in info.groups]
    return {
        number: CorrelationMeter(
            optimizers[number],
            bursts,
            {i: pieces[i] for i in bursts.groups if home[i] == number},
            names,
            sink,
        )
        for number in {home[i] for i in bursts.groups}
    }
