"""Steps for other parameters, or some of their rows: torch's own SGD and AdamW."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from spherical_motion.checks import number
from spherical_motion.errors import InvalidArgument
from spherical_motion.optim.steering import ParamGroup

OTHER_RULES: dict[str, ParamGroup] = {
    "sgd": {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False},
    "adamw": {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 1e-2,
        "amsgrad": False,
    },
}
"""Settings of each rule, with the names and defaults of the class in `torch.optim`."""


class Part(NamedTuple):
    """A parameter, or some of its rows as a view; `suffix` ends the names in its state."""

    tensor: Tensor
    grad: Tensor
    state: dict[str, Any]
    suffix: str


def other_settings(where: str, other: str | Mapping[str, Any]) -> ParamGroup:
    """A param group's settings from the user's name of a rule or mapping.

    Raises:
        InvalidArgument: an unknown rule, setting or value.

    >>> other_settings("AdaGradG", {"rule": "sgd", "lr": 0.1})["momentum"]
    0.0
    """
    if not isinstance(other, (str, Mapping)):
        raise InvalidArgument(
            f"{where}(other=...) expects the name of a rule ({', '.join(OTHER_RULES)}) or a "
            f"mapping of its settings, got {other!r}."
        )
    given = {"rule": other} if isinstance(other, str) else {"rule": "sgd", **other}
    rule = given["rule"]
    if not isinstance(rule, str) or rule not in OTHER_RULES:
        raise InvalidArgument(
            f"{where}(other=...): the rule must be one of {', '.join(OTHER_RULES)}, got {rule!r}. "
            "Step the rest with an optimizer of its own if it needs another one."
        )
    settings = {"rule": rule, **OTHER_RULES[rule], **given}
    unknown = set(settings) - {"rule", *OTHER_RULES[rule]}
    if unknown:
        raise InvalidArgument(
            f"{where}(other=...): {rule} has no setting {', '.join(sorted(unknown))}; expected "
            f"{', '.join(OTHER_RULES[rule])}."
        )
    for name in ("lr", "momentum", "weight_decay", "eps", "dampening"):
        least = -math.inf if name == "dampening" else 0.0
        number(f"{where}(other=...): {rule}", name, settings.get(name, 0.0), least=least)
    if "betas" in settings:
        check_betas(f"{where}(other=...): betas", settings["betas"])
    if settings.get("nesterov") and (settings["momentum"] <= 0 or settings["dampening"] != 0):
        raise InvalidArgument(
            f"{where}(other=...): nesterov needs a momentum > 0 and no dampening, got "
            f"momentum={settings['momentum']}, dampening={settings['dampening']}."
        )
    return settings


def check_betas(what: str, betas: Sequence[float]) -> None:
    """Raise InvalidArgument unless these are two numbers in [0, 1)."""
    try:
        fit = len(betas) == 2 and all(0.0 <= float(beta) < 1.0 for beta in betas)
    except (TypeError, ValueError):
        fit = False
    if not fit:
        raise InvalidArgument(f"{what} must be two numbers in [0, 1), got {betas!r}.")


def step_others(settings: ParamGroup, parts: Sequence[Part]) -> None:
    """One step of the rule in `settings` on every part."""
    rule = {"sgd": _sgd, "adamw": _adamw}[settings["rule"]]
    in_line = [part for part in parts if _is_in_line(part)]
    scattered = [part for part in parts if not _is_in_line(part)]
    if in_line:
        rule(settings, in_line)
    if scattered:
        # Torch's compiled steps ignore strides: they would write into the entries between.
        rule({**settings, "fused": False}, scattered)


def _is_in_line(part: Part) -> bool:
    """Whether weights and gradient each fill a block of memory, in the same order."""
    tensor, grad = part.tensor, part.grad
    if grad.is_sparse:
        return False
    if tensor.is_contiguous() and grad.is_contiguous():
        return True
    return all(
        t.ndim == 4 and t.is_contiguous(memory_format=torch.channels_last) for t in (tensor, grad)
    )


def _sgd(settings: ParamGroup, parts: Sequence[Part]) -> None:
    name = "momentum_buffer"
    buffers: list[Tensor | None] = [part.state.get(name + part.suffix) for part in parts]
    sgd(
        [part.tensor for part in parts],
        [part.grad for part in parts],
        buffers,
        has_sparse_grad=any(part.grad.is_sparse for part in parts),
        fused=_fused(settings, parts),
        **{key: settings[key] for key in (*OTHER_RULES["sgd"], "foreach", "maximize")},
    )
    if settings["momentum"] != 0:
        for part, buffer in zip(parts, buffers, strict=True):
            part.state[name + part.suffix] = buffer


def _adamw(settings: ParamGroup, parts: Sequence[Part]) -> None:
    names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * settings["amsgrad"]
    for part in parts:
        if part.grad.is_sparse:
            raise InvalidArgument(
                "AdamW has no step for sparse gradients. Build the embedding with sparse=False, "
                "or step it with torch.optim.SparseAdam."
            )
        if "step" + part.suffix not in part.state:
            part.state["step" + part.suffix] = torch.tensor(0.0, dtype=torch.float32)
            for name in names:
                part.state[name + part.suffix] = torch.zeros_like(part.tensor)
    held = {name: [part.state[name + part.suffix] for part in parts] for name in (*names, "step")}
    beta1, beta2 = settings["betas"]
    own = ("lr", "eps", "weight_decay", "amsgrad", "foreach", "maximize")
    adamw(
        [part.tensor for part in parts],
        [part.grad for part in parts],
        held["exp_avg"],
        held["exp_avg_sq"],
        held.get("max_exp_avg_sq", []),
        held["step"],
        fused=_fused(settings, parts),
        beta1=beta1,
        beta2=beta2,
        **{key: settings[key] for key in own},
    )


def _fused(settings: ParamGroup, parts: Sequence[Part]) -> bool | None:
    """Take torch's compiled step on the CPU, unless the user chose."""
    if settings["fused"] is not None or settings["foreach"] is not None:
        return settings["fused"]
    kinds = (torch.float32, torch.float64)
    on_cpu = all(part.tensor.is_cpu and part.tensor.dtype in kinds for part in parts)
    return (on_cpu and not any(part.grad.is_sparse for part in parts)) or None
