"""Find the tensor that a name means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from torch import nn

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup, Slice, bare_names


class NamedParameters:
    """The parameters of a model by name, with or without the prefixes that wrappers add.

    A tied parameter has several names; each finds it.

    >>> model = nn.DataParallel(nn.Linear(2, 1))
    >>> named = NamedParameters(model)
    >>> named["weight"] is named["module.weight"] is model.module.weight
    True
    >>> named.full_name("weight"), named.bare_name(model.module.weight)
    ('module.weight', 'weight')
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters(remove_duplicate=False))
        self._full = bare_names(parameters)
        own = {bare: parameters[full] for bare, full in self._full.items()}
        self._parameters = {**parameters, **own}
        self._bare: dict[int, str] = {}
        for name, parameter in own.items():
            self._bare.setdefault(id(parameter), name)

    def __getitem__(self, name: str) -> nn.Parameter:
        return self._parameters[name]

    def items(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Each parameter once, with its first bare name, in the model's order."""
        return ((name, self._parameters[name]) for name in self._bare.values())

    def full_name(self, name: str) -> str:
        """The name of the parameter in `model.named_parameters()`."""
        return self._full.get(name, name)

    def bare_name(self, parameter: nn.Parameter) -> str:
        """The first name of a parameter, without wrappers; "?" if it is not the model's."""
        return self._bare.get(id(parameter), "?")

    def parameter_of(self, group: InvariantGroup, piece: Slice, where: str) -> nn.Parameter:
        """The parameter that `piece`, a slice of `group`, is a part of.

        Raises:
            InvalidArgument: there is none of that name, or the slice lies outside it.
        """
        parameter = self._parameters.get(piece.parameter)
        if parameter is None:
            near = difflib.get_close_matches(piece.parameter, self._full, n=3)
            raise InvalidArgument(
                f"{where}: group {group.name!r} names the parameter {piece.parameter!r}, which "
                f"this model does not have. Closest: {', '.join(near) or 'none'}. Were the "
                "groups found on another model?"
            )
        shape = tuple(parameter.shape) or (1,)
        if piece.axis >= len(shape) or piece.stop > shape[piece.axis]:
            raise InvalidArgument(
                f"{where}: group {group.name!r} holds {piece}, which does not fit a parameter of "
                f"shape {shape}. Were the groups found on another model?"
            )
        return parameter
