"""Rescale the running statistics of norm layers behind rescaled weights.

In training mode a batch norm divides by the statistics of its input, so rescaling the input changes
nothing. In eval mode it divides by averages from the old weights: with weights times c, running
means must become c times and running variances c² times, for the channels that the rescaled weights
feed. A bias in between has no gradient and belongs to no group, but the running mean contains it:
only the rest of the mean follows.

The affected buffers are measured, whatever their names and layers: the model runs on example
inputs, away from its own weights, with the factors 1, f and f². Buffers that a training forward
updates start at zero each time, so each ends as (momentum) × (a statistic of this batch). The
values s(1) = m + b, s(f) = p·m + b, s(f²) = p²·m + b give p and b: s becomes p·(s - b) + b.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from spherical_motion.binding import as_groups
from spherical_motion.errors import InvalidArgument, ModelError
from spherical_motion.invariance import Subject, Symmetry, rescaled, run_at, unwrapped
from spherical_motion.vocabulary.groups import InvariantGroup

DTYPE = torch.float64
UNCHANGED = 1e-6
"""Largest relative change of the outputs that counts as rounding."""

ROUNDING = 1e-9
"""Largest relative difference of two statistics that counts as rounding."""

PROBE = 2.0
"""The factor that exponents are measured with; a power of two rounds nothing."""

SEED = 0

# With a tiny ε in every norm, so that ε changes nothing beyond rounding.
_run = functools.partial(run_at, seed=SEED, norm_eps=1e-30, eps_of_running=True)


def has_running_statistics(model: nn.Module) -> bool:
    """Whether the model may keep running statistics: whether it has a buffer of real numbers.

    Names do not show which buffers are statistics; `statistics_following` runs the model for that.

    >>> has_running_statistics(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    True
    >>> has_running_statistics(nn.LayerNorm(2))
    False
    """
    return any(b.is_floating_point() for b in model.buffers())


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Following:
    """How running statistics follow a rescaling.

    Attributes:
        factors: buffer name (without wrappers) → p, a float64 tensor of its shape; only buffers
            that change.
        shifted: names of those with some b ≠ 0, which must be measured at each rescaling.
    """

    factors: dict[str, Tensor]
    shifted: tuple[str, ...]


def statistics_factors(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    factors: Sequence[float],
    example_inputs: object,
) -> dict[str, Tensor]:
    """`statistics_following(...).factors`; raises ModelError if a statistic is shifted."""
    found = statistics_following(model, groups, factors, example_inputs)
    if found.shifted:
        raise ModelError(
            f"statistics_factors: {', '.join(found.shifted)} hold something that does not follow "
            "the weights (a bias in front of the norm layer), so no factor is enough. Use "
            "rescale_statistics_, or build those layers with bias=False."
        )
    return found.factors


def statistics_following(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    factors: Sequence[float],
    example_inputs: object,
) -> Following:
    """How each running statistic changes when group i is multiplied by `factors[i]`, each > 0.

    Model, buffers and random generators come back as they were. Layers run in their own modes; a
    model that is in eval mode as a whole runs in training mode. A channel that is silent on the
    inputs takes the factor that the other channels of its norm layer share, or 1.

    Example inputs are as for `find_groups`, a few dozen samples.

    Raises:
        ModelError: the model fails on them, or its outputs in eval mode would still change.

    >>> net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    >>> from spherical_motion.invariance import find_groups
    >>> group, = find_groups(net, torch.randn(8, 3))
    >>> found = statistics_factors(net, [group], [2.0], torch.randn(8, 3))
    >>> {name: factor.round(decimals=9).tolist() for name, factor in found.items()}
    {'1.running_mean': [2.0, 2.0], '1.running_var': [4.0, 4.0]}
    """
    subject = Subject(model, example_inputs, DTYPE)
    start = subject.buffers()
    moved = {name: b.clone() for name, b in start.items()}
    noisy = subject.perturbed(SEED)
    _run(subject, noisy, buffers=moved, training=True)
    real = [name for name, before in start.items() if before.is_floating_point()]
    running = [name for name in real if not torch.equal(start[name], moved[name])]
    points = [_scaled(noisy, groups, [f**power for f in factors]) for power in range(3)]
    batches = [_batch_statistics(subject, weights, running) for weights in points]
    followed = {n: _follow(*(each[n] for each in batches)) for n in running}
    followed = {n: (p, b) for n, (p, b) in followed.items() if bool((p != 1.0).any())}
    drawn = start | _drawn(start, running)
    ends = drawn | {n: p * (drawn[n] - b) + b for n, (p, b) in followed.items()}
    expected = _run(subject, points[0], buffers=drawn, training=False)
    _check_same(expected, _run(subject, points[1], buffers=ends, training=False), subject.model)
    return Following(
        {n: p for n, (p, _) in followed.items()},
        tuple(n for n, (_, b) in followed.items() if bool((b != 0.0).any())),
    )


def statistics_shifts(
    model: nn.Module, groups: Sequence[InvariantGroup], found: Following, example_inputs: object
) -> dict[str, Tensor]:
    """b of each shifted statistic at the model's current weights; {} if none is shifted.

    `found` comes from `statistics_following`, called with the same arguments and all factors 2.
    """
    if not found.shifted:
        return {}
    subject = Subject(model, example_inputs, DTYPE)
    points = [_scaled(subject.real(), groups, [f] * len(groups)) for f in (1.0, PROBE)]
    first, second = (_batch_statistics(subject, point, found.shifted) for point in points)
    # Where the statistic does not follow, b does not matter.
    rises = {n: (found.factors[n] - 1.0).masked_fill(found.factors[n] == 1.0, 1.0) for n in first}
    return {n: first[n] - (second[n] - first[n]) / rises[n] for n in found.shifted}


@torch.no_grad()
def scale_buffers_(
    model: nn.Module, factors: Mapping[str, Tensor], shifts: Mapping[str, Tensor] | None = None
) -> None:
    """Replace buffers s by p·(s - b) + b, in place, with p from `factors` and b from `shifts`."""
    buffers = dict(unwrapped(model).named_buffers())
    for name, factor in factors.items():
        buffer, shift = buffers[name], (shifts or {}).get(name)
        if shift is None:
            buffer.mul_(factor.to(buffer))
        else:
            buffer.sub_(shift.to(buffer)).mul_(factor.to(buffer)).add_(shift.to(buffer))


def rescale_statistics_(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    factors: Sequence[float],
    example_inputs: object,
) -> None:
    """Rescale the running statistics once, for groups that are multiplied by `factors`.

    Call it before or after the weights are; see `statistics_following`.

    Raises:
        InvalidArgument: not one factor > 0 for each group.
        ModelError: as `statistics_following`.
    """
    groups = as_groups(groups, "rescale_statistics_")
    try:
        numbers = [float(factor) for factor in factors]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(groups) or not all(0.0 < x < math.inf for x in numbers):
        raise InvalidArgument(
            f"rescale_statistics_(factors=...) expects {len(groups)} finite numbers > 0, one for "
            f"each group, got {factors!r}."
        )
    found = statistics_following(model, groups, numbers, example_inputs)
    shifts = {}
    if found.shifted:
        twice = statistics_following(model, groups, [PROBE] * len(groups), example_inputs)
        shifts = statistics_shifts(model, groups, twice, example_inputs)
    scale_buffers_(model, found.factors, shifts)


@torch.no_grad()
def _scaled(
    weights: Mapping[str, Tensor], groups: Sequence[InvariantGroup], factors: Sequence[float]
) -> dict[str, Tensor]:
    """Copies of the weights in which each group is multiplied by its factor."""
    scaled = {name: leaf.clone() for name, leaf in weights.items()}
    rescaled(scaled, [Symmetry.scale(group.slices) for group in groups], factors)
    return scaled


def _batch_statistics(
    subject: Subject, weights: dict[str, Tensor], running: Sequence[str]
) -> dict[str, Tensor]:
    """The batch's own statistics by buffer name."""
    # Zeros end as the momentum times the statistic; ones end higher by 1 - momentum.
    zeros, ones = subject.buffers(), subject.buffers()
    for buffers, fill in ((zeros, 0.0), (ones, 1.0)):
        buffers |= {name: torch.full_like(buffers[name], fill) for name in running}
        _run(subject, weights, buffers=buffers, training=True)
    return {n: zeros[n] / (1.0 - (ones[n] - zeros[n])) for n in running}


def _follow(first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor]:
    """p and b from s(1), s(f), s(f²), entry by entry."""
    rise, next_rise = second - first, third - second
    still = ~((rise.abs() > ROUNDING * first.abs()) & torch.isfinite(next_rise))
    p = torch.where(still, torch.ones_like(rise), next_rise / rise)
    silent = (first.abs() <= ROUNDING * first.abs().max()) & still
    heard = p[~silent]
    if heard.numel() and bool(torch.isclose(heard, heard[0], rtol=1e-6).all()):
        p = torch.where(silent, heard[0], p)
    b = torch.where(still, torch.zeros_like(first), first - rise / (p - 1.0))
    return p, torch.where(b.abs() <= ROUNDING * first.abs().max(), torch.zeros_like(b), b)


def _drawn(start: Mapping[str, Tensor], running: Sequence[str]) -> dict[str, Tensor]:
    """Statistics for the check: positive, and away from a fresh model's zeros and ones."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = {name: start[name].shape for name in running}
    drawn = {n: torch.rand(s, generator=generator, dtype=DTYPE) for n, s in shapes.items()}
    return {n: start[n].abs() + (0.5 + drawn[n]).to(start[n]) for n in running}


def _check_same(before: Sequence[Tensor], after: Sequence[Tensor], model: nn.Module) -> None:
    """Raise ModelError unless the outputs are equal up to rounding."""
    for x, y in zip(before, after, strict=True):
        size = float(x.abs().max())
        change = float((y - x).abs().max()) / size if size else float(y.abs().max())
        if not change <= UNCHANGED:
            raise ModelError(
                "statistics_factors: rescaling the groups changes what "
                f"{type(model).__name__} computes in eval mode by a share of {change:.2g}, "
                f"expected at most {UNCHANGED:g}: a group is not scale-invariant, or a statistic "
                "is kept outside the model's buffers. Inspect the model with "
                "spherical_motion.inspect_model."
            )
