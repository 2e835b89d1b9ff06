"""Words in which a person writes down what is scale-invariant in a network.

A part of a parameter is named as numpy would index it: `"fc.weight"` for the whole tensor,
`"qkv.weight[16:32]"` for rows, `"up.weight[:, 3:4]"` for columns. Names may hold the wildcards of
`fnmatch`. A pattern that matches nothing is an error, so that truth cannot rot silently.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import Cell

__all__ = ["Cells", "Rescaling", "Shapes", "Truth"]

Shapes = Mapping[str, tuple[int, ...]]
"""Parameter name → shape, in the order of the model; scalars count as shape (1,)."""

PART = re.compile(r"(?P<name>.*?)(\[(?P<column>:, )?(?P<start>\d+):(?P<stop>\d+)\])?")


@dataclasses.dataclass(frozen=True, slots=True)
class Rescaling:
    """Multiplying `plus` by k and `minus` by 1/k leaves the outputs as they are."""

    plus: Cell
    minus: Cell


@dataclasses.dataclass(slots=True)
class Cells:
    """A growing list of cells: sets of slices whose joint rescaling changes no output."""

    shapes: Shapes
    found: list[Cell] = dataclasses.field(default_factory=list)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def rows(self, *patterns: str, ndim: int | None = None, axis: int = 0) -> None:
        """Each index along `axis` of each parameter is a cell."""
        for name in names(self.shapes, *patterns, ndim=ndim):
            size = self.shapes[name][axis]
            self.found += [(Slice(name, axis, i, i + 1),) for i in range(size)]

    def blocks(self, size: int, *parts: str) -> None:
        """Block i of `size` rows of all the parts together is a cell."""
        whole = [part_slice(self.shapes, part) for part in parts]
        counts = {part.length // size for part in whole}
        if len(counts) != 1 or any(part.length % size for part in whole):
            raise ValueError(f"{parts}: expected one number of blocks of {size} rows, got {counts}")
        for first in range(0, whole[0].length, size):
            self.found.append(
                tuple(
                    Slice(p.parameter, p.axis, p.start + first, p.start + first + size)
                    for p in whole
                )
            )

    def jointly(self, *patterns: str) -> None:
        """All parts together are one cell."""
        self.found.append(parts_of(self.shapes, *patterns))

    def each(self, *patterns: str) -> None:
        """Every matching parameter is a cell by itself, as a whole."""
        for name in names(self.shapes, *patterns):
            self.jointly(name)


class Truth:
    """What is invariant in one network.

    Attributes:
        cells: the minimal sets whose joint rescaling changes nothing, one representative where
            several differ only by a rescaling symmetry. Recall counts these.
        equivalents: minimal sets that are invariant as well, but follow from `cells` and a
            rescaling symmetry: the gain and shift of a norm layer in front of a weight that is
            itself in front of a norm layer. Neither missed nor wrong.
        silent: parts whose values do not matter at all (a bias in front of a batch norm).
        unseen: parts that the inputs do not touch (rows of an embedding).
        rescalings: symmetries with opposite powers, as far as they make cells equivalent.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.cells = Cells(shapes)
        self.equivalents = Cells(shapes)
        self.silent: list[Slice] = []
        self.unseen: list[Slice] = []
        self.rescalings: list[Rescaling] = []

    def no_effect(self, *patterns: str) -> None:
        """These parts are silent."""
        self.silent += parts_of(self.shapes, *patterns)

    def not_touched(self, *patterns: str) -> None:
        """These parts are unseen."""
        self.unseen += parts_of(self.shapes, *patterns)

    def rescaling(self, plus: tuple[str, ...], minus: tuple[str, ...]) -> None:
        """Multiplying all of `plus` by k and all of `minus` by 1/k changes nothing."""
        self.rescalings.append(
            Rescaling(parts_of(self.shapes, *plus), parts_of(self.shapes, *minus))
        )

    def names(self, *patterns: str) -> list[str]:
        """Parameters that match, in the order of the model."""
        return names(self.shapes, *patterns)


def names(shapes: Shapes, *patterns: str, ndim: int | None = None) -> list[str]:
    """Parameters that match any pattern, in the order of the model."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in shapes):
            raise ValueError(f"no parameter matches {pattern!r}; there are {', '.join(shapes)}")
    return [
        name
        for name, shape in shapes.items()
        if (ndim is None or len(shape) == ndim) and any(fnmatchcase(name, p) for p in patterns)
    ]


def part_slice(shapes: Shapes, part: str) -> Slice:
    """The slice that a part without wildcards names."""
    (found,) = parts_of(shapes, part)
    return found


def parts_of(shapes: Shapes, *patterns: str) -> Cell:
    """The slices that the parts name, wildcards resolved, in the order given."""
    found: dict[Slice, None] = {}
    for pattern in patterns:
        match = PART.fullmatch(pattern)
        assert match is not None
        axis = 1 if match["column"] else 0
        for name in names(shapes, match["name"]):
            start, stop = int(match["start"] or 0), int(match["stop"] or shapes[name][axis])
            found[Slice(name, axis, start, stop)] = None
    return tuple(found)
