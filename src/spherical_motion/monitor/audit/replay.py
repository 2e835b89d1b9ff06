"""Make the step that an optimizer's rule makes, before the real one, and compare the two.

Memory: the expected step takes one copy of the weights (two for weights in half precision), which
is given back after the comparison. All else is done in parts of `PART` entries, or tensor by tensor
where a rule ties the entries of a tensor together.

What rounding explains is measured and not guessed: the rule is run a second time in the dtype of
the weights, and the difference to float64 is what arithmetic does, cancellation included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.binding import stepped_parameters
from spherical_motion.monitor.audit.context import AuditContext
from spherical_motion.monitor.audit.parts import PART, PLAIN, flat, is_plain, overlapping, parts_of
from spherical_motion.monitor.audit.rules import NotReplayed, State, StepRule
from spherical_motion.monitor.audit.table import rule_of
from spherical_motion.notices import described
from spherical_motion.records import AUDIT_SUMS

MARGIN = 4.0
"""The real step may differ from the rule's by so many times the rule's own rounding error."""

WRITES = 2.0
"""Roundings of the weights in one step: decay and update."""

OPERATIONS = 8.0
"""Roundings of the step itself, in units of half the spacing."""

NUMBERS = ("step", "mu_product", "eta", "mu")
"""Entries of the state that torch rounds to their own dtype at each step, whatever the weights'."""

COLUMN = {name: place for place, name in enumerate(AUDIT_SUMS)}


@dataclasses.dataclass(slots=True)
class _Expected:
    """What is kept of one parameter from before its step until after it.

    Attributes:
        step: the expected step; None where no gradient is, or where `why` says why.
        uncertain_sq: the square of what arithmetic may add to the difference.
        operations: roundings of the step, in units of half the spacing of `coarse_eps`.
        coarse_eps: the spacing of the dtype in which the step is computed, if not the weights'.
        made: names of the state that the optimizer has to make in this step.
        why: why there is no expected step.
    """

    step: torch.Tensor | None = None
    uncertain_sq: float = 0.0
    operations: float = OPERATIONS
    coarse_eps: float = 0.0
    made: tuple[str, ...] = ()
    why: str = ""


class Replay:
    """Replays the steps of one optimizer."""

    def __init__(self, context: AuditContext) -> None:
        self._context = context
        self._expected: list[_Expected] = []
        self._sums: NDArray[np.float64] = np.empty((0, len(AUDIT_SUMS)))

    def before(self, why_not: str = "") -> None:
        """Make the expected steps, unless `why_not` says that there can be none."""
        context = self._context
        self._sums = np.full((len(context.parameters), len(AUDIT_SUMS)), np.nan)
        rule: StepRule | None = None
        name = ""
        if not why_not:
            try:
                name, rule = rule_of(context.optimizer)
            except NotReplayed as error:
                why_not = str(error)
        shared = overlapping(stepped_parameters(context.optimizer))
        self._expected = []
        for i, parameter in enumerate(context.parameters):
            self._measure_gradient(i, parameter)
            expected = _Expected(why=why_not)
            if not why_not and id(parameter) in shared:
                expected.why = "its memory is shared with another parameter"
            if rule is not None and not expected.why:
                expected = self._expect(name, rule, i, parameter)
            self._expected.append(expected)

    def after(self, before: Sequence[torch.Tensor]) -> tuple[NDArray[np.float64], list[str]]:
        """Compare; `before` is the weights before the step. Gives the expected steps back.

        Returns:
            Shape (parameters, `AUDIT_SUMS`), and for each parameter why its step was not replayed,
            "" if it was.
        """
        context, expected = self._context, self._expected
        self._expected = []
        reasons: list[str] = []
        for i, parameter in enumerate(context.parameters):
            one, expected[i] = expected[i], _Expected()
            state = context.optimizer.state.get(parameter, {})
            if lacking := [name for name in one.made if name not in state]:
                one.step = None
                one.why = f"its state has no {lacking[0]!r} after the step"
            self._compare(i, parameter.detach(), before[i], one)
            reasons.append(one.why)
        return self._sums, reasons

    def forget(self) -> None:
        """Give back the expected steps: the step was not taken."""
        self._expected = []

    def _group(self, i: int) -> dict[str, Any]:
        return self._context.optimizer.param_groups[self._context.param_groups[i]]

    def _measure_gradient(self, i: int, parameter: torch.Tensor) -> None:
        """gg, wg, and the entries at the largest: their share, number and size."""
        gradient = parameter.grad
        if gradient is None or not is_plain(gradient) or not is_plain(parameter):
            return
        sign = -1.0 if self._group(i).get("maximize") else 1.0
        gg = wg = 0.0
        largest, at_largest, nonzero = 0.0, 0, 0
        for w, g in parts_of([flat(parameter.detach(), parameter), flat(gradient, parameter)]):
            w, g = w.double(), g.to(torch.float64, copy=True)
            gg += float(torch.dot(g, g))
            wg += float(torch.dot(w, g))
            size = g.abs_()
            top = float(size.max())
            nonzero += int(torch.count_nonzero(size))
            if top > largest:
                largest, at_largest = top, 0
            if top == largest > 0.0:
                at_largest += int(torch.count_nonzero(size == top))
        row = self._sums[i]
        row[COLUMN["gg"]], row[COLUMN["wg"]] = gg, sign * wg
        row[COLUMN["peak"]] = at_largest / nonzero if nonzero else np.nan
        row[COLUMN["at_peak"]], row[COLUMN["largest"]] = at_largest, largest

    def _expect(self, name: str, rule: StepRule, i: int, parameter: torch.Tensor) -> _Expected:
        """The expected step of one parameter."""
        weights, gradient = parameter.detach(), parameter.grad
        try:
            if gradient is None:
                return _Expected()  # torch passes it by
            if gradient.layout is not torch.strided:
                raise NotReplayed("sparse gradient")
            # Not state[parameter], which would make an entry where there is none.
            state = self._context.optimizer.state.get(parameter, {})
            _check_plain({"weight": weights, "gradient": gradient, **state})
            settings = rule.settings(self._group(i), weights.dtype)
            return _expected_step(rule, settings, weights, gradient, state)
        except NotReplayed as error:
            return _Expected(why=str(error))
        except KeyError as error:
            return _Expected(why=f"{name} has no {error}")
        except Exception as error:  # a state that looks otherwise than the rule's own
            return _Expected(why=f"{name} could not be replayed: {described(error)}")

    def _compare(
        self, i: int, after: torch.Tensor, before: torch.Tensor, expected: _Expected
    ) -> None:
        """The sums of one parameter over w, d and e."""
        names = ("ww", "wd", "dd", "we", "de", "ee", "miss_sq", "lost", "after_sq")
        total = dict.fromkeys(names, 0.0)
        eps = torch.finfo(after.dtype).eps
        known = expected.step is not None
        made = expected.step if expected.step is not None else before
        for w, now, e in parts_of([flat(t, before) for t in (before, after, made)]):
            w, now = w.double(), now.double()
            d = now - w
            e = e.double() if known else torch.zeros_like(w)
            total["ww"] += float(torch.dot(w, w))
            total["wd"] += float(torch.dot(w, d))
            total["dd"] += float(torch.dot(d, d))
            total["after_sq"] += float(torch.dot(now, now))
            if known:
                total["we"] += float(torch.dot(w, e))
                total["de"] += float(torch.dot(d, e))
                total["ee"] += float(torch.dot(e, e))
                # An entry stays where it is if its step is below half the spacing of the weights.
                still = (d == 0.0) & (e.abs() <= eps * w.abs())
                total["lost"] += float(torch.dot(e.square(), still.double()))
            d.sub_(e)
            total["miss_sq"] += float(torch.dot(d, d))
        row = self._sums[i]
        for name in ("ww", "wd", "dd"):
            row[COLUMN[name]] = total[name]
        if expected.why:
            return
        for name in ("we", "de", "ee", "miss_sq"):
            row[COLUMN[name]] = total[name]
        row[COLUMN["lost"]] = total["lost"] / total["ee"] if total["ee"] > 0.0 else 0.0
        written = (WRITES * eps / 2.0) ** 2 * max(total["ww"], total["after_sq"])
        rounding = max(eps, expected.coarse_eps) / 2.0
        computed = (expected.operations * rounding) ** 2 * total["ee"]
        row[COLUMN["allowed_sq"]] = written + computed + expected.uncertain_sq if known else 0.0


def _expected_step(
    rule: StepRule,
    settings: Any,
    weights: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
) -> _Expected:
    """Run the rule in float64 for the step, and in the weights' dtype for its rounding error."""
    # Weights in half precision move by less than they can hold: the step is kept in float32.
    kept = torch.float64 if weights.dtype is torch.float64 else torch.float32
    expected = torch.empty_like(weights, dtype=kept, memory_format=torch.preserve_format)
    coarse = weights.dtype if weights.dtype is not torch.float64 else torch.float32
    # In float64 the error is that of float32, smaller by the ratio of their spacings.
    scale = torch.finfo(weights.dtype).eps / torch.finfo(coarse).eps
    uncertain_sq = 0.0
    made: tuple[str, ...] = ()
    operations = OPERATIONS
    for w, g, e, own in _pieces(rule, weights, gradient, expected, state):
        fine, rough = _copies(own, torch.float64), _copies(own, coarse)
        old = w.double()
        step = rule.step(old.clone(), g.to(torch.float64, copy=True), fine, settings) - old
        e.copy_(step)
        made = tuple(name for name in fine if name not in own)
        operations = OPERATIONS + _correcting(settings, fine)
        old = w.to(coarse)
        rounded = rule.step(old.clone(), g.to(coarse, copy=True), rough, settings)
        error = rounded.double().sub_(old.double()).sub_(step).reshape(-1)
        uncertain_sq += (MARGIN * scale) ** 2 * float(torch.dot(error, error))
        if rule.jumps is not None:
            uncertain_sq += rule.jumps(w, g, own, settings)
    if state and (lacking := [name for name in made if name not in state]):
        raise NotReplayed(f"its state has no {lacking[0]!r}")
    coarse_eps = 0.0 if rule.coarse is None else torch.finfo(rule.coarse).eps
    return _Expected(expected, uncertain_sq, operations, coarse_eps, made)


def _correcting(settings: Any, state: State) -> float:
    """What the bias corrections 1 - β^t add if they are computed in the dtype of the weights.

    A compiled or captured step does so, and in the first steps 1 - β^t is small.
    """
    if "step" not in state or "betas" not in settings:
        return 0.0
    taken = float(state["step"])
    return sum(1.0 / (1.0 - beta**taken) for beta in settings["betas"] if 0.0 < beta < 1.0)


def _pieces(
    rule: StepRule,
    weights: torch.Tensor,
    gradient: torch.Tensor,
    expected: torch.Tensor,
    state: State,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, State]]:
    """The tensor in parts, or whole where the rule ties its entries together; no copies.

    The expected step comes back filled, in the layout of the weights.
    """
    if not rule.elementwise or weights.numel() <= PART:
        yield weights, gradient, expected, state
        return
    like = {n: v for n, v in state.items() if _has_shape(v, weights)}
    tensors = [flat(t, weights) for t in (weights, gradient, expected, *like.values())]
    for w, g, e, *entries in parts_of(tensors):
        yield w, g, e, {**state, **dict(zip(like, entries, strict=True))}


def _has_shape(value: object, weights: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == weights.shape and value.ndim > 0


def _copies(state: State, dtype: torch.dtype) -> State:
    """The state with copies for its tensors; numbers keep their own dtype."""

    def copied(name: str, value: object) -> object:
        if not isinstance(value, torch.Tensor):
            return value
        if name in NUMBERS or not value.is_floating_point():
            return value.detach().clone()
        return value.detach().to(dtype, copy=True)

    return {name: copied(name, value) for name, value in state.items()}


def _check_plain(tensors: State) -> None:
    """Raise unless these are plain tensors: sharded and quantized ones have rules of their own."""
    for name, value in tensors.items():
        if isinstance(value, torch.Tensor):
            if type(value) not in PLAIN:  # sharded, or quantized
                raise NotReplayed(f"its {name} is held as {type(value).__name__}")
            if value.layout is not torch.strided:
                raise NotReplayed(f"its {name} is held in the layout {value.layout}")
