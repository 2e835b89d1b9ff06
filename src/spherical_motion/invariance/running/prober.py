"""Forward and backward passes at chosen weights, reduced at once to a few sums a row, counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spherical_motion.errors import ModelError
from spherical_motion.invariance.running.calling import call_model, float_outputs
from spherical_motion.invariance.running.interception import Observer
from spherical_motion.invariance.running.precision import Precision
from spherical_motion.invariance.running.row_sums import Evidence, Gradients, GradientSums, stacked
from spherical_motion.invariance.running.run import run_at
from spherical_motion.invariance.running.subject import Subject, Weights


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What a forward and its backward leave: the outputs probed, and each parameter's row sums.

    With several cotangents the row sums have the shape (cotangents, rows).
    """

    outputs: tuple[Tensor, ...]
    rows: Evidence


class Prober:
    """Runs a `Subject` away from its own weights, without changing it, and counts the passes.

    Attributes:
        subject: the model and its inputs.
        precision: dtype and thresholds.
        passes: forward and backward passes run so far.
        forwards: passes without a backward run so far.
        backwards: further backwards on the forward of a pass, run so far.
    """

    def __init__(self, model: nn.Module, example_inputs: object, precision: Precision) -> None:
        self.subject = Subject(model, example_inputs, precision.dtype)
        self.precision = precision
        self.passes = 0
        self.forwards = 0
        self.backwards = 0

    def backward(
        self,
        weights: Weights,
        *,
        seed: int,
        norm_eps: float | None,
        cotangents: int = 1,
        observer: Observer | None = None,
    ) -> Pass:
        """Forward, then backward of a random cotangent; gradients are freed as they are reduced.

        Args:
            weights: leaves to run at; not to be used again.
            seed: of the randomness inside the model and of the cotangents.
            norm_eps: takes the place of the norm layers' ε; None keeps the model's own.
            cotangents: how many are drawn; those after the first cost a backward each. Fewer
                come back where a model can be differentiated only once.
            observer: follows the norm layers.

        Raises:
            ModelError: the model fails on its inputs, or nothing differentiable comes out.
        """
        self.passes += 1
        sums = GradientSums(weights)
        drawn: list[Gradients] = []

        def body(model: nn.Module, inputs: object) -> tuple[Tensor, ...]:
            outputs = float_outputs(call_model(model, inputs))
            roots = [y for y in outputs if y.requires_grad]
            if not roots:
                raise ModelError(
                    f"{type(model).__name__} returned no floating tensor that depends on its "
                    "parameters. Return a loss, logits or another differentiable output."
                )
            if observer is not None:
                observer.forward_ended(roots)
            generator = torch.Generator().manual_seed(seed)
            for remaining in reversed(range(cotangents)):
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
                    break  # a custom function frees what a second backward needs
                self.backwards += bool(drawn)
                drawn.append(sums.take())
            return outputs

        with sums:
            outputs = run_at(
                self.subject, weights, body, seed=seed, norm_eps=norm_eps, observer=observer
            )
        rows = [sums.evidence(each) for each in drawn]
        return Pass(outputs, rows[0] if cotangents == 1 else stacked(rows))

    def forward(self, weights: Weights, *, seed: int, norm_eps: float | None) -> tuple[Tensor, ...]:
        """The probed outputs alone. Raises ModelError as `backward` does."""
        self.forwards += 1
        return run_at(self.subject, weights, seed=seed, norm_eps=norm_eps)


def _cotangent(outputs: Iterable[Tensor], generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in outputs]
