"""Choose the largest of groups that share entries: only disjoint groups can be steered together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.binding.arguments import as_groups
from spherical_motion.notices import notify
from spherical_motion.vocabulary.groups import InvariantGroup


def disjoint_groups(groups: Sequence[InvariantGroup]) -> tuple[InvariantGroup, ...]:
    """The groups without those that share entries with a larger one, in their own order.

    A bias may belong to the matrix it is added to and to everything that writes what the matrix
    reads. Both are invariances, but groups can be scaled together only if they share no entry.
    Of equally large ones the first stays. Plain groups cannot be scaled and are left out.

    >>> from spherical_motion.vocabulary import Slice
    >>> weight, bias, stream = (Slice(name, 0, 0, 4) for name in ("fc.weight", "fc.bias", "embed"))
    >>> layer = InvariantGroup("fc", "scale", (weight, bias), (), 20, defect=0.0)
    >>> writers = InvariantGroup("embed + fc", "scale", (bias, stream), (), 404, defect=0.0)
    >>> [group.name for group in disjoint_groups([layer, writers])]
    ['embed + fc']
    """
    groups = as_groups(groups, "disjoint_groups") if groups else ()
    groups = [group for group in groups if group.kind != "plain"]
    left_out = overlaps(groups)
    return tuple(group for number, group in enumerate(groups) if number not in left_out)


def without_overlaps(groups: Sequence[InvariantGroup], where: str) -> list[InvariantGroup]:
    """The groups that can be steered together; a notice names what `where` leaves out."""
    left_out = overlaps(groups)
    if left_out:
        number, why = next(iter(left_out.items()))
        more = f" (and {len(left_out) - 1} more such)" if len(left_out) > 1 else ""
        notify(
            f"{where} leaves group {groups[number].name!r} to the ordinary settings: it {why}, "
            f"which is larger{more}"
        )
    return [group for number, group in enumerate(groups) if number not in left_out]


def overlaps(groups: Sequence[InvariantGroup]) -> Mapping[int, str]:
    """What each group shares with which larger one, by the number of the smaller group."""
    lengths: dict[str, int] = {}
    for group in groups:
        for piece in group.slices:
            lengths[piece.parameter] = max(lengths.get(piece.parameter, 0), piece.stop)
    # Per parameter: the axis it is cut along, and for each index of it the number of its group.
    taken: dict[str, tuple[int, NDArray[np.int64]]] = {}
    left_out: dict[int, str] = {}
    for number in sorted(range(len(groups)), key=lambda i: -groups[i].numel):
        cuts = []
        for piece in groups[number].slices:
            empty = np.full(lengths[piece.parameter], -1, dtype=np.int64)
            axis, owner = taken.setdefault(piece.parameter, (piece.axis, empty))
            # Slices along two axes of one tensor always cross.
            cuts.append(owner[piece.start : piece.stop] if axis == piece.axis else owner)
        for piece, cut in zip(groups[number].slices, cuts, strict=True):
            if cut.max() >= 0:
                left_out[number] = f"shares {piece} with {groups[int(cut.max())].name!r}"
                break
        else:
            for cut in cuts:
                cut[:] = number
    return left_out
