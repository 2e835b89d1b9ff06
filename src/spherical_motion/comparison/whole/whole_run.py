"""What only all groups of a run together can show.

The motions are shown one after another and none is kept: what is kept of a group is a few numbers a
stage, and of all groups together a few numbers a step.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.alike import Alike, radial_laws
from spherical_motion.comparison.evidence import Evidence, Laws
from spherical_motion.comparison.laws import (
    HiddenBeside,
    RadialLaw,
    RadialPulls,
    ScaleChange,
    radial_law_of,
)
from spherical_motion.comparison.laws.planned import PlannedRun
from spherical_motion.comparison.laws.radial_law import beside_others, hidden_among
from spherical_motion.comparison.motion import Motion
from spherical_motion.comparison.whole.gradient_line import GradientLine, places_of
from spherical_motion.records import Records
from spherical_motion.vocabulary import InvariantGroup, Stage

Mask = NDArray[np.bool_]
Window = tuple[int, int]


class WholeRun:
    """The groups of a run together: first each of them is added, then evidence is completed.

    Args:
        records: the run; of its products nothing is read.
        plans: the rates of its groups beside the plan.
    """

    def __init__(self, records: Records, plans: PlannedRun) -> None:
        self._steps, self._plans = records.steps, plans
        tensors = collections.Counter(
            tensor for group in records.info.groups for tensor in group.parameters
        )
        self._shared = frozenset(tensor for tensor, groups in tensors.items() if groups > 1)
        self._line = GradientLine(self._steps)
        self._optimizers: dict[str, int] = {}
        self._certified: set[str] = set()
        self._unlike = np.zeros(self._steps.size, bool)
        self._alive: dict[str, Mask] = {}
        self._pulls: dict[Window, _Pulls] = {}

    def add(self, part: Alike | Motion, optimizer: int) -> None:
        """One more group, or several that are alike, and the number of their optimizer."""
        if isinstance(part, Alike):
            motion, groups = part.first, part.groups
            kind = motion.group.kind
            self._line.add_all(motion, part.gram.gg * (part.gram.ww if kind == "scale" else 1.0))
            has_gradient = unlike = np.ones(len(motion), bool)
        else:
            motion, groups = part, (part.group,)
            self._line.add(motion)
            with np.errstate(invalid="ignore"):
                has_gradient, unlike = motion.gram.gg > 0, ~(motion.gram.gg == 0)
        self._optimizers.update((group.name, optimizer) for group in groups)
        at = np.arange(self._steps.size)[places_of(motion.steps, self._steps)]
        self._unlike[at[unlike]] = True
        for tensor in self._shared.intersection(*[group.parameters for group in groups]):
            self._mark(tensor, at[has_gradient])
        if any(set(group.parameters) != set(groups[0].parameters) for group in groups[1:]):
            for group in groups:
                for tensor in self._shared.intersection(group.parameters):
                    self._mark(tensor, at[has_gradient])
        if groups[0].kind == "scale":
            self._certified.update(group.name for group in groups)

    def _mark(self, tensor: str, at: NDArray[np.intp]) -> None:
        """That a group of this tensor had a gradient at these of the run's steps."""
        if tensor not in self._alive:
            self._alive[tensor] = np.zeros(self._steps.size, bool)
        self._alive[tensor][at] = True

    def note(self, stage: Stage, groups: Sequence[InvariantGroup], laws: Iterable[Laws]) -> None:
        """The radial laws of groups in one of their stages."""
        window = self._pulls.setdefault((stage.start, stage.stop), _Pulls())
        for group, law in zip(groups, laws, strict=True):
            window.asked |= law.radial.kappa.low > 0 or group.kind == "plain"
            if group.kind == "scale":
                window.note(group, law.radial)

    def note_others(self, part: Alike | Motion) -> None:
        """The radial laws of groups in the stages that others have, as far as these are known."""
        groups = part.groups if isinstance(part, Alike) else (part.group,)
        if groups[0].kind != "scale":
            return
        for (start, stop), window in self._pulls.items():
            if groups[0].name not in window.noted:
                stage = Stage(start, stop, None)
                laws = (
                    radial_laws(part, stage)
                    if isinstance(part, Alike)
                    else [radial_law_of(part, stage)]
                )
                for group, law in zip(groups, laws, strict=True):
                    window.note(group, law)

    @property
    def needs_another_look(self) -> bool:
        """Whether the motions must be shown once more, to `look_again`."""
        whole = len(self._certified)
        return bool(self._gaps) or any(
            window.asked and len(window.noted) < whole for window in self._pulls.values()
        )

    def look_again(self, part: Alike | Motion) -> None:
        """What could not be asked of a group when it was added."""
        self.note_others(part)
        if self._gaps:
            number = len(part) if isinstance(part, Alike) else 1
            for i in range(number):
                motion = part.alone(i) if isinstance(part, Alike) else part
                self._line.look_again(motion, self._gaps)

    def completed(self, evidence: Evidence) -> Evidence:
        """Evidence with what the other groups say."""
        laws, stage, group = evidence.laws, evidence.stage, evidence.group
        found: dict[str, object] = {}
        if laws.radial.kappa.low > 0:
            pulls = self._pulls_in(stage.start, stage.stop)
            found["radial"] = beside_others(laws.radial, group, pulls)
        if self._scale_changes:
            found["scale_changes"] = tuple(
                change for change in self._scale_changes if stage.start <= change.step < stage.stop
            )
        if (since := laws.silence.dead_since) is not None:
            found["part_alive"] = self._part_is_alive(group, since, stage.stop)
            found["all_dead"] = self._all_are_dead(since, stage.stop)
        if group.kind == "plain":
            found["hidden_beside"] = self._hidden_beside(group, stage)
        if laws.plan is not None and self._plans.meant(laws.plan):
            found["plan"] = None
        if not found:
            return evidence
        return dataclasses.replace(evidence, laws=dataclasses.replace(laws, **found))

    @functools.cached_property
    def _gaps(self) -> tuple[int, ...]:
        return self._line.gaps()

    @functools.cached_property
    def _scale_changes(self) -> tuple[ScaleChange, ...]:
        return self._line.changes(self._gaps)

    @functools.cache  # noqa: B019 - it lives as long as its run
    def _pulls_in(self, start: int, stop: int) -> RadialPulls:
        return self._pulls[start, stop].all()

    def _hidden_beside(self, group: InvariantGroup, stage: Stage) -> HiddenBeside | None:
        """What the certified groups of a plain group's optimizer hide in their gradients."""
        return self._hidden_in((stage.start, stage.stop), self._optimizers[group.name])

    @functools.cache  # noqa: B019 - it lives as long as its run
    def _hidden_in(self, window: Window, optimizer: int) -> HiddenBeside | None:
        certified = [name for name in self._certified if self._optimizers[name] == optimizer]
        inward, pulls = self._pulls[window].inward, self._pulls_in(*window)
        laws = [
            beside_others(law, group, pulls)
            for group, law in inward
            if self._optimizers[group.name] == optimizer
        ]
        return hidden_among(laws, len(certified))

    def _part_is_alive(self, group: InvariantGroup, start: int, stop: int) -> bool:
        """Whether another group of the same tensors has a gradient in these steps."""
        here = slice(*np.searchsorted(self._steps, [start, stop]).tolist())
        # The group itself has none in them.
        found = (self._alive.get(tensor) for tensor in group.parameters)
        return any(bool(alive[here].any()) for alive in found if alive is not None)

    def _all_are_dead(self, start: int, stop: int) -> bool:
        """Whether all gradients are 0 in the second half of these steps; None is not 0."""
        here = slice(*np.searchsorted(self._steps, [(start + stop) // 2, stop]).tolist())
        return len(self._optimizers) > 1 and not self._unlike[here].any()


@dataclasses.dataclass(slots=True)
class _Pulls:
    """κ of the certified groups in one window, and whether any of them asks for the others'."""

    noted: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    inward: list[tuple[InvariantGroup, RadialLaw]] = dataclasses.field(default_factory=list)
    asked: bool = False

    def note(self, group: InvariantGroup, law: RadialLaw) -> None:
        """One more group."""
        kappa = law.kappa
        self.noted[group.name] = (kappa.value, (kappa.high - kappa.low) / 2.0)
        if kappa.low > 0:
            self.inward.append((group, law))

    def all(self) -> RadialPulls:
        """Those that are known."""
        known = {name: pair for name, pair in self.noted.items() if math.isfinite(pair[1])}
        values = np.array(list(known.values())).reshape(len(known), 2)
        return RadialPulls({name: i for i, name in enumerate(known)}, values[:, 0], values[:, 1])
