"""One forward and backward pass at chosen weights, reduced at once to a few sums a row."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spherical_motion.errors import ModelError, SphericalMotionError
from spherical_motion.invariance.running.admission import require_inputs, require_model
from spherical_motion.invariance.running.calling import (
    call_model,
    float_outputs,
    model_failure,
    unwrapped,
    widened,
)
from spherical_motion.invariance.running.interception import (
    Interception,
    adapt_attributes,
    without_compilation,
)
from spherical_motion.invariance.running.memory import return_freed_memory
from spherical_motion.invariance.running.observing import Observer
from spherical_motion.invariance.running.precision import Precision
from spherical_motion.invariance.running.row_sums import (
    Evidence,
    Reducer,
    RowSums,
    stacked,
    sums_by_row,
)
from spherical_motion.invariance.running.sandbox import undisturbed
from spherical_motion.vocabulary.groups import bare_names

__all__ = ["Pass", "Prober", "Weights"]

NOISE = 0.3
"""Standard deviation of a probe's noise in units of the tensor's RMS; 1.0 kills rows by chance."""

FLOOR = 0.1
"""Standard deviation of the noise on tensors whose RMS is below `SMALL`: zero gains and biases."""

SMALL = 1e-3

Weights = dict[str, Tensor]
"""Leaves that stand in for the parameters, by name."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What a forward and its backward leave: the outputs probed, and each parameter's row sums.

    With several cotangents the row sums have the shape (cotangents, rows).
    """

    outputs: tuple[Tensor, ...]
    rows: Evidence


class Prober:
    """Runs a model away from its own weights, without touching it.

    Weights and buffers are float64 (or `precision.dtype`) clones, swapped in for the length of a
    pass by `torch.func.functional_call`, which also follows tied weights and parametrizations.
    Frozen parameters are probed like others.

    Args:
        model: in whatever mixture of train and eval it is meant to be used.
        example_inputs: tensor, tuple or mapping, see `call_model`.
        precision: dtype and thresholds.

    Attributes:
        passes: forward and backward passes run so far.
        forwards: passes without a backward run so far.
        backwards: further backwards on the forward of a pass, run so far.
        numel: entries of each floating parameter, by stripped name.
        unexamined: the other parameters, complex or integer.
    """

    def __init__(self, model: nn.Module, example_inputs: Any, precision: Precision) -> None:
        self.precision = precision
        self.passes = 0
        self.forwards = 0
        self.backwards = 0
        require_inputs(example_inputs)
        self._model = unwrapped(model)
        require_model(self._model)
        self._inputs = example_inputs
        # Floating parameters by the name users see; functional_call wants the module's own name.
        named = dict(self._model.named_parameters())
        self._parameters = {
            bare: (name, named[name])
            for bare, name in bare_names(named).items()
            if named[name].is_floating_point()
        }
        self.unexamined = tuple(
            bare for bare, name in bare_names(named).items() if bare not in self._parameters
        )
        first = next((p for _, p in self._parameters.values()), torch.empty(0))
        self._device_type, self._native = first.device.type, first.dtype
        self.numel = {name: p.numel() for name, (_, p) in self._parameters.items()}

    @property
    def model_name(self) -> str:
        """Class of the network inside any wrappers."""
        return type(self._model).__name__

    @property
    def frozen(self) -> frozenset[str]:
        """Parameters that do not ask for a gradient in the model as it is."""
        return frozenset(n for n, (_, p) in self._parameters.items() if not p.requires_grad)

    @property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """Further names of parameters that the model holds under several."""
        named = dict(self._model.named_parameters(remove_duplicate=False))
        names: dict[int, list[str]] = {}
        for bare, name in bare_names(named).items():
            names.setdefault(id(named[name]), []).append(bare)
        return {first: tuple(others) for first, *others in names.values() if others}

    def shape(self, parameter: str) -> torch.Size:
        """Shape of a parameter; a scalar counts as one row."""
        return self._parameters[parameter][1].shape or torch.Size((1,))

    def perturbed(self, seed: int) -> Weights:
        """Fresh leaves at the real weights plus noise.

        The noise is not optional: at plain initialization zero biases and zero gains make
        Σt vanish for slices that are not invariant, and hide those that are.
        """
        generator = torch.Generator().manual_seed(seed)
        return {
            name: self._leaf(parameter, generator, NOISE)
            for name, (_, parameter) in self._parameters.items()
        }

    def real(self, *, revive: bool = False) -> Weights:
        """Fresh leaves at the real weights; `revive` adds noise where a tensor is all but zero."""
        generator = torch.Generator().manual_seed(0) if revive else None
        return {
            name: self._leaf(parameter, generator, 0.0)
            for name, (_, parameter) in self._parameters.items()
        }

    def backward(
        self,
        weights: Weights,
        *,
        seed: int,
        norm_eps: float | None,
        cotangents: int = 1,
        observer: Observer | None = None,
    ) -> Pass:
        """Forward, then backward of a random cotangent; gradients die as they are reduced.

        Args:
            weights: leaves to run at, which are spent by it.
            seed: of the randomness inside the model and of the cotangents.
            norm_eps: stands in for the norm layers' ε; None keeps the model's own.
            cotangents: how many are drawn; those after the first cost a backward each. Fewer
                come back where a model can be differentiated only once.
            observer: told what the norm layers are fed.

        Raises:
            ModelError: the model fails on its inputs, or nothing differentiable comes out.
        """
        self.passes += 1
        return_freed_memory()
        sums: dict[str, list[Tensor]] = {}
        handles = [
            leaf.requires_grad_().register_post_accumulate_grad_hook(Reducer(name, sums))
            for name, leaf in weights.items()
        ]
        drawn: list[dict[str, list[Tensor]]] = []

        def body(model: nn.Module, inputs: Any) -> tuple[Tensor, ...]:
            outputs = float_outputs(call_model(model, inputs))
            roots = [y for y in outputs if y.requires_grad]
            if not roots:
                raise ModelError(
                    f"{self.model_name} returned no floating tensor that depends on its "
                    "parameters. Return a loss, logits or another differentiable output."
                )
            if observer is not None:
                observer.forward_ended(roots)
            generator = torch.Generator().manual_seed(seed)
            for remaining in reversed(range(cotangents)):
                sums.clear()
                try:
                    torch.autograd.backward(
                        roots,
                        _cotangent(roots, generator),
                        retain_graph=remaining > 0,
                        inputs=list(weights.values()),
                    )
                except RuntimeError:
                    if not drawn:
                        raise
                    break  # a function of the model's own that frees what a second backward needs
                self.backwards += bool(drawn)
                drawn.append(dict(sums))
            return outputs

        try:
            outputs = self._run(body, weights, seed, norm_eps, observer)
        finally:
            for handle in handles:
                handle.remove()
        rows = [self._rows(weights, each) for each in drawn]
        return Pass(outputs, rows[0] if cotangents == 1 else stacked(rows))

    def forward(self, weights: Weights, *, seed: int, norm_eps: float | None) -> tuple[Tensor, ...]:
        """The probed outputs alone. Raises ModelError as `backward` does."""
        self.forwards += 1
        return_freed_memory()

        def body(model: nn.Module, inputs: Any) -> tuple[Tensor, ...]:
            with torch.no_grad():
                return float_outputs(call_model(model, inputs))

        return self._run(body, weights, seed, norm_eps)

    def _run(
        self,
        body: Any,
        weights: Weights,
        seed: int,
        norm_eps: float | None,
        observer: Observer | None = None,
    ) -> tuple[Tensor, ...]:
        """Run `body(model, inputs)` with weights and buffers swapped, everything put back."""
        dtype = self.precision.dtype
        leaves = {self._parameters[name][0]: leaf for name, leaf in weights.items()}
        buffers = {name: widened(b, dtype) for name, b in self._model.named_buffers()}
        swapped = {f"model.{name}": t for name, t in {**leaves, **buffers}.items()}
        if observer is not None:
            observer.names = {id(leaf): name for name, leaf in weights.items()}
        default_dtype = torch.get_default_dtype()
        with undisturbed(self._model, seed):
            try:
                with torch.inference_mode(False), torch.enable_grad():
                    torch.set_default_dtype(dtype)
                    adapt_attributes(self._model, dtype, norm_eps)
                    if observer is not None:
                        observer.attach(self._model)
                    harness, inputs = _Harness(self._model), widened(self._inputs, dtype)
                    with (
                        without_compilation(),
                        torch.autocast(self._device_type, enabled=False),
                        Interception(dtype, norm_eps, self._native, observer),
                        observer.watching() if observer else contextlib.nullcontext(),
                    ):
                        outputs = functional_call(harness, swapped, (body, inputs))
                return tuple(y.detach() for y in outputs)
            except SphericalMotionError:
                raise
            except Exception as error:  # whatever a stranger's forward may raise
                raise model_failure(self._model, self._inputs, dtype, error) from error
            finally:
                torch.set_default_dtype(default_dtype)

    def _leaf(
        self, parameter: Tensor, generator: torch.Generator | None, relative: float
    ) -> Tensor:
        leaf = parameter.detach().to(self.precision.dtype, copy=True)
        if generator is not None and leaf.numel():
            rms = float(leaf.norm()) / math.sqrt(leaf.numel())
            scale = relative * rms if rms >= SMALL else FLOOR
            # Drawn on the CPU, so that a probe is the same point on every device.
            noise = torch.randn(leaf.shape, generator=generator, dtype=torch.float32)
            leaf.add_(noise.to(leaf), alpha=scale)
        return leaf

    def _rows(self, weights: Weights, sums: Mapping[str, list[Tensor]]) -> Evidence:
        rows: dict[str, tuple[RowSums, ...]] = {}
        for name, leaf in weights.items():
            reduced = sums.get(name) or sums_by_row(leaf.detach(), torch.zeros_like(leaf))
            rows[name] = tuple(
                RowSums(*per_axis.cpu().numpy(), entries=leaf.numel() // max(1, per_axis.shape[1]))
                for per_axis in reduced
            )
        return rows


class _Harness(nn.Module):
    """Lends the model to a function, so that its backward runs while the weights are swapped.

    Non-reentrant gradient checkpointing calls the model again during backward, and must find the
    same weights there.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, body: Any, inputs: Any) -> Any:
        return body(self.model, inputs)


def _cotangent(outputs: Iterable[Tensor], generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in outputs]
