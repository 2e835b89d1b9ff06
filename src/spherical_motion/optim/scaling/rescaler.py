"""Multiply groups and everything that must follow, running statistics included."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from spherical_motion.binding import Members
from spherical_motion.errors import InvalidArgument
from spherical_motion.optim.scaling.state import merged_pieces
from spherical_motion.optim.scaling.statistics import (
    PROBE,
    Following,
    has_running_statistics,
    scale_buffers_,
    statistics_following,
    statistics_shifts,
)
from spherical_motion.optim.scaling.weights import scale_members_, scale_pieces_


class Rescaler:
    """Multiplies the groups of one param group at a time; the network computes the same.

    `members` holds the groups of all param groups, `groups_of` the numbers of the groups of each.
    A model with buffers of real numbers needs the example inputs, to measure which of them follow
    the weights, and how. `groups` holds the groups of each param group.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        members: Members,
        groups_of: Sequence[Sequence[int]],
        example_inputs: object,
        powers: Mapping[str, int],
    ) -> None:
        self._model, self._optimizer, self._members = model, optimizer, members
        self._numbers, self._powers = groups_of, powers
        self.groups = [[members.groups[i] for i in own] for own in groups_of]
        self._pieces = [merged_pieces(members, own) for own in groups_of]
        self._statistics = self._probe(example_inputs)
        self._example_inputs = example_inputs

    def power(self, index: int) -> float:
        """Variances in front of norm layers scale as the factor to this power: 2, more in a chain.

        If a gain and the weights behind it are rescaled in front of one norm with σ² + ε, σ² scales
        as the 4th power. The running variances show it; without any, 2 is assumed.
        """
        found = self._statistics[index].factors.values()
        return max([2.0, *(float(p.max().log2()) / math.log2(PROBE) for p in found)])

    def release_inputs(self) -> None:
        """Release the example inputs unless a shifted statistic needs them again."""
        if not any(found.shifted for found in self._statistics):
            self._example_inputs = None

    def scale_alike(self, index: int, factor: float) -> None:
        """Multiply all groups of param group `index` by one factor."""
        found = self._statistics[index]
        shifts = statistics_shifts(self._model, self.groups[index], found, self._example_inputs)
        scale_pieces_(self._optimizer, self._pieces[index], factor, self._powers)
        # Exponents are whole numbers, so rounding makes them exact.
        powers = {n: (p.log2() / math.log2(PROBE)).round() for n, p in found.factors.items()}
        scale_buffers_(self._model, {n: factor**power for n, power in powers.items()}, shifts)

    def scale_each(self, index: int, factors: Sequence[float]) -> None:
        """Multiply each group of param group `index` by its own factor."""
        found, groups = self._statistics[index], self.groups[index]
        moved, shifts = {}, {}
        if found.factors:
            # Factors of groups in a chain multiply, so no power of one number describes them.
            moved = statistics_following(self._model, groups, factors, self._example_inputs).factors
            shifts = statistics_shifts(self._model, groups, found, self._example_inputs)
        spread = torch.ones(len(self._members), dtype=torch.float64)
        spread[self._numbers[index]] = torch.tensor(factors, dtype=torch.float64)
        on_device = spread.to(self._members.device)
        scale_members_(self._optimizer, self._members, on_device, self._powers)
        scale_buffers_(self._model, moved, shifts)

    def _probe(self, example_inputs: object) -> list[Following]:
        """How running statistics follow each param group's weights when these are doubled."""
        if not has_running_statistics(self._model):
            return [Following({}, ())] * len(self.groups)
        if example_inputs is None:
            name = next(n for n, b in self._model.named_buffers() if b.is_floating_point())
            raise InvalidArgument(
                "RescaleOnDecay(example_inputs=...) is needed: the model has buffers (first "
                f"{name!r}), which may be running statistics. Those must follow the weights for "
                "eval mode to compute the same, and which do is measured. Pass a batch as to "
                "find_groups."
            )
        return [
            statistics_following(self._model, own, [PROBE] * len(own), example_inputs)
            for own in self.groups
        ]
