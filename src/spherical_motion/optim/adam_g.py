"""AdamG: Adam on the sphere, with one second moment a group."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spherical_motion.binding import MAX_DEFECT, bind
from spherical_motion.checks import number
from spherical_motion.optim.engine import AdamGNumbers, Factors, Products, Turn, root, turn_adam_g
from spherical_motion.optim.on_sphere import (
    Flags,
    NormedOptimizer,
    State,
    check_betas,
    common_settings,
    other_settings,
    two_param_groups,
)
from spherical_motion.optim.steering import ParamGroup
from spherical_motion.vocabulary.groups import InvariantGroup


class AdamG(NormedOptimizer):
    """Momentum and one adaptive rate a group, on the sphere; the rest by SGD or AdamW.

    For each invariant group, with x̂ = x/r and g̃ the gradient at x̂, Adam's equations (Roburin et
    al., equations 21-23) with a scalar second moment, without decay, and with the weights brought
    back to the sphere (section 3.2)::

        m ← β1·m + (1 - β1)·g̃;    v ← β2·v + (1 - β2)·|g̃|²
        x̂ ← x̂ - lr·m/(1 - β1^k) / (√(v/(1 - β2^k)) + eps),  back to length 1

    v starts at 0. The momentum is a tangent of the sphere. As the step goes along m itself, the
    rotation that turns the weights carries m to the new point (parallel transport along a great
    circle); this keeps its length and costs nothing. Adam leaves m where it was and so gives it a
    radial part. `lr` is about the angle of a step in radians while gradients agree, and eps is
    outside the root, as in `torch.optim.Adam`. Param groups, rows that belong to no group and
    state are as in `AdaGradG`.

    Args:
        model: the model that `groups` were found on.
        groups: invariant groups, of layers or of filters.
        lr: >= 0.
        betas: β1 and β2, each in [0, 1).
        eps: > 0, in units of the gradient at radius 1.
        radius, other, maximize, foreach, fused, max_defect: as for `AdaGradG`.

    Raises:
        InvalidArgument: as `AdaGradG`.

    >>> from spherical_motion.vocabulary import Slice
    >>> net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4))
    >>> rows = Slice("0.weight", 0, 0, 4)
    >>> group = InvariantGroup("0", "scale", (rows,), (), 16, defect=0.0)
    >>> optimizer = AdamG(net, [group], lr=1e-3, radius=1.0, other="adamw")
    >>> net(torch.randn(8, 4)).pow(3).sum().backward()
    >>> optimizer.step()
    >>> round(net[0].weight.norm().item(), 6)
    1.0
    """

    rule = "adamg"
    has_momentum = True

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[InvariantGroup],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        radius: float | None = None,
        other: str | Mapping[str, Any] = "sgd",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        max_defect: float | None = MAX_DEFECT,
    ) -> None:
        number("AdamG", "lr", lr, least=0.0)
        check_betas("AdamG(betas=...)", betas)
        remedy = "It keeps a group without gradient from dividing by 0."
        number("AdamG", "eps", eps, above=0.0, remedy=remedy)
        common = common_settings("AdamG", radius, maximize, foreach, fused)
        members = bind(model, groups, where="AdamG", max_defect=max_defect)
        rest = {**other_settings("AdamG", other), **common}
        own = {"rule": self.rule, "lr": lr, "betas": betas, "eps": eps, "radius": radius, **common}
        super().__init__(two_param_groups(model, members, own, rest), {0: members}, rest)

    def second_moments(self) -> dict[str, Tensor]:
        """v of each group by name, not bias-corrected; empty before the first step."""
        return self._by_name("group_moment")

    def _turn(
        self, group: ParamGroup, sums: Tensor, state: State, can_turn: Tensor
    ) -> tuple[list[Tensor], State]:
        xx, xg, gg, xm, mm, mg = Products(*sums.unbind(dim=1))
        (beta1, beta2), lr = group["betas"], group["lr"]
        sign = -1.0 if group["maximize"] else 1.0
        somewhere = xx > 0
        square = torch.where(somewhere, xx, 1.0)
        norm = root(square)

        # The new momentum as a mix of x, g and m. Each part is made tangential again, because
        # rounding and changes of the weights from outside give it a radial part.
        u_g = sign * (1.0 - beta1) * norm
        u_x = -beta1 * xm / square - u_g * xg / square
        m_sq = (mm - xm * xm / square).clamp(min=0.0)
        g_sq = (gg - xg * xg / square).clamp(min=0.0)
        both = mg - xm * xg / square
        length_sq = (beta1**2 * m_sq + 2.0 * beta1 * u_g * both + u_g**2 * g_sq).clamp(min=0.0)

        steps = state["group_steps"] + 1.0
        moment = beta2 * state["group_moment"] + (1.0 - beta2) * square * g_sq
        size = root(moment / (1.0 - beta2**steps)) + group["eps"]
        rate = torch.where(can_turn, lr / (1.0 - beta1**steps) / size, 0.0)

        # x̂ - rate·u has length √(1 + rate²|u|²); the same turn takes u to its new tangent.
        stretch = root(1.0 + rate * rate * length_sq)
        radius = self._radius(group, state, norm)
        x_x = radius / stretch * (1.0 / norm - rate * u_x)
        x_g = -radius / stretch * rate * u_g
        x_m = -radius / stretch * rate * beta1
        m_x = (rate * length_sq / norm + u_x) / stretch
        m_g = u_g / stretch
        m_m = beta1 / stretch

        plain = -sign * self.param_groups[group["others"]]["lr"]
        turns = somewhere & can_turn
        factors = Factors(
            torch.where(somewhere, x_x, 1.0),
            torch.where(somewhere, x_g, plain),
            *(torch.where(turns, factor, 0.0) for factor in (x_m, m_x, m_g, m_m)),
        )
        after = {
            "group_moment": torch.where(somewhere, moment, 0.0),
            "group_radius": torch.where(somewhere, radius, 0.0),
            "group_steps": torch.where(somewhere, steps, 0.0),
        }
        return list(factors), after

    def _compiled_turn(
        self, group: ParamGroup, state: State, can_turn: Flags, active: Flags
    ) -> Turn:
        sign = -1.0 if group["maximize"] else 1.0
        plain = -sign * float(self.param_groups[group["others"]]["lr"])
        settings = (group["lr"], *group["betas"], group["eps"], group["radius"] or 0.0)
        numbers = AdamGNumbers(*map(float, settings), sign=sign, plain=plain)
        vectors = (state[f"group_{name}"].numpy() for name in ("moment", "radius", "steps"))
        return functools.partial(turn_adam_g, numbers, *vectors, can_turn, active)
