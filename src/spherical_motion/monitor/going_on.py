"""Go on with a recorded run: the groups it began with, and notices of what has no effect on it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from spherical_motion.binding import with_plain
from spherical_motion.errors import InvalidArgument, NotARun
from spherical_motion.monitor.choosing import Choice, check_choice, chosen_groups
from spherical_motion.notices import listed, notify
from spherical_motion.records import RunInfo, read_info, steps_at_close
from spherical_motion.vocabulary.gram import PRODUCTS
from spherical_motion.vocabulary.groups import InvariantGroup


def groups_to_watch(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    choice: Choice,
    former: str | os.PathLike[str] | None,
) -> Sequence[InvariantGroup]:
    """The groups of the run in `former` if it goes on, else those of the choice."""
    if former is not None:
        return groups_of_run(model, optimizers, former, choice)
    return chosen_groups(model, optimizers, choice)


def run_to_resume(directory: str | os.PathLike[str]) -> RunInfo:
    """The facts of the run that goes on.

    Raises:
        NotARun: there is none, or its description is damaged.
    """
    try:
        return read_info(directory)
    except NotARun:
        if (Path(directory) / "run.json").exists():
            raise
        raise NotARun(
            f"resume=True: {directory} holds no run to go on with. Leave out resume=True to begin "
            "one there."
        ) from None


def groups_of_run(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    directory: str | os.PathLike[str],
    choice: Choice,
) -> tuple[InvariantGroup, ...]:
    """The groups of a recorded run; a notice if the choice asks for others.

    Nothing is probed: what was certified then counts as what would be certified now.

    Raises:
        InvalidArgument: an unknown choice.
        NotARun: `directory` holds no run.
    """
    word = check_choice(choice.groups)
    recorded = run_to_resume(directory).groups
    wanted = _wanted(model, optimizers, recorded, word, choice.vectors)
    missing = _not_in(recorded, wanted)
    more = _not_in(wanted, recorded)
    asked = [f"groups={word!r}", *(["vectors=True"] if choice.vectors else [])]
    whole = [group.name for group in recorded if len(group.cells) > 1]
    certified = [group.name for group in recorded if group.kind != "plain"]
    proven = word == "plain" and certified
    if not missing and not more and not proven:
        asked = []
    if choice.granularity == "filter" and whole:
        asked.append("granularity='filter'")
    if asked:
        parts = [f"without {listed(missing)}"] if missing else []
        parts += [f"with {listed(more)}"] if more else []
        parts += (
            [f"of which {listed(certified)} {'is' if len(certified) == 1 else 'are'} certified"]
            if proven
            else []
        )
        notify(
            f"watch({', '.join(asked)}, resume=True): the run goes on with the groups it began "
            f"with{', ' if parts else ''}{' and '.join(parts)}. To watch others, record into a new "
            "directory without resume=True.",
            quiet=choice.quiet,
        )
    return recorded


def next_steps(directory: str | os.PathLike[str], optimizers: int) -> list[int] | None:
    """The next step of each optimizer when a run was closed; None if that is not known."""
    closed = steps_at_close(directory)
    return closed if closed is not None and len(closed) == optimizers else None


def notify_lost_products(before: int, now: int, *, quiet: bool) -> None:
    """Say which products a run stops recording when it goes on with fewer of them."""
    if now < before:
        notify(
            f"products={now}: from here on the run is without {listed(PRODUCTS[now:before])}, "
            f"which it recorded so far. To go on recording them pass products={before}.",
            quiet=quiet,
        )


def notify_no_cells(
    cells_every: int | None, groups: Sequence[InvariantGroup], *, quiet: bool
) -> None:
    """Say that no cells will be recorded, if they are asked for and no group has any."""
    if cells_every is not None and not any(group.cells for group in groups):
        notify(
            f"cells_every={cells_every} records nothing: no group watched has certified cells",
            quiet=quiet,
        )


def _wanted(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    recorded: Sequence[InvariantGroup],
    word: str,
    vectors: bool,
) -> Sequence[InvariantGroup]:
    """What a new run would watch."""
    certified = [group for group in recorded if group.kind != "plain"]
    if word == "certified" and certified:
        return certified
    proven = certified if word == "all" else []
    try:
        return with_plain(model, optimizers, proven, vectors=vectors, where="watch", quiet=True)
    except InvalidArgument:  # `Monitor` says what is wrong
        return recorded


def _not_in(some: Iterable[InvariantGroup], groups: Iterable[InvariantGroup]) -> list[str]:
    """Names of the groups whose slices no group of `some` has."""
    known = {group.slices for group in some}
    return [group.name for group in groups if group.slices not in known]
