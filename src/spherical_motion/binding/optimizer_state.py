"""Read the preconditioners of parameters from what their optimizer holds, one by one or at once.

Nothing is kept from step to step but the layouts of the weights. Which state an optimizer holds,
how it lies in memory and the settings are looked up anew at each reading, because a training loop
may change any of them between two steps. What the parameters of a param group have in common is
worked out once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

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
        self._parameters = parameters
        self.table = PreconditionerTable([StridedLayout.of(p.detach()) for p in parameters])
        self._members: dict[int, list[int]] = {}
        for i, number in enumerate(param_groups):
            self._members.setdefault(number, []).append(i)

    def read(self) -> dict[int, str]:
        """Fill the table; returns why there is none, by the number of the parameter."""
        reasons: dict[int, str] = {}
        for number, members in self._members.items():
            group, rest = self._optimizer.param_groups[number], members
            if isinstance(self._rule, Formula):
                rest = self._read_at_once(self._rule, group, members)
            for i in rest:
                parameter = self._parameters[i]
                # Not state[parameter], which would make an entry where there is none.
                state = self._optimizer.state.get(parameter, {})
                found = read_preconditioner(
                    self._rule, group, state, parameter, with_average=self._with_average
                )
                if isinstance(found, str):
                    reasons[i] = found
                self.table.put(i, None if isinstance(found, str) else found)
        return dict(sorted(reasons.items()))

    def _read_at_once(self, rule: Formula, group: ParamGroup, members: list[int]) -> list[int]:
        """Read those whose state is as it should be; returns the others."""
        layouts, parameters = self.table.layouts, self._parameters
        state_of, with_average = self._optimizer.state.get, self._with_average
        places: list[int] = []
        entries: list[State] = []
        states: list[torch.Tensor] = []
        averages: list[torch.Tensor | None] = []
        rest: list[int] = []
        try:
            look_up = rule.tensors(group)
            for i in members:
                entry, layout = state_of(parameters[i]), layouts[i]
                try:
                    state, average = look_up(entry)  # pyright: ignore  # None raises TypeError
                except (KeyError, TypeError):
                    rest.append(i)
                    continue
                fits = layout.is_of(state)
                if with_average and average is not None:
                    fits = fits and layout.is_of(average)
                if not fits:
                    rest.append(i)
                    continue
                places.append(i)
                entries.append(entry)
                states.append(state)
                averages.append(average)
            numbers = [[_number(entry[name]) for entry in entries] for name in rule.numbers]
            rows = _rows(rule, group, numbers, len(places))
        except Exception:  # one by one, which tells whose state it is and what is wrong
            return members
        if places:
            self.table.fill(places, rows, states, averages)
        return rest


def _number(value: object) -> float:
    # The method of a tensor takes half the time of float().
    return value.item() if type(value) is torch.Tensor else float(value)  # pyright: ignore


def _rows(rule: Formula, group: ParamGroup, numbers: list[list[float]], count: int) -> np.ndarray:
    """The coefficients of `count` parameters, or one row for all, from columns of numbers."""
    if all(column.count(column[0]) == count for column in numbers if column):
        return np.array(rule.coefficients(group, *(float(c[0]) for c in numbers)) if count else ())
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
