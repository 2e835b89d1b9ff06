"""Read the preconditioners of parameters from what their optimizer holds, one by one or at once.

Which state an optimizer holds, how it lies in memory and the settings are looked up anew at each
reading, because a training loop may change any of them between two steps. Kept are only the layouts
of the weights and which parameters could be read together the last time. What the parameters of a
param group have in common is worked out once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.binding.preconditioners import Formula, Rule, State
from spherical_motion.measure.layout import StridedLayout
from spherical_motion.measure.preconditioner import Preconditioner
from spherical_motion.measure.preconditioner_table import PreconditionerTable
from spherical_motion.vocabulary.hyperparameters import ParamGroup


class StateReader:
    """Fills a table with the preconditioners of an optimizer's parameters.

    It gives what `read_preconditioner` gives, in a quarter of the time.

    Args:
        optimizer: whose state is read.
        rule: of its class, from `preconditioner_rule`. A `Formula` is read for all parameters at
            once, another rule is called for each.
        parameters, param_groups: the parameters, and for each the index into
            `optimizer.param_groups`.
        with_average: as for `read_preconditioner`.

    Attributes:
        table: the preconditioners of the last reading.

    >>> from spherical_motion.binding.preconditioners import PRECONDITIONERS
    >>> w = torch.ones(3, requires_grad=True)
    >>> optimizer = torch.optim.Adagrad([w], lr=0.1)
    >>> (2 * w).sum().backward()
    >>> optimizer.step()
    >>> reader = StateReader(optimizer, PRECONDITIONERS["Adagrad"], [w], [0])
    >>> reader.read()
    {}
    >>> reader.table[0].values()
    tensor([0.5000, 0.5000, 0.5000], dtype=torch.float64)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        rule: Rule,
        parameters: Sequence[torch.Tensor],
        param_groups: Sequence[int],
        *,
        with_average: bool = True,
    ) -> None:
        self._optimizer, self._rule, self._with_average = optimizer, rule, with_average
        self._parameters, self._param_groups = parameters, param_groups
        self.table = PreconditionerTable([StridedLayout.of(p.detach()) for p in parameters])
        self._members: dict[int, list[int]] = {}
        for i, number in enumerate(param_groups):
            self._members.setdefault(number, []).append(i)
        self._cohorts = {number: self._cohort(own) for number, own in self._members.items()}

    def read(self) -> dict[int, str]:
        """Fill the table; returns why there is none, by the number of the parameter."""
        reasons: dict[int, str] = {}
        for number, members in self._members.items():
            group, rule = self._optimizer.param_groups[number], self._rule
            if not isinstance(rule, Formula):
                self._read_each(members, reasons)
                continue
            cohort = self._cohorts[number]
            done = self._read_at_once(rule, group, cohort)
            if done and len(cohort.places) == len(members):
                continue
            own = set(cohort.places) if done else ()
            self._read_each([i for i in members if i not in own], reasons)
            regular = [i for i in members if self._is_regular(rule, group, i)]
            if regular != cohort.places:
                self._cohorts[number] = self._cohort(regular)
        return dict(sorted(reasons.items()))

    def read_one(self, i: int, settings: ParamGroup | None = None) -> Preconditioner | str:
        """That of parameter `i` by these settings, left out by those of now; not in the table."""
        group = settings or self._optimizer.param_groups[self._param_groups[i]]
        state, with_average = self._state_of(i), self._with_average
        return read_preconditioner(
            self._rule, group, state, self._parameters[i], with_average=with_average
        )

    def _read_each(self, members: list[int], reasons: dict[int, str]) -> None:
        for i in members:
            found = self.read_one(i)
            if isinstance(found, str):
                reasons[i] = found
            self.table.put(i, None if isinstance(found, str) else found)

    def _read_at_once(self, rule: Formula, group: ParamGroup, cohort: _Cohort) -> bool:
        """Read a whole cohort; False if the state of any is not as it should be.

        The loops run inside of Python: each line takes some 50 ns a tensor.
        """
        if not cohort.places:
            return True
        try:
            entries: list[Any] = list(map(self._optimizer.state.get, cohort.parameters))
            states, averages = zip(*map(rule.tensors(group), entries), strict=True)
            read = (
                [states, averages] if self._with_average and averages[0] is not None else [states]
            )
            if not all(cohort.lie_like(tensors) for tensors in read):
                return False
            numbers = [_numbers(map(itemgetter(name), entries)) for name in rule.numbers]
            rows = _rows(rule, group, numbers)
            self.table.fill(cohort.places, rows, states, averages)
        except Exception:  # read one by one, which tells whose state it is and what is wrong
            return False
        return True

    def _is_regular(self, rule: Formula, group: ParamGroup, i: int) -> bool:
        """Whether the state of a parameter can be read with that of others."""
        try:
            state, average = rule.tensors(group)(self._state_of(i))
            rule(group, self._state_of(i))
        except Exception:  # as in `read_preconditioner`
            return False
        fits, with_average = self.table.layouts[i].is_of, self._with_average
        return fits(state) and (average is None or not with_average or fits(average))

    def _state_of(self, i: int) -> State:
        # Not state[parameter], which would make an entry where there is none.
        return self._optimizer.state.get(self._parameters[i], {})

    def _cohort(self, places: list[int]) -> _Cohort:
        layouts = [self.table.layouts[i] for i in places]
        return _Cohort(
            places,
            [self._parameters[i] for i in places],
            [(layout.dtype, True, torch.strided, layout.shape) for layout in layouts],
            [layout.strides for layout in layouts],
        )


class _Cohort(NamedTuple):
    """Parameters of one param group, and how a state that lies like the weights looks."""

    places: list[int]
    parameters: list[torch.Tensor]
    looks: list[tuple[object, ...]]
    strides: list[tuple[int, ...]]

    def lie_like(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether plain tensors on the CPU lie in memory like the parameters."""
        return (
            PLAIN.issuperset(map(type, tensors))
            and list(map(LOOK, tensors)) == self.looks
            and list(map(torch.Tensor.stride, tensors)) == self.strides
        )


PLAIN = {torch.Tensor, torch.nn.Parameter}
LOOK = attrgetter("dtype", "is_cpu", "layout", "shape")


def _numbers(found: Iterable[object]) -> list[float]:
    values = list(found)
    try:
        return list(map(torch.Tensor.item, values))  # pyright: ignore
    except TypeError:  # some are numbers already
        return [float(value) for value in values]  # pyright: ignore


def _rows(rule: Formula, group: ParamGroup, numbers: list[list[float]]) -> NDArray[np.float64]:
    """The coefficients of each parameter, or one row for all, from columns of numbers."""
    if all(column.count(column[0]) == len(column) for column in numbers):
        return np.array(rule.coefficients(group, *(float(column[0]) for column in numbers)))
    keys = list(zip(*numbers, strict=True))
    # Parameters that were frozen for some steps have taken fewer.
    known = {key: rule.coefficients(group, *map(float, key)) for key in dict.fromkeys(keys)}
    return np.array([known[key] for key in keys])


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

    >>> from spherical_motion.binding.preconditioners import PRECONDITIONERS
    >>> w = torch.zeros(2)
    >>> rule = PRECONDITIONERS["RMSprop"]
    >>> read_preconditioner(rule, {"eps": 0.0, "weight_decay": 0.0}, {}, w)
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
