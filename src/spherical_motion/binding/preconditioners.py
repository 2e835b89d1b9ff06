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

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

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


def _adam(group: ParamGroup, state: State, decoupled: bool = False) -> Preconditioner:
    beta1, beta2 = _betas(group)
    t = _step(state)
    return Preconditioner(
        state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"],
        scale=1.0 / (1.0 - beta1**t),
        root=(1.0 - beta2**t) ** -0.5,
        eps=float(group["eps"]),
        decay=_coupled_decay(group, decoupled),
        average=state["exp_avg"],
    )


def _adamw(group: ParamGroup, state: State) -> Preconditioner:
    # Older versions of AdamW have no setting that says so.
    return _adam(group, state, decoupled=True)


def _nadam(group: ParamGroup, state: State) -> Preconditioner:
    beta1, beta2 = _betas(group)
    t = _step(state)
    next_mu = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1.0) * group["momentum_decay"]))
    return Preconditioner(
        state["exp_avg_sq"],
        scale=1.0 / (1.0 - float(state["mu_product"]) * next_mu),
        root=(1.0 - beta2**t) ** -0.5,
        eps=float(group["eps"]),
        decay=_coupled_decay(group),
        average=state["exp_avg"],
    )


def _radam(group: ParamGroup, state: State) -> Preconditioner:
    beta1, beta2 = _betas(group)
    t = _step(state)
    unbias1, unbias2 = 1.0 - beta1**t, 1.0 - beta2**t
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * t * beta2**t / unbias2
    decay, average = _coupled_decay(group), state["exp_avg"]
    if length <= 5.0:
        return Preconditioner.flat(1.0 / unbias1, decay, average)
    short_of = (length - 4.0) * (length - 2.0) * longest
    rectifier = math.sqrt(short_of / ((longest - 4.0) * (longest - 2.0) * length))
    return Preconditioner(
        state["exp_avg_sq"],
        scale=rectifier * math.sqrt(unbias2) / unbias1,
        root=1.0,
        eps=float(group["eps"]),
        decay=decay,
        average=average,
    )


def _adamax(group: ParamGroup, state: State) -> Preconditioner:
    beta1, _ = _betas(group)
    return Preconditioner(
        state["exp_inf"],  # holds eps
        scale=1.0 / (1.0 - beta1 ** _step(state)),
        linear=1.0,
        decay=_coupled_decay(group),
        average=state["exp_avg"],
    )


def _rmsprop(group: ParamGroup, state: State) -> Preconditioner:
    v = state["square_avg"]
    if group.get("centered"):
        v = torch.addcmul(v, state["grad_avg"], state["grad_avg"], value=-1)
    return Preconditioner(v, root=1.0, eps=float(group["eps"]), decay=_coupled_decay(group))


def _adagrad(group: ParamGroup, state: State) -> Preconditioner:
    slowed = 1.0 + (_step(state) - 1.0) * group["lr_decay"]
    return Preconditioner(
        state["sum"],
        scale=1.0 / slowed,
        root=1.0,
        eps=float(group["eps"]),
        decay=_coupled_decay(group),
    )


PRECONDITIONERS: dict[str, Rule | None] = {
    "SGD": None,  # P is 1: wp follows from the six products.
    "Adam": _adam,
    "AdamW": _adamw,
    "NAdam": _nadam,
    "RAdam": _radam,
    "Adamax": _adamax,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
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


def read_preconditioner(
    rule: Rule,
    group: ParamGroup,
    state: State,
    parameter: torch.Tensor,
    *,
    with_average: bool = True,
) -> Preconditioner | str:
    """The preconditioner of a parameter from the state after a step, or why there is none.

    Never raises: a state that is missing, renamed, sharded, on another device, or of another dtype
    or shape than the weights gives a reason. The average counts only `with_average`.

    >>> w = torch.zeros(2)
    >>> read_preconditioner(_rmsprop, {"eps": 0.0, "weight_decay": 0.0}, {}, w)
    'the optimizer holds no state for it'
    """
    if not state:
        return "the optimizer holds no state for it"
    try:
        found = rule(group, state)
    except KeyError as error:
        return f"the optimizer holds no {error} for it"
    except Exception as error:  # a rule from outside must not end the recording
        return f"its state could not be read: {type(error).__name__}: {error}"
    why = _misfit(found.state, parameter)
    if with_average:
        why = why or _misfit(found.average, parameter)
    return why or found


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


def _misfit(tensor: object, parameter: torch.Tensor) -> str | None:
    """Why a tensor of the state cannot be read beside the weights, or None."""
    if tensor is None:
        return None
    plain = type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter
    if not isinstance(tensor, torch.Tensor) or not plain:
        return f"its state is held as {type(tensor).__name__}"
    if tensor.layout is not torch.strided:
        return f"its state is held in the layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.dtype is not parameter.dtype:
        return f"its state is {tensor.dtype}, and its weights are {parameter.dtype}"
    if tensor.shape != parameter.shape:
        return (
            f"its state has the shape {tuple(tensor.shape)}, its weights {tuple(parameter.shape)}"
        )
    if not tensor.is_cpu:
        return f"its state is on {tensor.device}, which cannot be measured yet"
    return None


def _betas(group: ParamGroup) -> tuple[float, float]:
    beta1, beta2 = group["betas"]
    return float(beta1), float(beta2)


def _step(state: State) -> float:
    """Number of steps taken, which some optimizers hold as a tensor."""
    step = float(state["step"])
    if step < 1.0:
        raise ValueError("no step was taken yet")
    return step


def _coupled_decay(group: ParamGroup, decoupled: bool = False) -> float:
    """λ if weight decay acts through the gradient; `decoupled` is the class's own way."""
    if group.get("decoupled_weight_decay", decoupled):
        return 0.0
    return float(group["weight_decay"])
