"""The rules of `torch.optim`: the installed torch's own code, run on copies of one parameter.

The step is made by the class's undecorated `step` on an object that holds this parameter alone and
was never initialized as an optimizer: no hook fires, and nothing of the real optimizer is touched.
State that is not there yet is made as the optimizer will make it.
"""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch

from spherical_motion.monitor.audit.rules import (
    NotReplayed,
    State,
    StepRule,
    as_number,
)
from spherical_motion.vocabulary.hyperparameters import ParamGroup

ELEMENTWISE = (
    *("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop"),
    *("Adagrad", "Adadelta", "ASGD", "Rprop"),
)
"""Classes whose entries do not depend on each other."""

WAYS = ("foreach", "fused", "capturable", "differentiable")
"""Settings that say how a step is computed, and not what it is."""

OWN_TRAITS = ("decoupled_weight_decay",)
"""Settings that a class fixes for itself, so that one of the same name need not have them."""

WITHOUT_EFFECT = frozenset(
    {
        *("params", "param_names", "name", "initial_lr", "swa_lr", "lr_scale"),
        *("max_lr", "min_lr", "max_momentum", "base_momentum", "min_momentum"),
    }
)
"""Entries of param groups that schedulers and training loops add."""


class TorchRule:
    """The rule of one class of `torch.optim`.

    >>> rule = TorchRule(torch.optim.SGD)
    >>> settings = rule.settings({"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}, torch.float32)
    >>> w, g = torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    >>> rule.step(w, g, {"momentum_buffer": g.clone()}, settings)
    tensor([0.8100, 0.8100], dtype=torch.float64)
    """

    def __init__(self, cls: type[torch.optim.Optimizer]) -> None:
        self._cls = cls

    def settings(self, group: ParamGroup, dtype: torch.dtype) -> Mapping[str, Any]:
        """The settings of the class, from a param group of it or of a class of the same name.

        What is left out is off, unless the class needs a value.

        Raises:
            NotReplayed: a setting is missing, or the group has one that may stand for it.
        """
        name, defaults = self._cls.__name__, self._defaults
        missing = [key for key in defaults if key not in group and key not in (*WAYS, *OWN_TRAITS)]
        if needed := [key for key in missing if defaults[key]]:
            raise NotReplayed(f"{name} has no setting {needed[0]!r}")
        unknown = [key for key in group if key not in defaults and key not in WITHOUT_EFFECT]
        if missing and unknown:
            raise NotReplayed(f"{name} has a setting {unknown[0]!r} that its rule does not have")
        own: dict[str, Any] = {
            key: as_number(group.get(key, default)) for key, default in defaults.items()
        }
        own |= {key: False for key in WAYS if key in defaults}
        if name == "Adafactor" and own["eps"][0] is None:  # torch takes that of the weights' dtype
            own["eps"] = (torch.finfo(dtype).eps, own["eps"][1])
        return own

    def step(
        self,
        weights: torch.Tensor,
        gradient: torch.Tensor,
        state: State,
        settings: Mapping[str, Any],
    ) -> torch.Tensor:
        """The weights after the step, in the memory of `weights`."""
        weights.grad = gradient
        if isinstance(state.get("step"), int | float):  # some hand-written classes count so
            state["step"] = torch.tensor(float(state["step"]))
        alone = object.__new__(self._cls)
        alone.__dict__.update(
            defaults=dict(settings),
            state=defaultdict(dict, {weights: state} if state else {}),
            param_groups=[{**settings, "params": [weights]}],
        )
        self._step(alone)
        state.update(alone.state.get(weights, {}))
        weights.grad = None
        return weights

    @functools.cached_property
    def _defaults(self) -> dict[str, Any]:
        return self._cls([torch.zeros(1, 1)], lr=0.1).defaults  # pyright: ignore[reportCallIssue]

    @functools.cached_property
    def _step(self) -> Any:
        found = inspect.unwrap(self._cls.step)
        if not found.__module__.startswith("torch.optim."):
            raise NotReplayed(f"the step of torch.optim.{self._cls.__name__} was replaced")
        return found


def _rule(name: str) -> StepRule:
    rule = TorchRule(getattr(torch.optim, name))
    # Muon's iteration runs in bfloat16, whatever the weights are.
    coarse = torch.bfloat16 if name == "Muon" else None
    return StepRule(rule.step, rule.settings, name in ELEMENTWISE, coarse=coarse)


NAMES = [name for name in (*ELEMENTWISE, "Muon", "Adafactor") if hasattr(torch.optim, name)]
TORCH_RULES = {name: _rule(name) for name in NAMES}
"""Class name → rule, of the classes that the installed torch has."""
