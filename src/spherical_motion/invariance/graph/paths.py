"""Paths from a parameter to the norms: what is added on the way, and which functions lie on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from spherical_motion.invariance.graph.flow import QUOTIENTS, Flow

SUMS = frozenset({"Add", "Sub", "Rsub", "IndexAdd", "IndexPut", "ScatterAdd"})
"""Functions that add their inputs."""

SPARSE_SUMS = SUMS - {"Add", "Sub", "Rsub"}
"""Those that usually start from zeros, so that a constant input adds nothing."""

AFFINE: Mapping[str, int] = {"Addmm": 0, "Baddbmm": 0} | dict.fromkeys(
    ("Convolution", "Linear", "NativeBatchNorm", "CudnnBatchNorm"), 2
)
"""Functions that add a bias to a product, and the position of the bias among their inputs."""

SOFTMAX = "softmax"

_CURVED = {
    "GELU": "Gelu",
    "SiLU": "Silu",
    "Mish": "Mish",
    "ELU": "Elu",
    "CELU": "Celu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "log-sigmoid": "LogSigmoid",
    "softplus": "Softplus",
    "hard swish": "Hardswish",
    "hard sigmoid": "Hardsigmoid",
    "a clamp": "Hardtanh Clamp ClampMin ClampMax",
    "a threshold": "Threshold",
    "soft shrinkage": "Softshrink",
    "hard shrinkage": "Hardshrink",
    "GLU": "Glu",
    SOFTMAX: "Softmax SafeSoftmax",
    "log-softmax": "LogSoftmax",
    "log-sum-exp": "Logsumexp",
    "exp": "Exp Expm",
    "log": "Log Log1P",
    "sin": "Sin",
    "cos": "Cos",
    "erf": "Erf",
    "atan": "Atan",
    "LSTM": "MkldnnRnnLayer ThnnFusedLstmCell",
    "GRU": "ThnnFusedGruCell",
    "a recurrent layer": "CudnnRnn",
}
CURVED = {function: name for name, found in _CURVED.items() for function in found.split()}
"""Functions f with f(kx) not a power of k times f(x), and their names.

Powers, the absolute value, ReLU, leaky ReLU and the maximum are homogeneous, so they are missing.
"""

CONSTANT = "a constant or the input"

VALUE = 2
"""Attention is linear in its third input, the value; query and key go through a softmax."""


@dataclasses.dataclass(frozen=True, slots=True)
class Paths:
    """A summary of all paths from a parameter to one node that cross no norm.

    Attributes:
        joined: some path leads through a sum with another branch.
        only_joined: all do.
        curves: the curved functions on the paths, in order.
        only_curved: every path leads through one.
        beside: parameters, or `CONSTANT`, that are added on the paths.
    """

    joined: bool = False
    only_joined: bool = False
    curves: tuple[str, ...] = ()
    only_curved: bool = False
    beside: tuple[str, ...] = ()

    def through(self, curve: str, *, always: bool = True) -> Paths:
        """The same, after a curved function."""
        return dataclasses.replace(
            self, curves=_once(self.curves, (curve,)), only_curved=self.only_curved or always
        )

    def and_another(self) -> Paths:
        """The same, after a sum with another branch."""
        return dataclasses.replace(self, joined=True, only_joined=True)

    def and_beside(self, name: str) -> Paths:
        """The same, after adding something that does not scale with the parameter."""
        return dataclasses.replace(self, beside=_once(self.beside, (name,)))


def paths_to_norms(flow: Flow, parameter: str) -> tuple[dict[int, Paths], Paths | None]:
    """The paths to each norm call, by its position; and those to the outputs, if there are any.

    A norm with statistics of its own ends a path, because it removes the parameter's scale. Only
    such norms are listed.

    The graph may hold exponentially many paths (each residual block doubles them). So they are not
    listed: one sweep in topological order merges, at each node, what holds for all or for some.
    """
    leaf = flow.leaves.get(parameter)
    if leaf is None:
        return {}, None
    paths: dict[int, Paths] = {leaf: Paths()}
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
            # The norm removes the scale of its input. Its gain and shift keep theirs.
            site = ended[node]
            arriving = [paths[end] for end in (site.gain, site.shift) if end in paths]
            name = flow.bare(site.shift)
            if site.gain in paths and name is not None:
                arriving[0] = arriving[0].and_beside(name)
        elif _applies_divisor(flow, node, parameter, divisors):
            arriving = []
        else:
            arriving = list(_arriving(flow, node, paths))
        if arriving:
            paths[node] = _merged(arriving)
    norms = {
        number: paths[site.input]
        for number, site in enumerate(flow.sites)
        if site.own and site.input is not None and site.input in paths
    }
    past_all = [paths[end] for end in sorted(flow.outputs) if end in paths]
    return norms, _merged(past_all) if past_all else None


def _applies_divisor(flow: Flow, node: int, parameter: str, divisors: Mapping[int, int]) -> bool:
    """Whether a norm written by hand, whose divisor depends on the parameter, ends here."""
    if not divisors or flow.functions[node] not in QUOTIENTS:
        return False
    norms = [flow.sites[divisors[i]] for i in flow.inputs[node] if i is not None and i in divisors]
    return any(flow.depends(site.input, parameter) for site in norms)


def _arriving(flow: Flow, node: int, paths: Mapping[int, Paths]) -> Iterable[Paths]:
    """The paths through each input, after what the node does to them."""
    function, inputs = flow.functions[node], flow.inputs[node]
    for position, source in enumerate(inputs):
        if source is None or source not in paths:
            continue
        path = paths[source]
        others = [i for n, i in enumerate(inputs) if n != position]
        if function in SUMS:
            for other in others if function != "Rsub" else [*others, None]:
                if other is not None:
                    path = _summed(flow, path, [other], paths)
                elif function not in SPARSE_SUMS:
                    path = path.and_beside(CONSTANT)
        elif function in AFFINE and position == AFFINE[function]:
            path = _summed(flow, path, others, paths)
        elif function in AFFINE:
            if (bias := inputs[AFFINE[function]]) is not None:
                path = _summed(flow, path, [bias], paths)
        elif function in CURVED:
            path = path.through(CURVED[function], always=function != "Glu")
        elif function.startswith("ScaledDotProduct") and position < VALUE:
            path = path.through(SOFTMAX)
        yield path


def _summed(
    flow: Flow, path: Paths, factors: Sequence[int | None], paths: Mapping[int, Paths]
) -> Paths:
    """A path after a sum with the product of the factors."""
    if any(factor in paths for factor in factors):  # both summands scale with the parameter
        return path
    name = next((name for name in map(flow.bare, factors) if name is not None), None)
    return path.and_another() if name is None else path.and_beside(name)


def _merged(paths: list[Paths]) -> Paths:
    if len(paths) == 1:
        return paths[0]
    return Paths(
        joined=any(path.joined for path in paths),
        only_joined=all(path.only_joined for path in paths),
        curves=_once(*(path.curves for path in paths)),
        only_curved=all(path.only_curved for path in paths),
        beside=_once(*(path.beside for path in paths)),
    )


def _once(*names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for some in names for name in some))
