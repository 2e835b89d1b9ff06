"""A small network whose groups meet every case of binding, for tests of several rooms."""

from __future__ import annotations

import torch
from torch import nn

from spherical_motion import InvariantGroup, Slice


class Net(nn.Module):
    """A convolution, a transposed one, a layer with bias and a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, bias=False)
        self.up = nn.ConvTranspose2d(6, 5, 2, bias=False)
        self.fc = nn.Linear(7, 4)
        self.one = nn.Parameter(torch.tensor(2.0))


def group(name: str, *slices: Slice, defect: float = 0.0) -> InvariantGroup:
    return InvariantGroup(name, "scale", slices, (), 1, defect)


def mixed_groups() -> list[InvariantGroup]:
    """Filters on both axes, a weight with its bias, rows that belong to nobody."""
    filters = [group(f"conv[{i}]", Slice("conv.weight", 0, i, i + 1)) for i in (0, 1, 4)]
    ups = [group(f"up[{i}]", Slice("up.weight", 1, i, i + 1)) for i in range(5)]
    fc = group("fc", Slice("fc.weight", 0, 0, 4), Slice("fc.bias", 0, 0, 4))
    return [*filters, fc, *ups, group("one", Slice("one", 0, 0, 1))]
