"""The autograd graph of one forward pass as plain lists, and where the norm calls are in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import get_gradient_edge

from spherical_motion.invariance.graph.by_hand import divided_by_own_size

Node: TypeAlias = Any
"""A node of torch's graph: its types are private."""

N = TypeVar("N")
"""A node, or its position in a `Flow`."""

HOOKS = "BackwardHookFunctionBackward"
"""The node of a module's full backward hook, which passes gradients on as they are."""

_RESHAPING = (
    "Alias AsStrided Clone Embedding Expand Index IndexSelect Permute Repeat Reshape ReshapeAlias "
    "Select Slice Squeeze T ToCopy Transpose Unsqueeze UnsafeView View"
)
RESHAPING = frozenset(_RESHAPING.split())
"""After these functions alone a parameter is still the bare parameter."""

QUOTIENTS = frozenset({"Mul", "Div"})
"""How a norm written by hand applies its divisor."""


@dataclasses.dataclass(frozen=True, slots=True)
class Site(Generic[N]):
    """The nodes of one norm call; None where no gradient flows.

    Attributes:
        input: what is normalized; of a norm written by hand, what its divisor is made of.
        seen: gradients were recorded during the call, so that `input` can be relied on.
        own: it used its input's statistics.
        output: the result, which no longer follows the scale of `input`.
        gain: the gain it was given.
        shift: the shift it was given.
        by_hand: only the divisor is known, not the result.
        perhaps: only the result is known; it is still open whether a norm made it.
    """

    input: N | None
    seen: bool
    own: bool
    output: N | None = None
    gain: N | None = None
    shift: N | None = None
    by_hand: bool = False
    perhaps: bool = False


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """An autograd graph without torch: nodes are numbered so that inputs come first.

    Attributes:
        functions: what each node computed, as "Add", "Gelu"; "" for a leaf.
        inputs: for each node its inputs; None where an input asks for no gradient.
        reach: for each node, as the bits of an integer, the parameters it depends on.
        leaves: the node of each parameter that occurs.
        sites: the norm calls, in order.
        outputs: the nodes of the model's outputs.
        opaque: nodes of custom functions, inside of which parameters and norms may hide.
    """

    functions: Sequence[str]
    inputs: Sequence[tuple[int | None, ...]]
    reach: Sequence[int]
    leaves: Mapping[str, int]
    sites: Sequence[Site[int]]
    outputs: frozenset[int]
    opaque: frozenset[int]

    def depends(self, node: int | None, parameter: str) -> bool:
        """Whether the node depends on the parameter."""
        leaf = self.leaves.get(parameter)
        return node is not None and leaf is not None and bool(self.reach[node] & self.reach[leaf])

    def follows(self, site: int, parameter: str) -> bool | None:
        """Whether the parameter feeds a norm call, given by its position; None if not known."""
        if parameter not in self.leaves:
            return None
        source = self.sites[site].input
        # If the gradient reaches no parameter at all, the call was inside a custom function: its
        # graph ends there, and the parameters before it are out of sight.
        if self.sites[site].seen and (source is None or self.reach[source]):
            return self.depends(source, parameter)
        hidden = any(self.depends(node, parameter) for node in self.opaque)
        return None if hidden else False

    def bare(self, node: int | None) -> str | None:
        """The parameter that the node is, apart from reshaping or look-ups; None if it is none."""
        while node is not None and self.functions[node] in RESHAPING:
            given = [i for i in self.inputs[node] if i is not None]
            node = given[0] if len(given) == 1 else None
        if node is None or self.functions[node]:
            return None
        return next((name for name, leaf in self.leaves.items() if leaf == node), None)

    def divisors(self) -> dict[int, int]:
        """Node → position of the norm written by hand of which it is the divisor."""
        # From ε + mean x² the divisor is made by functions of one input, such as a root. Nodes are
        # in topological order, so one sweep follows such chains to their ends.
        found = {s.input: n for n, s in enumerate(self.sites) if s.by_hand and s.input is not None}
        if found:
            for node, inputs in enumerate(self.inputs):
                given = {i for i in inputs if i is not None}
                if len(given) == 1 and (source := given.pop()) in found:
                    found.setdefault(node, found[source])
        return found


def node_of(tensor: object) -> Node | None:
    """The node that receives a tensor's gradient, also for a leaf; None if it needs none."""
    if isinstance(tensor, Tensor) and tensor.requires_grad:
        return get_gradient_edge(tensor).node
    return None


def flow_through(
    outputs: Iterable[Tensor], sites: Sequence[Site[Node]], names: Mapping[int, str]
) -> Flow:
    """Walk the graph behind a model's outputs and norm calls; keep none of its nodes.

    `names` holds a parameter's name by the identity of the leaf that replaces it.

    >>> import torch
    >>> w, x = torch.ones(2, requires_grad=True), torch.ones(2)
    >>> flow = flow_through([(w * x).tanh()], [], {id(w): "w"})
    >>> list(flow.functions), flow.inputs[1], [flow.depends(n, "w") for n in range(3)]
    (['', 'Mul', 'Tanh'], (0, None), [True, True, True])
    """
    ends = [node_of(y) for y in outputs]
    place = _numbered([*ends, *(n for s in sites for n in (s.input, s.output, s.gain, s.shift))])

    def at(node: Node | None) -> int | None:
        return None if node is None else place[node]

    functions, inputs, reach = [], [], []
    leaves: dict[str, int] = {}
    # Each node gets the set of parameters upstream of it, as bits of one integer: the union of
    # those of its inputs, which come first. So a later question of dependence is a single `&`.
    for number, node in enumerate(place):
        name = names.get(id(getattr(node, "variable", None)))
        if name is not None:
            leaves[name] = number
        functions.append(_function(node))
        inputs.append(tuple(at(following) for following, _ in node.next_functions))
        upstream = 0 if name is None else 1 << len(leaves) - 1
        for source in inputs[-1]:
            upstream |= 0 if source is None else reach[source]
        reach.append(upstream)
    located = [
        Site(
            *(at(s.input), s.seen, s.own, at(s.output), at(s.gain), at(s.shift)),
            by_hand=s.by_hand,
            perhaps=s.perhaps,
        )
        for s in sites
    ]
    known = {site.input for site in located if site.by_hand}
    for number, site in enumerate(located):
        if site.perhaps and site.output is not None:
            # A product or quotient may belong to a norm that was reported by its divisor already.
            found = divided_by_own_size(functions, inputs, site.output)
            if found is not None and known.isdisjoint(found[1]):
                located[number] = dataclasses.replace(site, input=found[0])
    return Flow(
        functions=functions,
        inputs=inputs,
        reach=reach,
        leaves=leaves,
        sites=located,
        outputs=frozenset(place[end] for end in ends if end is not None),
        opaque=frozenset(
            number
            for number, node in enumerate(place)
            if isinstance(node, BackwardCFunction) and type(node).__name__ != HOOKS
        ),
    )


def _numbered(ends: Iterable[Node | None]) -> dict[Node, int]:
    """All nodes behind the given ones in topological order, with their numbers.

    Depth first with a stack, because graphs are deeper than Python may recurse. The keys are nodes
    and not their `id`: torch creates a node's Python object when it is looked at and may free it
    afterwards, so that another one gets the same `id`.
    """
    place: dict[Node, int] = {}
    stack = [(node, False) for node in ends if node is not None]
    while stack:
        node, explored = stack.pop()
        if node in place:
            continue
        if explored:
            place[node] = len(place)
            continue
        stack.append((node, True))
        stack.extend(
            (following, False)
            for following, _ in node.next_functions
            if following is not None and following not in place
        )
    return place


def _function(node: Node) -> str:
    """`AddBackward0` → "Add"."""
    name = node.name()
    if name.endswith("AccumulateGrad"):
        return ""
    if name == "PowBackward0" and node._saved_exponent < 0:
        return "InversePow"
    return name.rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
