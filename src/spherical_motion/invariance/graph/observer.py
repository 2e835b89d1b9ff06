"""What the norm layers of a model get as inputs in one forward pass."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spherical_motion.errors import ModelError
from spherical_motion.invariance.graph.course import Course
from spherical_motion.invariance.graph.flow import Node, Site, flow_through, node_of
from spherical_motion.invariance.running import (
    NORMS,
    Args,
    Function,
    Keywords,
    argument_of,
    normalized_sets,
    share_of_eps,
    uses_own_statistics,
)

BY_HAND = "a norm written by hand"

QUOTIENT_NODES = frozenset({"MulBackward0", "DivBackward0"})
"""How a norm written by hand applies its divisor."""

FEWEST_VALUES = 3
"""One value cannot be normalized, and two always come out as ±1 and carry no gradient."""

CONSTANT = 1e-12
"""A channel is constant where its variance is below this times its squared mean."""


@dataclasses.dataclass(slots=True)
class NormObserver:
    """Records the norm calls of one forward pass, and warns of inputs that show little.

    Attributes:
        own: number of norm calls that used their input's statistics.
        running: number of norm calls that used running statistics.
        warnings: messages for the user, in the order of the calls.
        names: parameter name by identity of the tensor that replaces it.
        course: which modules and norms ran, in order.
    """

    own: int = 0
    running: int = 0
    warnings: list[str] = dataclasses.field(default_factory=list)
    names: dict[int, str] = dataclasses.field(default_factory=dict)
    course: Course = dataclasses.field(default_factory=Course)
    _sites: list[Site[Node]] = dataclasses.field(default_factory=list)

    def attach(self, model: nn.Module) -> None:
        """Follow the modules of a model as they run; whoever runs it removes the hooks."""
        self.course.attach(model)

    def forward_ended(self, outputs: Iterable[Tensor]) -> None:
        """Read the graph behind the norm calls and release it; later calls are repeats."""
        if self.course.flow is None:
            flow = flow_through(outputs, self._sites, self.names)
            sure = [not site.perhaps or site.input is not None for site in flow.sites]
            self.course.norms[:] = itertools.compress(self.course.norms, sure)
            sites = list(itertools.compress(flow.sites, sure))
            self.course.flow = dataclasses.replace(flow, sites=sites)
        self._sites.clear()

    def norm_called(self, function: Function, args: Args, kwargs: Keywords) -> None:
        """Record a norm call; raises ModelError where there is too little to normalize over."""
        kind = NORMS[function][0]
        label = self._label(argument_of(function, "weight", args, kwargs), kind)
        own = uses_own_statistics(function, args, kwargs)
        source = node_of(argument_of(function, "input", args, kwargs))
        site = Site(source, torch.is_grad_enabled(), own)
        if not own:
            self.running += 1
            self._record(label, site)
            return
        self.own += 1
        values = normalized_sets(function, args, kwargs)
        share = share_of_eps(function, args, kwargs)
        self._record(label, site, math.nan if share is None else float(share))
        if values is None:
            return
        sets, size = values.shape
        if size < FEWEST_VALUES:
            self._too_few(kind, label, size)
        elif kind != "rms_norm":
            variance, mean = torch.var_mean(values, dim=1, correction=0)
            constant = int((variance <= CONSTANT * mean.square()).sum())
            if constant:
                self.warnings.append(
                    f"{label}: {constant} of the {sets} sets of values it normalizes are constant "
                    "on these inputs, where rescaling what feeds them shows nothing."
                )

    def hand_written_norm_called(self, result: Tensor, eps_share: float = math.nan) -> None:
        """Record a norm that a forward pass spells out itself, and that divides by `result`.

        `eps_share` is the part of ε in `result`, on average; NaN if unknown.
        """
        site = Site(node_of(result), torch.is_grad_enabled(), own=True, by_hand=True)
        self._record(BY_HAND, site, eps_share)

    def embedding_called(self, tokens: Tensor, table: Tensor, padding_idx: int | None) -> None:
        """Warn of a look-up of an embedding's padding row, because its gradient is masked."""
        if padding_idx is not None and bool((tokens == padding_idx).any()):
            self.warnings.append(
                f"{self._label(table, 'embedding')}: the inputs contain its padding_idx="
                f"{padding_idx}, whose gradient is masked, so a group it belongs to stays hidden. "
                "Probe on inputs without padding."
            )

    def returned(self, function: Function, result: object, args: Args, kwargs: Keywords) -> None:
        """Complete the record of a norm call, or record what may be a norm written by hand."""
        if self.course.flow is not None:
            return
        if function in NORMS:
            gain, shift = (
                node_of(argument_of(function, n, args, kwargs)) for n in ("weight", "bias")
            )
            self._sites[-1] = dataclasses.replace(
                self._sites[-1], output=node_of(result), gain=gain, shift=shift
            )
        elif isinstance(result, Tensor) and type(result.grad_fn).__name__ in QUOTIENT_NODES:
            site = Site(None, True, True, node_of(result), perhaps=True)
            self._record(BY_HAND, site, counted=False)

    def summary(self) -> list[str]:
        """The warnings, each once, and how many norm calls normalize nothing."""
        found = list(dict.fromkeys(self.warnings))
        if self.running:
            found.append(
                f"{self.running} of {self.running + self.own} norm calls use running statistics "
                "(eval mode): a fixed affine map, in front of which nothing is scale-invariant. "
                "Call model.train() to see the groups of training."
            )
        return found

    def _record(
        self, label: str, site: Site[Node], eps_share: float = math.nan, *, counted: bool = True
    ) -> None:
        if self.course.flow is None:
            self.course.record_norm(label, own=site.own, eps_share=eps_share, counted=counted)
            self._sites.append(site)

    def _label(self, weight: object, kind: str) -> str:
        return self.names.get(id(weight), f"a {kind} without weight")

    def _too_few(self, kind: str, label: str, size: int) -> None:
        found = f"{label}: {kind} normalizes over only {size} value(s)"
        if kind in ("batch_norm", "instance_norm"):
            remedy = "a larger batch" if kind == "batch_norm" else "a larger input"
            raise ModelError(
                f"{found} per channel, expected at least {FEWEST_VALUES}: two always come out as "
                f"±1 and carry no gradient. Pass example_inputs with {remedy}."
            )
        self.warnings.append(f"{found}, which come out nearly fixed and carry little gradient.")
