"""Norms written by hand, read off the graph: x divided by a size of x."""

from __future__ import annotations

from collections.abc import Sequence

REDUCTIONS = frozenset(
    {"Mean", "Sum", "Var", "VarMean", "Std", "StdMean", "LinalgVectorNorm", "Norm"}
)
"""Functions that reduce a tensor to its size."""

INVERSES = frozenset({"Rsqrt", "Reciprocal", "InversePow"})
"""Functions that turn a divisor into a factor."""

_SIZES = (
    "Add AddScalar Abs Alias ClampMin Clone Expand Mul Pow Reshape Sqrt Squeeze ToCopy Unsqueeze "
    "UnsafeView View"
)
SIZES = REDUCTIONS | INVERSES | frozenset(_SIZES.split())
"""Functions that may lead from a tensor to the divisor made of it, with one input each."""

_LINEAR = "Alias Clone Expand Mean Reshape Sub ToCopy UnsafeView View"
LINEAR = frozenset(_LINEAR.split())
"""Functions that may lead from it to what is divided: casts, reshaping, subtracting its mean."""


def divided_by_own_size(
    functions: Sequence[str], inputs: Sequence[tuple[int | None, ...]], node: int
) -> tuple[int, frozenset[int]] | None:
    """The node that the product or quotient `node` normalizes, and its divisor's chain, or None.

    Examples: x/√(mean x² + ε), (x - mean x)/(std x + ε), x/‖x‖. Torch has functions for them, but
    many forward passes spell them out. A positive factor of x cancels in each of them.

    Args:
        functions: what each node of the graph computed.
        inputs: the nodes it was computed from, which have smaller numbers; None for constants.
        node: the one to look at.

    >>> divided_by_own_size(["", "Pow", "Mean", "Rsqrt", "Mul"], [(), (0,), (1,), (2,), (0, 3)], 4)
    (0, frozenset({1, 2, 3}))
    """
    if functions[node] not in ("Mul", "Div") or len(inputs[node]) != 2:
        return None
    one, other = inputs[node]
    if one is None or other is None:
        return None
    division = functions[node] == "Div"
    found = _common(functions, inputs, one, other, inverse=division)
    return found or (None if division else _common(functions, inputs, other, one, inverse=False))


def _common(
    functions: Sequence[str],
    inputs: Sequence[tuple[int | None, ...]],
    divided: int,
    divisor: int,
    *,
    inverse: bool,
) -> tuple[int, frozenset[int]] | None:
    """The last node that both are made of, `divisor` through a reduction and an inverse."""
    chain: list[int] = []
    reduced, at = False, divisor
    while functions[at] in SIZES:
        given = {i for i in inputs[at] if i is not None}
        if len(given) != 1:
            break
        chain.append(at)
        reduced = reduced or functions[at] in REDUCTIONS
        inverse = inverse or functions[at] in INVERSES
        (at,) = given
    if not (reduced and inverse):
        return None
    # x may itself be a result of functions in `SIZES`, as |x| in |x| / sum |x|. So the shared node
    # may be any one before the last reduction, not only the one at which the chain ends.
    last = max(n for n, i in enumerate(chain) if functions[i] in REDUCTIONS)
    sources = {*chain[last + 1 :], *_behind(functions, inputs, at)}
    common = sources & _behind(functions, inputs, divided)
    return (max(common), frozenset(chain)) if common else None


def _behind(
    functions: Sequence[str], inputs: Sequence[tuple[int | None, ...]], start: int
) -> set[int]:
    """The node, and all nodes that lead to it by linear functions alone."""
    found, stack = set[int](), [start]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            if functions[node] in LINEAR:
                stack.extend(i for i in inputs[node] if i is not None)
    return found
