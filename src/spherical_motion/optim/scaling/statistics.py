"""What the running statistics of norm layers must become when weights in front are rescaled.

In training mode a batch norm divides by what it is fed, and rescaling that changes nothing. In
eval mode it divides by averages gathered while the weights were at their old scale: with weights
times c a running mean must become c times, a running variance c² times, for just those channels
that the rescaled weights feed. A bias that is added in between has no gradient and belongs to no
group, but it is in the running mean: only what is above it follows.

Which ones is measured, whatever buffers and layers are called or are made of: the model runs on
example inputs, away from its own weights, with the factors f, with f² and without. Buffers that a
training forward updates are started at zero each time, so that each ends as (momentum) × (a
statistic of this batch). Of the three values s(1) = m + b, s(f) = p·m + b, s(f²) = p²·m + b follow
p and b: the statistic becomes p·(s - b) + b.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spherical_motion.binding import as_groups
from spherical_motion.errors import InvalidArgument, ModelError
from spherical_motion.invariance import Subject, run_at, unwrapped
from spherical_motion.vocabulary.groups import InvariantGroup

DTYPE = torch.float64
NORM_EPS = 1e-30
UNCHANGED = 1e-6
"""Largest relative change of the outputs that counts as rounding."""

ROUNDING = 1e-9
"""A share below which a difference of two statistics is rounding."""

PROBE = 2.0
"""The factor at which exponents are measured; a power of two rounds nothing."""

SEED = 0


def has_running_statistics(model: nn.Module) -> bool:
    """Whether the model may keep running statistics: whether it has any buffer of real numbers.

    A buffer may be called anything, so that which of them are statistics, if any, takes a forward
    to tell (`statistics_following`).

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
        factors: buffer name (without wrappers) → p, a float64 tensor of its shape; buffers of
            which nothing changes are left out.
        shifted: those whose b is not 0 everywhere, so that it must be known at the time.
    """

    factors: dict[str, Tensor]
    shifted: tuple[str, ...]


def statistics_factors(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    factors: Sequence[float],
    example_inputs: object,
) -> dict[str, Tensor]:
    """`statistics_following(...).factors`, where that is all there is to know.

    Raises:
        ModelError: as there; or a statistic is shifted.
    """
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
    """What to multiply each running statistic by, when group i is multiplied by `factors[i]`.

    The model comes back as it was, random generators and buffers included. Its layers run in the
    mode they are in; a model that is in eval mode as a whole is put in training mode for it.

    Args:
        model: the network; wrappers are looked through.
        groups: the rescaled groups.
        factors: one a group, > 0.
        example_inputs: a tensor is passed as `model(x)`, a tuple as `model(*x)`, a mapping as
            `model(**x)`. A few dozen samples.

    Returns:
        A `Following`. A channel that is silent on the inputs takes the factor its norm layer's
        other channels share, or 1.

    Raises:
        ModelError: the model fails on these inputs, or its outputs in eval mode would change all
            the same.

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
    _run(subject, noisy, moved, training=True)
    running = [
        name
        for name, before in start.items()
        if before.is_floating_point() and not torch.equal(before, moved[name])
    ]
    points = [{name: leaf.clone() for name, leaf in noisy.items()} for _ in range(3)]
    for power, weights in enumerate(points):
        _scale(weights, groups, [factor**power for factor in factors])
    taken = [_taken(subject, weights, running, start) for weights in points]
    followed = {n: _follow(*(each[n] for each in taken)) for n in running}
    followed = {n: (p, b) for n, (p, b) in followed.items() if bool((p != 1.0).any())}
    drawn = start | _drawn(start, running)
    ends = drawn | {n: p * (drawn[n] - b) + b for n, (p, b) in followed.items()}
    _check_eval(subject, (points[0], drawn), (points[1], ends))
    return Following(
        {n: p for n, (p, _) in followed.items()},
        tuple(n for n, (_, b) in followed.items() if bool((b != 0.0).any())),
    )


def statistics_shifts(
    model: nn.Module, groups: Sequence[InvariantGroup], found: Following, example_inputs: object
) -> dict[str, Tensor]:
    """b of each shifted statistic at the model's weights as they are now; {} if none is shifted.

    Args:
        model: the network.
        groups: those for which `found` was measured, with the factor 2 for each.
        found: from `statistics_following`.
        example_inputs: as for it.

    Raises:
        ModelError: the model fails on these inputs.
    """
    if not found.shifted:
        return {}
    subject = Subject(model, example_inputs, DTYPE)
    start = subject.buffers()
    ends = []
    for factor in (1.0, PROBE):
        weights = subject.real()
        _scale(weights, groups, [factor] * len(groups))
        ends.append(_taken(subject, weights, found.shifted, start))
    shifts = {}
    for name in found.shifted:
        above = found.factors[name] - 1.0
        # Where the statistic does not follow, b does not matter.
        above = torch.where(above == 0.0, torch.ones_like(above), above)
        first, second = ends[0][name], ends[1][name]
        shifts[name] = first - (second - first) / above
    return shifts


@torch.no_grad()
def scale_buffers_(
    model: nn.Module, factors: Mapping[str, Tensor], shifts: Mapping[str, Tensor] | None = None
) -> None:
    """Replace buffers s by p·(s - b) + b, in place, with p from `factors` and b from `shifts`."""
    buffers = dict(unwrapped(model).named_buffers())
    for name, factor in factors.items():
        shift = (shifts or {}).get(name)
        buffer, factor = buffers[name], factor.to(buffers[name])
        if shift is None:
            buffer.mul_(factor)
        else:
            buffer.sub_(shift.to(buffer)).mul_(factor).add_(shift.to(buffer))


def rescale_statistics_(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    factors: Sequence[float],
    example_inputs: object,
) -> None:
    """Let the running statistics follow, once, when group i is multiplied by `factors[i]`.

    May be called before or after the weights are; see `statistics_following`.

    Raises:
        InvalidArgument: not one factor > 0 for each group.
        ModelError: as `statistics_following`.
    """
    groups = as_groups(groups, "rescale_statistics_")
    factors = _checked_factors(factors, len(groups))
    found = statistics_following(model, groups, factors, example_inputs)
    shifts = {}
    if found.shifted:
        twice = statistics_following(model, groups, [PROBE] * len(groups), example_inputs)
        shifts = statistics_shifts(model, groups, twice, example_inputs)
    scale_buffers_(model, found.factors, shifts)


def _checked_factors(factors: Sequence[float], count: int) -> list[float]:
    try:
        found = [float(factor) for factor in factors]
    except (TypeError, ValueError):
        found = []
    if len(found) != count or not all(0.0 < factor < math.inf for factor in found):
        raise InvalidArgument(
            f"rescale_statistics_(factors=...) expects {count} finite numbers > 0, one for each "
            f"group, got {factors!r}."
        )
    return found


@torch.no_grad()
def _scale(
    weights: dict[str, Tensor], groups: Sequence[InvariantGroup], factors: Sequence[float]
) -> None:
    """Tensor by tensor: a layer of a thousand groups is multiplied once."""
    rows: dict[tuple[str, int], NDArray[np.float64]] = {}
    for group, factor in zip(groups, factors, strict=True):
        for s in group.slices:
            key = (s.parameter, s.axis)
            if key not in rows:
                rows[key] = np.ones((weights[s.parameter].shape or (1,))[s.axis])
            rows[key][s.start : s.stop] *= factor
    for (name, axis), by_row in rows.items():
        leaf = torch.atleast_1d(weights[name])
        shape = [1] * leaf.ndim
        shape[axis] = -1
        leaf.mul_(torch.from_numpy(by_row).to(leaf).reshape(shape))


def _taken(
    subject: Subject,
    weights: dict[str, Tensor],
    running: Sequence[str],
    start: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The batch's own statistics by buffer name."""
    ends = []
    # What a buffer of zeros ends as is the momentum times the statistic; what one of ones has
    # more is 1 - momentum.
    for fill in (0.0, 1.0):
        # Counters are counted up in place.
        buffers = {name: b.clone() for name, b in start.items() if name not in running}
        buffers |= {name: torch.full_like(start[name], fill) for name in running}
        _run(subject, weights, buffers, training=True)
        ends.append(buffers)
    return {n: ends[0][n] / (1.0 - (ends[1][n] - ends[0][n])) for n in running}


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
    return {
        name: start[name].abs()
        + (0.5 + torch.rand(start[name].shape, generator=generator, dtype=DTYPE)).to(start[name])
        for name in running
    }


def _check_eval(
    subject: Subject,
    plain: tuple[dict[str, Tensor], dict[str, Tensor]],
    scaled: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> None:
    """Raise ModelError unless rescaled weights and statistics compute what the plain ones do."""
    before, after = (
        _run(subject, weights, dict(buffers), training=False)
        for weights, buffers in (plain, scaled)
    )
    for x, y in zip(before, after, strict=True):
        size = float(x.abs().max())
        change = float((y - x).abs().max()) / size if size else float(y.abs().max())
        if not change <= UNCHANGED:
            raise ModelError(
                "statistics_factors: rescaling the groups changes what "
                f"{type(subject.model).__name__} computes in eval mode by a share of {change:.2g}, "
                f"expected at most {UNCHANGED:g}: a group is not scale-invariant, or a statistic "
                "is kept outside the model's buffers. Inspect the model with "
                "spherical_motion.inspect_model."
            )


def _run(
    subject: Subject, weights: dict[str, Tensor], buffers: dict[str, Tensor], *, training: bool
) -> tuple[Tensor, ...]:
    """The outputs with every norm's ε tiny, running ones too: what ε changes is rounding."""
    return run_at(
        subject,
        weights,
        seed=SEED,
        norm_eps=NORM_EPS,
        eps_of_running=True,
        buffers=buffers,
        training=training,
    )
