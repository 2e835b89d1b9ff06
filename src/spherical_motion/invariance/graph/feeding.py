"""Which norm calls each parameter of a model feeds, from one forward pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spherical_motion.errors import ModelError
from spherical_motion.invariance.graph.course import Course
from spherical_motion.invariance.graph.observer import NormObserver
from spherical_motion.invariance.graph.paths import paths_to_norms
from spherical_motion.invariance.running import Subject, call_model, float_outputs, run_at


@dataclasses.dataclass(frozen=True, slots=True)
class NormFed:
    """A norm call, as it can be found again in another forward pass.

    Attributes:
        module: name of the innermost module that makes it; "" for the model itself.
        call: how many norm calls this module makes before it each time it runs; None if the call
            cannot be counted.
    """

    module: str
    call: int | None


def norms_fed(model: nn.Module, example_inputs: object) -> Mapping[str, tuple[NormFed, ...]]:
    """The norm calls that come first on the paths from each parameter.

    A norm call in eval mode counts like others. A parameter is missing if the graph does not show
    where it goes: it did not take part, or passes through a custom autograd function.

    Args:
        model, example_inputs: as for `find_groups`. The model is left as it is.

    Returns:
        Name of the parameter → norm calls in their order, empty if it feeds none.

    Raises:
        ModelError: the model fails on these inputs.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    >>> fed = norms_fed(net, torch.randn(8, 3))
    >>> fed["0.weight"], fed["2.weight"]
    ((NormFed(module='1', call=0),), ())
    """
    subject = Subject(model, example_inputs, torch.float32)
    observer = NormObserver()

    def body(inside: nn.Module, inputs: object) -> tuple[Tensor, ...]:
        roots = [y for y in float_outputs(call_model(inside, inputs)) if y.requires_grad]
        if not roots:
            raise ModelError(
                f"{type(inside).__name__} returned no floating tensor that depends on its "
                "parameters, so it does not show which norm layers they feed."
            )
        observer.forward_ended(roots)
        return ()

    weights = {name: leaf.requires_grad_() for name, leaf in subject.real().items()}
    run_at(subject, weights, body, seed=0, norm_eps=None, observer=observer)
    found: dict[str, tuple[NormFed, ...]] = {}
    for name in weights:
        fed = _fed(observer.course, name)
        if fed is not None:
            found |= dict.fromkeys((name, *subject.aliases.get(name, ())), fed)
    return found


def _fed(course: Course, parameter: str) -> tuple[NormFed, ...] | None:
    """The norm calls that a parameter feeds; None if the graph does not show them."""
    flow = course.flow
    if flow is None or parameter not in flow.leaves:
        return None
    if any(flow.depends(node, parameter) for node in flow.opaque):
        return None
    every = dataclasses.replace(
        flow, sites=[dataclasses.replace(site, own=True) for site in flow.sites]
    )
    found, _ = paths_to_norms(every, parameter)
    calls = (course.norms[number] for number in sorted(found))
    return tuple(dict.fromkeys(NormFed(norm.module, norm.call) for norm in calls))
