"""Follow the settings of an optimizer's param groups from step to step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter

import torch

from spherical_motion.monitor.sinks import Settings, Sink
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.hyperparameters import ParamGroup, settings_of

STEADY = 20
"""Steps without a change before a change of a param group's settings counts as an event. Schedules
may change them at every step, and the table of settings has them anyway."""

FIXED = ("nesterov", "dampening", "maximize", "amsgrad", "eps", "decoupled_weight_decay")
"""Settings that schedules do not change; if one changes, the theory may not apply."""

READ = ("lr", "weight_decay", "momentum", "betas", *FIXED)
"""All that is read of a param group."""


class SettingsLog:
    """Records the settings of the param groups at the first step and at each change.

    A change after a steady stretch is an event as well. Param groups that are added later have no
    place in the run and are not recorded.

    Args:
        optimizer, number, sink: as for `Station`.
        places: per param group of the optimizer, its index in the param groups of the run.

    Attributes:
        maximize: for each param group whether it steps along the gradient and not against it.
        now: all settings of the step followed last, to be compared; the same object until one of
            them changes.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        number: int,
        places: Sequence[int],
        sink: Sink,
    ) -> None:
        self._optimizer, self._number, self._sink = optimizer, number, sink
        self._places = tuple(places)
        self._recorded: list[Settings | None] = [None] * len(self._places)
        self._now: list[Settings] = []
        self._fixed: list[dict[str, object]] = []
        self._changed_at: list[float] = []
        self.maximize: list[bool] = []
        self.now: tuple[object, ...] = ()
        self._getters: list[Callable[[ParamGroup], object]] = []
        self._seen: list[object] | None = None
        self._read(0)

    def follow(self, step: int) -> None:
        """Read the settings of step number `step`, and record those that are new."""
        groups = self._optimizer.param_groups
        if self._seen is not None and self._look(groups) == self._seen:  # at nearly every step
            return
        self._read(step)
        for index, (place, old, new) in enumerate(
            zip(self._places, self._recorded, self._now, strict=False)
        ):
            if new != old:
                self._sink.settings(step, place, new)
                self._recorded[index] = new
        self._getters = [_getter(group) for group in groups]
        self._seen = self._look(groups)
        # What can change within itself, like a rate in a tensor, says nothing by being the same.
        if not all(map(_is_fixed, self._seen)):
            self._seen = None

    def _look(self, groups: Sequence[ParamGroup]) -> list[object]:
        """The values that `_read` would read, and how many entries each group has."""
        pairs = zip(self._getters, groups, strict=False)
        try:
            return [len(groups), *((len(group), get(group)) for get, group in pairs)]
        except KeyError:  # one was taken away
            return []

    def _read(self, step: int) -> None:
        groups = self._optimizer.param_groups
        now = [settings_of(group) for group in groups]
        fixed = [{name: group[name] for name in FIXED if name in group} for group in groups]
        if fixed != self._fixed:
            self._record_fixed(step, fixed)
        if now == self._now:
            return
        self._changed_at += [-math.inf] * (len(now) - len(self._changed_at))
        for index, (old, new) in enumerate(zip(self._now, now, strict=False)):
            if new != old:
                if step - self._changed_at[index] >= STEADY:
                    self._record_rate(step, index, old, new)
                self._changed_at[index] = step
        self._now = now
        self.now = self._now, self._fixed

    def _record_rate(self, step: int, index: int, old: Settings, new: Settings) -> None:
        self._sink.event(
            EventKind.RATE_CHANGED,
            step=step,
            optimizer=self._number,
            param_group=index,
            lr=new[0],
            weight_decay=new[1],
            momentum=new[2],
            lr_before=old[0],
            weight_decay_before=old[1],
        )

    def _record_fixed(self, step: int, fixed: list[dict[str, object]]) -> None:
        """Store settings that no schedule touches; each change after attaching is an event."""
        for index, (old, new) in enumerate(zip(self._fixed, fixed, strict=False)):
            changed = {name: value for name, value in new.items() if value != old.get(name)}
            if changed:
                self._sink.event(
                    EventKind.SETTINGS_CHANGED,
                    step=step,
                    optimizer=self._number,
                    param_group=index,
                    changed=changed,
                )
        self._fixed = fixed
        self.now = self._now, self._fixed
        self.maximize = [bool(group.get("maximize")) for group in fixed]


def _getter(group: ParamGroup) -> Callable[[ParamGroup], object]:
    return itemgetter("lr", *(name for name in READ[1:] if name in group))


def _is_fixed(value: object) -> bool:
    """Whether a value cannot change without being another object."""
    if isinstance(value, tuple):
        return all(map(_is_fixed, value))
    return value is None or type(value) in (float, int, bool, str)
