"""Names of groups: the modules or parameters that they consist of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from spherical_motion.invariance.search.roles import starred
from spherical_motion.invariance.search.symmetry import Symmetry
from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import module_of

MOST_SPELLED = 3
"""Groups of more members are named by roles, with stars for indices."""


def group_name(
    cells: Sequence[Symmetry], shape: Callable[[str], Sequence[int]], granularity: str
) -> str:
    """Members joined by " + ", in a rescaling those of negative power after " / ".

    >>> parts = (Slice("norm.weight", 0, 0, 1), Slice("norm.bias", 0, 0, 1))
    >>> group_name([Symmetry.scale(parts)], lambda name: (4,), "layer")
    'norm'
    >>> parts = (*parts, Slice("fc.weight", 1, 0, 1))
    >>> group_name([Symmetry(parts, (1, 1, -1))], lambda name: (4, 4), "filter")
    'norm[0] / fc[:, 0]'
    """
    first = cells[0]
    indexed = granularity == "filter" or first.kind == "rescale"
    sides: list[str] = []
    for positive in (True, False):
        members = [k for k, power in enumerate(first.powers) if (power > 0) is positive]
        if members:
            name = members_name([first.parts[k].parameter for k in members])
            lead = [cell.parts[members[0]] for cell in cells]
            sides.append(name + (_index(lead, shape) if indexed else ""))
    return " / ".join(sides)


def members_name(parameters: Sequence[str]) -> str:
    """Parameters by their modules, each once.

    A module's name replaces its parameters if its weight is among them, or if they are several;
    other parameters keep their names.

    >>> members_name(["embed.weight", "0.fc.weight", "0.fc.bias", "1.fc.weight", "1.fc.bias"])
    'embed + 0.fc + 1.fc'
    >>> members_name(["embed.weight", *(f"blocks.{i}.out.weight" for i in range(12))])
    'embed + blocks.*.out'
    """
    modules: dict[str, list[str]] = {}
    for parameter in dict.fromkeys(parameters):
        modules.setdefault(module_of(parameter), []).append(parameter)
    names = []
    for module, members in modules.items():
        whole = module and (len(members) > 1 or members[0] == f"{module}.weight")
        names += [module] if whole else members
    if len(names) > MOST_SPELLED:
        names = list(dict.fromkeys(map(starred, names)))
    return " + ".join(names)


def unique_names(names: Iterable[str]) -> list[str]:
    """The same, with a number behind repeated names.

    >>> unique_names(["fc", "fc", "head"])
    ['fc', 'fc (2)', 'head']
    """
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _index(parts: Sequence[Slice], shape: Callable[[str], Sequence[int]]) -> str:
    """The slices as numpy indexes them; empty for a whole tensor or scattered slices."""
    start, stop = min(p.start for p in parts), max(p.stop for p in parts)
    whole = stop - start == shape(parts[0].parameter)[parts[0].axis]
    if whole or sum(p.length for p in parts) != stop - start:
        return ""
    inner = str(start) if stop - start == 1 else f"{start}:{stop}"
    return f"[{':, ' * parts[0].axis}{inner}]"
