"""AdaGradG: the motion of invariant weights under SGD with weight decay, as steps on the sphere.

Under SGD the norm r of an invariant group grows with every gradient and shrinks with the decay,
and it divides the steps: the angle of a step is ηr^-2/(1 - ηλ) times the unit gradient g̃. So the
norm acts as an adaptive learning rate, and r⁴ is a decaying sum of squares:

    r⁴ ← (1 - ηλ)⁴·r⁴·(1 + τ)²,    τ = tan²Δ = (η|g̃|/(r²(1 - ηλ)))².

Keeping 1 + 2τ of the last factor gives AdaGradG on the sphere with v = r⁴/(2η²√β).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from spherical_motion import checks
from spherical_motion.binding import MAX_DEFECT, Members, bind
from spherical_motion.checks import number
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.optim.engine import AdaGradGNumbers, Turn, root, turn_adagrad_g
from spherical_motion.optim.on_sphere import (
    Flags,
    NormedOptimizer,
    State,
    common_settings,
    other_settings,
    two_param_groups,
)
from spherical_motion.optim.steering import ParamGroup
from spherical_motion.vocabulary.groups import InvariantGroup

_FROM_SGD = "AdaGradG.from_sgd"
Number = TypeVar("Number", float, Tensor)


class SgdOnSphere(NamedTuple):
    """The settings with which AdaGradG moves as SGD does."""

    lr: float
    """η_k = (2β)^-½."""
    beta: float
    """β = (1 - ηλ)⁴."""
    moment: float
    """v_0 = r_0⁴/(2η²√β) of a group that starts at norm r_0."""


class AdaGradG(NormedOptimizer):
    """One adaptive rate a group, on the sphere; the other parameters by SGD or AdamW.

    For each invariant group with weights x on the sphere of radius r, x̂ = x/r and g̃ the gradient
    at x̂ (Roburin et al., section 3.2; they take r = 1)::

        x̂ ← x̂ - lr·g̃/√v,  back to length 1;    v ← beta·v + |g̃|².

    The radius does not change the motion: weights three times as large take the same path. In a
    steady state v = |g̃|²/(1 - beta), and each step turns the group by lr·√(1 - beta) radians.

    `param_groups[0]` holds the invariant parameters with `lr` and `beta`, `param_groups[1]` the
    others with the settings of torch's class, so schedulers work as with any optimizer. Rows that
    belong to no group take the latter. The first step makes the state: load weights before it.

    Args:
        model: the model that `groups` were found on.
        groups: invariant groups, of layers or of filters.
        lr: step in units of √v, > 0.
        beta: share of v that a step keeps, in (0, 1].
        moment: v before the first step, > 0. None: a group's first |g̃|²/(1 - beta), its steady
            state; its first |g̃|² if beta is 1.
        radius: norm to keep every group at. None: each at the norm it has at its first step.
        other: "sgd", "adamw", or settings like {"rule": "adamw", "lr": 1e-3}.
        maximize, foreach: as in torch.
        fused: compiled loops for weights on the CPU. None: where they fit, without `foreach`.
        max_defect: largest defect allowed of a group; see `bind`.

    Raises:
        InvalidArgument: groups that cannot be steered (see `bind`), a setting outside its range,
            complex or half-precision weights.

    >>> from spherical_motion.vocabulary import Slice
    >>> net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4))
    >>> part = Slice("0.weight", 0, 0, 4)
    >>> group = InvariantGroup("0", "scale", (part,), (), 16, defect=0.0)
    >>> optimizer = AdaGradG(net, [group], lr=0.71, beta=0.9999, other={"lr": 0.1})
    >>> before = net[0].weight.norm().item()
    >>> net(torch.randn(8, 4)).pow(3).sum().backward()
    >>> optimizer.step()
    >>> abs(net[0].weight.norm().item() / before - 1.0) < 1e-6
    True
    """

    rule = "adagradg"

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[InvariantGroup],
        lr: float | Tensor = 0.7071,
        beta: float = 0.9999,
        *,
        moment: float | None = None,
        radius: float | None = None,
        other: str | Mapping[str, Any] = "sgd",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        max_defect: float | None = MAX_DEFECT,
    ) -> None:
        number("AdaGradG", "lr", lr, above=0.0)
        remedy = "With SGD's settings it is (1 - lr·weight_decay)⁴: AdaGradG.from_sgd sets it."
        number("AdaGradG", "beta", beta, above=0.0, most=1.0, remedy=remedy)
        if moment is not None:
            remedy = "The first step divides by its root; leave it out to start from the gradient."
            number("AdaGradG", "moment", moment, above=0.0, remedy=remedy)
        common = common_settings("AdaGradG", radius, maximize, foreach, fused)
        members = bind(model, groups, where="AdaGradG", max_defect=max_defect)
        rest = {**other_settings("AdaGradG", other), **common}
        own = {"rule": self.rule, "follows": None, "lr": lr, "beta": beta, "moment": moment}
        own |= {"radius": radius, **common}
        super().__init__(two_param_groups(model, members, own, rest), {0: members}, rest)

    @classmethod
    def from_sgd(
        cls,
        model: nn.Module,
        groups: Sequence[InvariantGroup],
        sgd: torch.optim.SGD | None = None,
        *,
        lr: float | None = None,
        weight_decay: float = 0.0,
        radius: float | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
        max_defect: float | None = MAX_DEFECT,
    ) -> AdaGradG:
        """An optimizer that moves the groups as SGD would, and steps the rest by that SGD.

        Theorem 4 of Roburin et al.: β = (1 - ηλ)⁴, η_k = (2β)^-½ and v_0 = r_0⁴/(2η²√β), with r_0
        the norm of each group at its first step. The theorem drops a share τ² = tan⁴Δ of v a step:
        over a fixed stretch of η·steps the two paths part as η³, and in equilibrium their angles
        differ by a share of about ηλ/2.

        In param groups of invariant parameters, `lr` and `weight_decay` are SGD's, so its scheduler
        can drive them; `eta` and `beta` show what follows from them. The theorem is about constant
        settings, but v = r⁴/(2η²√β) holds at every step: the state keeps SGD's r⁴, which a change
        of settings does not touch, and the order of the error stays.

        Args:
            model: the model that `groups` were found on.
            groups: invariant groups, of layers or of filters.
            sgd: the optimizer to replace; gives its settings, its param groups without frozen
                parameters and the momentum of parameters that are not invariant.
            lr, weight_decay: its settings instead, for all parameters.
            radius, foreach, fused, max_defect: as for the class.

        Raises:
            InvalidArgument: momentum, dampening or Nesterov for an invariant group, which the
                theorem does not cover; or as the class does.
            OutOfDomain: lr × weight_decay is not below 1.

        >>> plain = AdaGradG.sgd_on_sphere(1e-2, 1e-3, norm=1.0)
        >>> round(plain.lr, 3), round(plain.beta, 5)
        (0.707, 0.99996)
        """
        sgd = _checked_sgd(model, sgd, lr, weight_decay)
        members = bind(model, groups, sgd, _FROM_SGD, max_defect=max_defect)
        rest = other_settings(_FROM_SGD, "sgd")
        param_groups: list[ParamGroup] = []
        owned: dict[int, Members] = {}
        for given in sgd.param_groups:
            common = common_settings(_FROM_SGD, radius, given["maximize"], foreach, fused)
            rest = {"rule": "sgd", **{key: given[key] for key in rest if key != "rule"}, **common}
            params = given["params"]
            mine = [g for i, g in enumerate(members.groups) if members.owner(i) is given]
            if mine:
                _check_covered(given, mine)
                part = bind(model, mine, where=_FROM_SGD, max_defect=max_defect)
                own = {"rule": cls.rule, "follows": "sgd", "lr": given["lr"], "radius": radius}
                own |= {"weight_decay": given["weight_decay"], **_shown(given), **common}
                own |= {"params": list(part.parameters), "others": len(param_groups) + 1}
                steered = {id(p) for p in part.parameters}
                params = [p for p in params if id(p) not in steered]
                owned[len(param_groups)] = part
                param_groups.append(own)
            param_groups.append({"params": params, **rest})
        made = cls.__new__(cls)
        NormedOptimizer.__init__(made, param_groups, owned, rest)
        for parameter, state in sgd.state.items():
            if state.get("momentum_buffer") is not None:
                made.state[parameter]["momentum_buffer"] = state["momentum_buffer"].clone()
        return made

    @staticmethod
    @checks.validated
    def sgd_on_sphere(lr: float, weight_decay: float, norm: float) -> SgdOnSphere:
        """Theorem 4 of Roburin et al. for SGD(lr, weight_decay) from weights of norm `norm`.

        Raises:
            OutOfDomain: lr or norm not positive, or lr × weight_decay outside [0, 1).

        >>> AdaGradG.sgd_on_sphere(0.5, 0.0, norm=2.0)
        SgdOnSphere(lr=0.7071067811865476, beta=1.0, moment=32.0)
        """
        if not (lr > 0.0 and norm > 0.0):
            raise OutOfDomain(f"sgd_on_sphere: lr and norm must be > 0, got {lr!r} and {norm!r}.")
        shrink = 1.0 - _decay(lr, weight_decay)
        beta = shrink**4
        return SgdOnSphere((2.0 * beta) ** -0.5, beta, norm**4 / (2.0 * lr**2 * shrink**2))

    def second_moments(self) -> dict[str, Tensor]:
        """v of each group by name, 0-d float64 tensors; empty before the first step."""
        found = self._by_name("group_moment")
        for index, members in self._members.items():
            group = self.param_groups[index]
            if group["follows"] == "sgd" and members.names[0] in found:
                shrink = 1.0 - _decay(group["lr"], group["weight_decay"])
                for name in members.names:
                    found[name] = found[name] / (2.0 * group["lr"] ** 2 * shrink**2)
        return found

    def _turn(
        self, group: ParamGroup, sums: Tensor, state: State, can_turn: Tensor
    ) -> tuple[list[Tensor], State]:
        xx, xg, gg = sums.unbind(dim=1)
        somewhere = xx > 0
        square = torch.where(somewhere, xx, 1.0)
        unit_sq = xx * (gg - xg * xg / square).clamp(min=0.0)
        moment = state["group_moment"]
        lr = group["lr"]
        if group["follows"] == "sgd":
            # The state holds SGD's r⁴ = 2η²√β·v, which survives a change of settings and η = 0.
            shrink = 1.0 - _decay(lr, group["weight_decay"])
            group.update(_shown(group))
            moment = torch.where(moment > 0, moment, xx * xx)
            rate = lr / shrink * _inverse_root(moment)
            moment = shrink**4 * moment + 2.0 * (lr * shrink) ** 2 * unit_sq
        else:
            beta = group["beta"]
            first = unit_sq / (1.0 - beta) if beta < 1.0 else unit_sq
            if group["moment"] is not None:
                first = torch.full_like(unit_sq, group["moment"])
            moment = torch.where(moment > 0, moment, first)
            rate = lr * _inverse_root(moment)
            moment = beta * moment + unit_sq
        rate = torch.where(can_turn, rate, 0.0)

        # x̂ - rate·g̃ has length √(1 + rate²|g̃|²), as g̃ is tangential.
        radius = self._radius(group, state, root(xx))
        scale = radius * (square * (1.0 + rate * rate * unit_sq)).rsqrt()
        sign = -1.0 if group["maximize"] else 1.0
        of_x = scale * (1.0 + sign * rate * xg)
        of_g = -sign * scale * rate * xx

        plain = -sign * self.param_groups[group["others"]]["lr"]
        of_x = torch.where(somewhere, of_x, 1.0)
        of_g = torch.where(somewhere, of_g, plain)
        kept = torch.where(somewhere, radius, 0.0)
        return [of_x, of_g], {"group_moment": moment, "group_radius": kept}

    def _compiled_turn(
        self, group: ParamGroup, state: State, can_turn: Flags, active: Flags
    ) -> Turn:
        lr = float(group["lr"])
        if group["follows"] == "sgd":
            shrink = 1.0 - _decay(lr, float(group["weight_decay"]))
            group.update(_shown(group))
            rate, keep, gain = lr / shrink, shrink**4, 2.0 * (lr * shrink) ** 2
            of_norm, of_unit, fixed = 1.0, 0.0, 0.0
        else:
            beta, moment = float(group["beta"]), group["moment"]
            rate, keep, gain = lr, beta, 1.0
            of_norm, of_unit, fixed = 0.0, 1.0 / (1.0 - beta) if beta < 1.0 else 1.0, 0.0
            if moment is not None:
                of_unit, fixed = 0.0, float(moment)
        sign = -1.0 if group["maximize"] else 1.0
        plain = -sign * float(self.param_groups[group["others"]]["lr"])
        radius = float(group["radius"] or 0.0)
        numbers = AdaGradGNumbers(
            rate, keep, gain, of_norm, of_unit, fixed, radius=radius, sign=sign, plain=plain
        )
        vectors = (state[f"group_{name}"].numpy() for name in ("moment", "radius"))
        return functools.partial(turn_adagrad_g, numbers, *vectors, can_turn, active)


def _checked_sgd(
    model: nn.Module, sgd: torch.optim.SGD | None, lr: float | None, weight_decay: float
) -> torch.optim.SGD:
    """The SGD to replace, or one made of the given settings."""
    if (sgd is None) == (lr is None):
        raise InvalidArgument(f"{_FROM_SGD} expects an SGD optimizer or lr=..., one of the two.")
    if sgd is None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            number(_FROM_SGD, name, value, least=0.0, remedy="Pass SGD's.")
        trained = [p for p in model.parameters() if p.requires_grad]
        sgd = torch.optim.SGD(trained, lr=lr or 0.0, weight_decay=weight_decay)
    if not isinstance(sgd, torch.optim.SGD):
        raise InvalidArgument(
            f"{_FROM_SGD}(sgd=...) must be a torch.optim.SGD, got {type(sgd).__name__}: "
            "theorem 4 of Roburin et al. is about SGD."
        )
    return sgd


def _inverse_root(moment: Tensor) -> Tensor:
    """1/√v, and 0 for a group that has had no gradient yet."""
    return torch.where(moment > 0, moment, torch.inf).rsqrt()


def _decay(lr: Number, weight_decay: float) -> Number:
    share = lr * weight_decay
    if not 0.0 <= share < 1.0:
        raise OutOfDomain(
            f"AdaGradG: lr × weight_decay must lie in [0, 1), got {lr} × {weight_decay}: SGD would "
            "turn the weights around. Lower one of them."
        )
    return share


def _shown(settings: ParamGroup) -> ParamGroup:
    """`eta` and `beta` of theorem 4 at SGD's settings."""
    beta = (1.0 - _decay(settings["lr"], settings["weight_decay"])) ** 4
    return {"eta": (2.0 * beta) ** -0.5, "beta": beta}


def _check_covered(settings: ParamGroup, groups: Sequence[InvariantGroup]) -> None:
    for name in ("momentum", "dampening", "nesterov"):
        if settings[name]:
            raise InvalidArgument(
                f"{_FROM_SGD}: group {groups[0].name!r} is stepped with {name}={settings[name]}; "
                "theorem 4 of Roburin et al. covers SGD without it, as the norm is then no sum "
                "over single gradients. Use momentum=0 for invariant parameters, or AdamG."
            )
    if not settings["lr"] > 0.0:
        raise InvalidArgument(
            f"{_FROM_SGD}: lr must be > 0, got {settings['lr']!r}. Make it before a "
            "scheduler sets the rate to 0; afterwards 0 is a pause."
        )
