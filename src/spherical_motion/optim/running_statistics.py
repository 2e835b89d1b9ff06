"""What the running statistics of norm layers must become when weights in front are rescaled.

In training mode a batch norm divides by what it is fed, and rescaling that changes nothing. In
eval mode it divides by averages gathered while the weights were at their old scale: with weights
times c a running mean must become c times, a running variance c² times, for just those channels
that the rescaled weights feed.

Which ones is not read off names or types of layers, it is measured: the model runs twice on
example inputs, away from its own weights, once with the factors and once without. Buffers that a
training forward updates are started at zero in both runs, so that each ends as (momentum) × (a
statistic of this batch), and the ratio of the two is what the statistic is multiplied by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spherical_motion.errors import ModelError
from spherical_motion.invariance.calling import (
    float_outputs,
    model_failure,
    unwrapped,
    widened,
)
from spherical_motion.invariance.interception import (
    Interception,
    adapt_attributes,
    without_compilation,
)
from spherical_motion.invariance.norms import NORMS, with_eps
from spherical_motion.invariance.precision import precision_of
from spherical_motion.invariance.probe import Prober
from spherical_motion.invariance.sandbox import undisturbed
from spherical_motion.vocabulary.groups import InvariantGroup, bare_names

__all__ = ["has_running_statistics", "scale_buffers_", "statistics_factors"]

DTYPE = torch.float64
NORM_EPS = 1e-30
UNCHANGED = 1e-6
"""Largest relative change of the outputs that counts as rounding."""

SEED = 0


def has_running_statistics(model: nn.Module) -> bool:
    """Whether the model has buffers that look like running averages of a norm layer.

    >>> has_running_statistics(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    True
    >>> has_running_statistics(nn.LayerNorm(2))
    False
    """
    return any(b.is_floating_point() and "running" in n for n, b in model.named_buffers())


def statistics_factors(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    factors: Sequence[float],
    example_inputs: Any,
) -> dict[str, Tensor]:
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
        Buffer name (without wrappers) → float64 tensor of its shape; buffers of which nothing
        changes are left out. A channel that is silent on the inputs takes the factor its norm
        layer's other channels share, or 1.

    Raises:
        ModelError: the model fails on these inputs, or its outputs in eval mode would change all
            the same.

    >>> net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    >>> from spherical_motion.invariance import find_groups
    >>> group, = find_groups(net, torch.randn(8, 3))
    >>> found = statistics_factors(net, [group], [2.0], torch.randn(8, 3))
    >>> {name: factor.tolist() for name, factor in found.items()}
    {'1.running_mean': [2.0, 2.0], '1.running_var': [4.0, 4.0]}
    """
    inner = unwrapped(model)
    prober = Prober(model, example_inputs, precision_of(DTYPE))
    plain, scaled = prober.perturbed(SEED), prober.perturbed(SEED)
    _scale(scaled, groups, factors)

    start = {name: widened(b, DTYPE) for name, b in inner.named_buffers()}
    moved = {name: b.clone() for name, b in start.items()}
    _run(inner, plain, moved, example_inputs, train=True)
    running = [
        name
        for name, before in start.items()
        if before.is_floating_point() and not torch.equal(before, moved[name])
    ]
    zeroed = {name: torch.zeros_like(start[name]) for name in running}
    ends = []
    for weights in (plain, scaled):
        buffers = {**start, **{name: z.clone() for name, z in zeroed.items()}}
        _run(inner, weights, buffers, example_inputs, train=True)
        ends.append(buffers)
    found = {name: _ratio(ends[1][name], ends[0][name]) for name in running}
    found = {name: ratio for name, ratio in found.items() if bool((ratio != 1.0).any())}
    _check_eval(inner, plain, scaled, start | _drawn(start, running), found, example_inputs)
    return found


@torch.no_grad()
def scale_buffers_(model: nn.Module, factors: Mapping[str, Tensor]) -> None:
    """Multiply buffers in place by factors of their shape, as `statistics_factors` returns them."""
    buffers = dict(unwrapped(model).named_buffers())
    for name, factor in factors.items():
        buffers[name].mul_(factor.to(buffers[name]))


@torch.no_grad()
def _scale(
    weights: dict[str, Tensor], groups: Sequence[InvariantGroup], factors: Sequence[float]
) -> None:
    for group, factor in zip(groups, factors, strict=True):
        for s in group.slices:
            leaf = weights[s.parameter]
            leaf = leaf.reshape(1) if leaf.ndim == 0 else leaf
            leaf.narrow(s.axis, s.start, s.length).mul_(factor)


def _ratio(after: Tensor, before: Tensor) -> Tensor:
    """after / before, entry by entry; where both are 0, what the other entries have in common."""
    silent = before == 0
    ratio = torch.where(silent, torch.ones_like(after), after / before)
    # Float64 leaves 1e-12 of rounding; what is all but 1 is 1.
    ratio = torch.where((ratio - 1.0).abs() < 1e-9, torch.ones_like(ratio), ratio)
    heard = ratio[~silent]
    if heard.numel() and silent.any() and bool(torch.isclose(heard, heard[0], rtol=1e-9).all()):
        ratio = torch.where(silent, heard[0], ratio)
    return ratio


def _drawn(start: Mapping[str, Tensor], running: Sequence[str]) -> dict[str, Tensor]:
    """Statistics for the check: positive, and away from a fresh model's zeros and ones."""
    generator = torch.Generator().manual_seed(SEED)
    return {
        name: start[name].abs()
        + (0.5 + torch.rand(start[name].shape, generator=generator, dtype=DTYPE)).to(start[name])
        for name in running
    }


def _check_eval(
    model: nn.Module,
    plain: Mapping[str, Tensor],
    scaled: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    factors: Mapping[str, Tensor],
    example_inputs: Any,
) -> None:
    """Raise ModelError unless rescaled weights and statistics compute what the plain ones do."""
    moved = {n: b * factors[n] if n in factors else b for n, b in buffers.items()}
    before = _run(model, plain, dict(buffers), example_inputs, train=False)
    after = _run(model, scaled, moved, example_inputs, train=False)
    for x, y in zip(before, after, strict=True):
        size = float(x.abs().max())
        change = float((y - x).abs().max()) / size if size else float(y.abs().max())
        if not change <= UNCHANGED:
            raise ModelError(
                f"statistics_factors: rescaling the groups changes what {type(model).__name__} "
                f"computes in eval mode by a share of {change:.2g}, expected at most "
                f"{UNCHANGED:g}: a group is not scale-invariant, or a statistic is kept outside "
                "the model's buffers. Inspect the model with spherical_motion.inspect_model."
            )


def _run(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    buffers: dict[str, Tensor],
    example_inputs: Any,
    *,
    train: bool,
) -> tuple[Tensor, ...]:
    """The model's outputs at these weights; `buffers` end as the forward leaves them."""
    names = bare_names(dict(model.named_parameters()))
    swapped = {names[bare]: leaf for bare, leaf in weights.items()} | buffers
    native = next((p.dtype for p in model.parameters()), DTYPE)
    device = next((p.device.type for p in model.parameters()), "cpu")
    default = torch.get_default_dtype()
    with undisturbed(model, SEED):
        if not train:
            model.eval()
        elif not model.training:
            model.train()
        try:
            torch.set_default_dtype(DTYPE)
            adapt_attributes(model, DTYPE, NORM_EPS)
            args, kwargs = _as_arguments(widened(example_inputs, DTYPE))
            with (
                torch.no_grad(),
                without_compilation(),
                torch.autocast(device, enabled=False),
                _TinyEps(DTYPE, NORM_EPS, native),
            ):
                outputs = float_outputs(functional_call(model, swapped, args, kwargs))
        except Exception as error:  # whatever a stranger's forward may raise
            raise model_failure(model, example_inputs, DTYPE, error) from error
        finally:
            torch.set_default_dtype(default)
    buffers.update({name: swapped[name] for name in buffers})
    return tuple(y.detach() for y in outputs if y.numel())


def _as_arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, tuple):
        return inputs, {}
    return ((), dict(inputs)) if isinstance(inputs, Mapping) else ((inputs,), {})


class _TinyEps(Interception):
    """Every norm's ε is made tiny, that of running statistics too: what ε changes is rounding."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in NORMS:
            args, kwargs = with_eps(func, args, kwargs, NORM_EPS)
        return super().__torch_function__(func, types, args, kwargs)
