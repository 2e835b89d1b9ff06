"""One station for each optimizer that steps a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from spherical_motion.monitor.cells import CellMeter
from spherical_motion.monitor.sampling import Sampling
from spherical_motion.monitor.sinks import Sink
from spherical_motion.monitor.station import Station
from spherical_motion.monitor.targets import Target
from spherical_motion.records import RunInfo

__all__ = ["build_stations"]


def build_stations(
    optimizers: Sequence[torch.optim.Optimizer],
    info: RunInfo,
    targets: Mapping[str, Target],
    sampling: Sampling,
    guarded: Callable[[Callable[[], None]], None],
    sink: Sink,
) -> dict[int, Station]:
    """Stations by the number of their optimizer, not attached yet.

    Args:
        optimizers: of the run.
        info: the run's groups and slices.
        targets: the tensors, from `find_targets`.
        sampling: which steps to measure.
        guarded, sink: see `Station`.
    """
    stations: dict[int, Station] = {}
    for number, optimizer in enumerate(optimizers):
        mine = [i for i, s in enumerate(info.slices) if targets[s.parameter].optimizer == number]
        if not mine:
            continue
        slices = [info.slices[i] for i in mine]
        names = list(dict.fromkeys(s.parameter for s in slices))
        place = {name: i for i, name in enumerate(names)}
        parameters = [targets[name].parameter for name in names]
        groups = {i: group for i, group in enumerate(info.groups) if group.parameters[0] in place}
        stations[number] = Station(
            optimizer,
            parameters,
            np.array([(place[s.parameter], s.axis, s.start, s.stop) for s in slices]),
            np.array(mine, dtype=np.int32),
            np.array([targets[s.parameter].param_group for s in slices]),
            CellMeter(parameters, place, groups if sampling.cells_every else {}),
            number=number,
            sampling=sampling,
            guarded=guarded,
            sink=sink,
        )
    return stations
