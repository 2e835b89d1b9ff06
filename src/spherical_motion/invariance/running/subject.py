"""A model with example inputs, and weights that can replace its own."""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from spherical_motion.invariance.running.admission import require_inputs, require_model
from spherical_motion.invariance.running.calling import unwrapped, widened
from spherical_motion.vocabulary.groups import bare_names

NOISE = 0.3
"""Standard deviation of a probe's noise in units of the tensor's RMS; 1.0 kills rows by chance."""

FLOOR = 0.1
"""Standard deviation of the noise on tensors whose RMS is below `SMALL`: zero gains and biases."""

SMALL = 1e-3

Weights: TypeAlias = dict[str, Tensor]
"""Leaves that replace the parameters, by name."""


class Subject:
    """A model and its inputs, checked, with the names and shapes of its floating parameters.

    Frozen parameters are treated like others.

    Args:
        model: in whatever mixture of train and eval it is used.
        example_inputs: tensor, tuple or mapping, see `call_model`.
        dtype: what weights, buffers and inputs are converted to.

    Attributes:
        model: the network inside any wrappers.
        inputs: as given.
        names: the module's own name of each floating parameter, by the name that users see.
        unexamined: parameters of complex numbers or integers.
    """

    def __init__(self, model: nn.Module, example_inputs: object, dtype: torch.dtype) -> None:
        require_inputs(example_inputs)
        self.model = unwrapped(model)
        require_model(self.model)
        self.inputs = example_inputs
        self.dtype = dtype
        named = dict(self.model.named_parameters())
        bare = bare_names(named)
        self.names = {b: name for b, name in bare.items() if named[name].is_floating_point()}
        self.unexamined = tuple(b for b in bare if b not in self.names)
        self._parameters = {b: named[name] for b, name in self.names.items()}
        first = next(iter(self._parameters.values()), torch.empty(0))
        self.device_type, self.native_dtype = first.device.type, first.dtype

    @functools.cached_property
    def frozen(self) -> frozenset[str]:
        """Parameters that do not require a gradient in the model as it is."""
        return frozenset(n for n, p in self._parameters.items() if not p.requires_grad)

    @functools.cached_property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """Further names of parameters that the model holds under several."""
        named = dict(self.model.named_parameters(remove_duplicate=False))
        names: dict[int, list[str]] = {}
        for bare, name in bare_names(named).items():
            names.setdefault(id(named[name]), []).append(bare)
        return {first: tuple(others) for first, *others in names.values() if others}

    @property
    def entries(self) -> int:
        """How many entries the floating parameters have."""
        return sum(p.numel() for p in self._parameters.values())

    def shape(self, parameter: str) -> torch.Size:
        """Shape of a parameter; a scalar counts as one row."""
        return self._parameters[parameter].shape or torch.Size((1,))

    def buffers(self) -> dict[str, Tensor]:
        """Copies of the model's buffers, by the module's own names."""
        return {name: widened(b, self.dtype) for name, b in self.model.named_buffers()}

    def perturbed(self, seed: int) -> Weights:
        """Fresh leaves at the real weights plus noise.

        Without noise the zero biases and gains of a plain initialization make Σt vanish for slices
        that are not invariant, and hide those that are.
        """
        generator = torch.Generator().manual_seed(seed)
        return {name: self._leaf(p, generator, NOISE) for name, p in self._parameters.items()}

    def real(self, *, revive: bool = False) -> Weights:
        """Fresh leaves at the real weights; `revive` adds noise where a tensor is all but zero."""
        generator = torch.Generator().manual_seed(0) if revive else None
        return {name: self._leaf(p, generator, 0.0) for name, p in self._parameters.items()}

    def _leaf(
        self, parameter: Tensor, generator: torch.Generator | None, relative: float
    ) -> Tensor:
        leaf = parameter.detach().to(self.dtype, copy=True)
        if generator is not None and leaf.numel():
            rms = float(leaf.norm()) / math.sqrt(leaf.numel())
            scale = relative * rms if rms >= SMALL else FLOOR
            # Drawn on the CPU, so that a probe is the same point on every device.
            noise = torch.randn(leaf.shape, generator=generator, dtype=torch.float32)
            leaf.add_(noise.to(leaf), alpha=scale)
        return leaf
