"""From an optimizer's state to the preconditioner of one tensor: one table of optimizer classes.

Every formula is that of `torch.optim`, for-loop, foreach and fused alike, and differs between them
by rounding only. P holds what multiplies the running average b of x in the step d = -η(δw + Pb),
bias corrections included; where there is no average (Adagrad) or where it holds Px (RMSprop), P is
what multiplies x.

Conventions that matter:

* RAdam adds eps to √v before it corrects the bias of v, Adam after it.
* NAdam steps by a fresh gradient and by the average: -η[(1 - μ_t)x/(1 - Π_t) + μ_{t+1}b/(1 -
  Π_{t+1})]/(√v̂ + ε), with Π_t = μ_1...μ_t. P is the preconditioner common to both, with the bias
  correction of the average: 1/((1 - Π_{t+1})(√v̂ + ε)). The coefficients 1 - μ_t and μ_{t+1} say how
  much of x is stepped now and how much later. They belong to the theory of NAdam and not to P.
* Adagrad's falling rate 1/(1 + (t - 1)·lr_decay) belongs to P, because `lr` does not show it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.preconditioner import Preconditioner
from spherical_motion.vocabulary.hyperparameters import CLASSES, ParamGroup

State: TypeAlias = Mapping[str, Any]
"""What `optimizer.state[parameter]` holds."""

Rule: TypeAlias = Callable[[ParamGroup, State], Preconditioner]
"""Makes a `Preconditioner` of a param group and the state of one of its parameters.

The state is that after a step. A KeyError means that the state does not hold what the rule reads.
"""

Tensors: TypeAlias = Callable[[State], tuple[torch.Tensor, torch.Tensor | None]]
"""Looks up v and the average, or None, in the state of a parameter."""


class Coefficients(NamedTuple):
    """Those of a `Preconditioner`. With `root` and `linear` 0, v is not read."""

    scale: float = 1.0
    root: float = 0.0
    linear: float = 0.0
    eps: float = 0.0
    decay: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Formula:
    """A `Rule` in parts: parameters with equal numbers in their states share the coefficients.

    Attributes:
        tensors: of a param group, what looks up the tensors of its parameters.
        coefficients: of a param group and the numbers.
        numbers: entries of the state that are numbers.
    """

    tensors: Callable[[ParamGroup], Tensors]
    coefficients: Callable[..., Coefficients]
    numbers: tuple[str, ...] = ("step",)

    def __call__(self, group: ParamGroup, state: State) -> Preconditioner:
        """The preconditioner of one parameter."""
        v, average = self.tensors(group)(state)
        found = self.coefficients(group, *(float(state[name]) for name in self.numbers))
        read = v if found.root or found.linear else None
        return Preconditioner(read, *found, average=average)


def _adam_tensors(group: ParamGroup) -> Tensors:
    return itemgetter("max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq", "exp_avg")


def _adam(group: ParamGroup, step: float, decoupled: bool = False) -> Coefficients:
    beta1, beta2 = _betas(group)
    t = _taken(step)
    return Coefficients(
        scale=1.0 / (1.0 - beta1**t),
        root=(1.0 - beta2**t) ** -0.5,
        eps=float(group["eps"]),
        decay=_coupled_decay(group, decoupled),
    )


def _adamw(group: ParamGroup, step: float) -> Coefficients:
    # Older versions of AdamW have no setting that says so.
    return _adam(group, step, decoupled=True)


def _nadam(group: ParamGroup, step: float, mu_product: float) -> Coefficients:
    beta1, beta2 = _betas(group)
    t = _taken(step)
    next_mu = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1.0) * group["momentum_decay"]))
    return Coefficients(
        scale=1.0 / (1.0 - mu_product * next_mu),
        root=(1.0 - beta2**t) ** -0.5,
        eps=float(group["eps"]),
        decay=_coupled_decay(group),
    )


def _radam(group: ParamGroup, step: float) -> Coefficients:
    beta1, beta2 = _betas(group)
    t = _taken(step)
    unbias1, unbias2 = 1.0 - beta1**t, 1.0 - beta2**t
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * t * beta2**t / unbias2
    decay = _coupled_decay(group)
    if length <= 5.0:
        return Coefficients(1.0 / unbias1, eps=1.0, decay=decay)
    short_of = (length - 4.0) * (length - 2.0) * longest
    rectifier = math.sqrt(short_of / ((longest - 4.0) * (longest - 2.0) * length))
    return Coefficients(
        scale=rectifier * math.sqrt(unbias2) / unbias1,
        root=1.0,
        eps=float(group["eps"]),
        decay=decay,
    )


def _adamax(group: ParamGroup, step: float) -> Coefficients:
    beta1, _ = _betas(group)
    scale = 1.0 / (1.0 - beta1 ** _taken(step))
    return Coefficients(scale, linear=1.0, decay=_coupled_decay(group))  # v holds eps


def _rmsprop_tensors(group: ParamGroup) -> Tensors:
    if group.get("centered"):
        return _variance
    return lambda state: (state["square_avg"], None)


def _variance(state: State) -> tuple[torch.Tensor, None]:
    mean = state["grad_avg"]
    return torch.addcmul(state["square_avg"], mean, mean, value=-1), None


def _rmsprop(group: ParamGroup) -> Coefficients:
    return Coefficients(root=1.0, eps=float(group["eps"]), decay=_coupled_decay(group))


def _adagrad(group: ParamGroup, step: float) -> Coefficients:
    slowed = 1.0 + (_taken(step) - 1.0) * group["lr_decay"]
    return Coefficients(
        1.0 / slowed, root=1.0, eps=float(group["eps"]), decay=_coupled_decay(group)
    )


def _with_average(v: str) -> Callable[[ParamGroup], Tensors]:
    return lambda _: itemgetter(v, "exp_avg")


PRECONDITIONERS: dict[str, Rule | None] = {
    "SGD": None,  # P is 1: wp follows from the six products.
    "Adam": Formula(_adam_tensors, _adam),
    "AdamW": Formula(_adam_tensors, _adamw),
    "NAdam": Formula(_with_average("exp_avg_sq"), _nadam, ("step", "mu_product")),
    "RAdam": Formula(_with_average("exp_avg_sq"), _radam),
    "Adamax": Formula(_with_average("exp_inf"), _adamax),
    "RMSprop": Formula(_rmsprop_tensors, _rmsprop, ()),
    "Adagrad": Formula(lambda _: lambda state: (state["sum"], None), _adagrad),
}
"""Class name of torch → rule, or None where P is 1."""

_everywhere = {"SGD", "Adam", "AdamW"}
"""Names that count for classes of other packages, too; registered ones join them. Another package's
RAdam may place eps elsewhere or decay otherwise."""


def register_preconditioner(name: str, rule: Rule) -> Callable[[], None]:
    """Let monitors measure wp and ws of an optimizer class of your own.

    Args:
        name: of the class, or of one from which it derives.
        rule: makes a `Preconditioner` of a param group and of the state of a parameter after a
            step. It runs at each measured step, so it should only look things up.

    Returns:
        A function that takes the entry out again.

    Raises:
        InvalidArgument: there is an entry of this name.

    >>> def rule(group, state):
    ...     return Preconditioner(state["v"], root=1.0, eps=group["eps"])
    >>> forget = register_preconditioner("Mine", rule)
    >>> forget()
    """
    if name in PRECONDITIONERS:
        raise InvalidArgument(
            f"register_preconditioner: the class {name!r} has an entry already. Choose another "
            "name, or undo the earlier registration."
        )
    PRECONDITIONERS[name] = rule
    _everywhere.add(name)

    def forget() -> None:
        PRECONDITIONERS.pop(name, None)
        _everywhere.discard(name)

    return forget


def preconditioner_rule(optimizer: torch.optim.Optimizer) -> Rule | str | None:
    """The rule for an optimizer's class; None if P is 1; if there is no rule, why.

    As in `class_name`, the first known class that it derives from decides.

    >>> preconditioner_rule(torch.optim.SGD([torch.zeros(1)], lr=0.1)) is None
    True
    >>> preconditioner_rule(torch.optim.Rprop([torch.zeros(1)], lr=0.1))
    'no preconditioner is known for Rprop; register_preconditioner adds one'
    """
    name = type(optimizer).__name__
    for cls in type(optimizer).__mro__:
        if cls is torch.optim.Optimizer:
            break
        trusted = cls.__module__.startswith("torch.optim.") or cls.__name__ in _everywhere
        if trusted or cls.__name__ in CLASSES:
            name = cls.__name__
            if trusted and name in PRECONDITIONERS:
                return PRECONDITIONERS[name]
            break
    return f"no preconditioner is known for {name}; register_preconditioner adds one"


def has_stepped(state: State) -> bool:
    """Whether a parameter's state comes from steps that were taken, and not from the start.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> optimizer = torch.optim.Adagrad([w], lr=0.1)
    >>> has_stepped(optimizer.state[w])
    False
    >>> w.grad = torch.ones(2)
    >>> optimizer.step()
    >>> has_stepped(optimizer.state[w])
    True
    """
    step = state.get("step")
    if step is not None:
        return float(step) > 0
    return any(value is not None for value in state.values())


def _betas(group: ParamGroup) -> tuple[float, float]:
    beta1, beta2 = group["betas"]
    return float(beta1), float(beta2)


def _taken(step: float) -> float:
    if step < 1.0:
        raise ValueError("no step was taken yet")
    return step


def _coupled_decay(group: ParamGroup, decoupled: bool = False) -> float:
    """λ if weight decay acts through the gradient; `decoupled` is the class's own way."""
    if group.get("decoupled_weight_decay", decoupled):
        return 0.0
    return float(group["weight_decay"])
