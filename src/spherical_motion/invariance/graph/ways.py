"""How a parameter gets to a place past no norm: what is added to it, what bends it on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from spherical_motion.invariance.graph.flow import QUOTIENTS, Flow

__all__ = ["CONSTANT", "CURVED", "SOFTMAX", "Ways", "ways_to_norms"]

SUMS = frozenset({"Add", "Sub", "Rsub", "IndexAdd", "IndexPut", "ScatterAdd"})
"""Functions whose inputs are added up."""

SPARSE_SUMS = SUMS - {"Add", "Sub", "Rsub"}
"""... of which these start from zeros where nothing was added yet."""

AFFINE = {
    "Addmm": 0,
    "Baddbmm": 0,
    "Convolution": 2,
    "Linear": 2,
    "NativeBatchNorm": 2,
    "CudnnBatchNorm": 2,
}
"""Functions that add a bias to a product, and which input it is."""

SOFTMAX = "softmax"

CURVED = {
    "Gelu": "GELU",
    "Silu": "SiLU",
    "Mish": "Mish",
    "Elu": "ELU",
    "Celu": "CELU",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "log-sigmoid",
    "Softplus": "softplus",
    "Hardswish": "hard swish",
    "Hardsigmoid": "hard sigmoid",
    "Hardtanh": "a clamp",
    "Clamp": "a clamp",
    "ClampMin": "a clamp",
    "ClampMax": "a clamp",
    "Threshold": "a threshold",
    "Softshrink": "soft shrinkage",
    "Hardshrink": "hard shrinkage",
    "Glu": "GLU",
    "Softmax": SOFTMAX,
    "SafeSoftmax": SOFTMAX,
    "LogSoftmax": "log-softmax",
    "Logsumexp": "log-sum-exp",
    "Exp": "exp",
    "Expm": "exp",
    "Log": "log",
    "Log1P": "log",
    "Sin": "sin",
    "Cos": "cos",
    "Erf": "erf",
    "Atan": "atan",
    "MkldnnRnnLayer": "LSTM",
    "ThnnFusedLstmCell": "LSTM",
    "ThnnFusedGruCell": "GRU",
    "CudnnRnn": "a recurrent layer",
}
"""Functions that do not carry a positive factor through, and what they are called.

A power does, and so do the absolute value, ReLU, its leaky kinds and the maximum.
"""

CONSTANT = "a constant or the input"

VALUE = 2
"""Of attention's three inputs the value is weighed linearly; query and key meet a softmax."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ways:
    """All ways from a parameter to one place that pass no norm with statistics of its own.

    Attributes:
        joined: some way leads through a sum with another branch.
        only_joined: all do.
        curves: the curved functions on the ways, in order.
        only_curved: every way leads through one.
        beside: parameters, or `CONSTANT`, that are added on the ways.
    """

    joined: bool = False
    only_joined: bool = False
    curves: tuple[str, ...] = ()
    only_curved: bool = False
    beside: tuple[str, ...] = ()

    def through(self, curve: str, *, always: bool = True) -> Ways:
        """The same, past a curved function."""
        return dataclasses.replace(
            self, curves=_once(self.curves, (curve,)), only_curved=self.only_curved or always
        )

    def and_another(self) -> Ways:
        """The same, past a sum with another branch."""
        return dataclasses.replace(self, joined=True, only_joined=True)

    def and_beside(self, name: str) -> Ways:
        """The same, with something added that has no scale in common with it."""
        return dataclasses.replace(self, beside=_once(self.beside, (name,)))


def ways_to_norms(flow: Flow, parameter: str) -> tuple[dict[int, Ways], Ways | None]:
    """By position of the norm call, how the parameter arrives; and how at the outputs, if at all.

    A norm with statistics of its own ends a way: beyond it nothing of the parameter's scale is
    left. Only such norms are listed.
    """
    leaf = flow.leaves.get(parameter)
    if leaf is None:
        return {}, None
    ways: dict[int, Ways] = {leaf: Ways()}
    divisors = flow.divisors()
    ended = {
        site.output: site
        for site in flow.sites
        if site.own and site.output is not None and flow.depends(site.input, parameter)
    }
    for node in range(leaf + 1, len(flow.functions)):
        if not flow.depends(node, parameter):
            continue
        if node in ended:
            site = ended[node]
            arriving = [ways[site.gain]] if site.gain in ways else []
            arriving += [ways[site.shift]] if site.shift in ways else []
            name = flow.bare(site.shift)
            if site.gain in ways and name is not None:
                arriving[0] = arriving[0].and_beside(name)
        elif _applies_divisor(flow, node, parameter, divisors):
            arriving = []
        else:
            arriving = list(_arriving(flow, node, ways))
        if arriving:
            ways[node] = _merged(arriving)
    norms = {
        number: ways[site.input]
        for number, site in enumerate(flow.sites)
        if site.own and site.input is not None and site.input in ways
    }
    past_all = [ways[end] for end in sorted(flow.outputs) if end in ways]
    return norms, _merged(past_all) if past_all else None


def _applies_divisor(flow: Flow, node: int, parameter: str, divisors: Mapping[int, int]) -> bool:
    """Whether a norm written by hand, whose divisor knows the parameter, ends here."""
    if not divisors or flow.functions[node] not in QUOTIENTS:
        return False
    norms = [flow.sites[divisors[i]] for i in flow.inputs[node] if i is not None and i in divisors]
    return any(flow.depends(site.input, parameter) for site in norms)


def _arriving(flow: Flow, node: int, ways: Mapping[int, Ways]) -> Iterable[Ways]:
    """The ways that come in at each input, past what the node does to them."""
    function, inputs = flow.functions[node], flow.inputs[node]
    for position, source in enumerate(inputs):
        if source is None or source not in ways:
            continue
        way = ways[source]
        others = [i for n, i in enumerate(inputs) if n != position]
        if function in SUMS:
            for other in others if function != "Rsub" else [*others, None]:
                way = _summed(flow, way, other, ways, constant=function not in SPARSE_SUMS)
        elif function in AFFINE and position == AFFINE[function]:
            way = _beside_product(flow, way, others, ways)
        elif function in AFFINE:
            way = _summed(flow, way, inputs[AFFINE[function]], ways, constant=False)
        elif function in CURVED:
            way = way.through(CURVED[function], always=function != "Glu")
        elif function.startswith("ScaledDotProduct") and position < VALUE:
            way = way.through(SOFTMAX)
        yield way


def _summed(
    flow: Flow, way: Ways, other: int | None, ways: Mapping[int, Ways], *, constant: bool
) -> Ways:
    """A way past a sum with `other`; None stands for a constant, or for nothing."""
    if other is None:
        return way.and_beside(CONSTANT) if constant else way
    if other in ways:
        return way
    name = flow.bare(other)
    return way.and_another() if name is None else way.and_beside(name)


def _beside_product(
    flow: Flow, way: Ways, factors: list[int | None], ways: Mapping[int, Ways]
) -> Ways:
    """A bias's way past the sum with what it is the bias of."""
    if any(factor in ways for factor in factors):
        return way
    name = next((name for name in map(flow.bare, factors) if name is not None), None)
    return way.and_another() if name is None else way.and_beside(name)


def _merged(ways: list[Ways]) -> Ways:
    if len(ways) == 1:
        return ways[0]
    return Ways(
        joined=any(way.joined for way in ways),
        only_joined=all(way.only_joined for way in ways),
        curves=_once(*(way.curves for way in ways)),
        only_curved=all(way.only_curved for way in ways),
        beside=_once(*(way.beside for way in ways)),
    )


def _once(*names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for some in names for name in some))
