"""Remembering the state that a forward pass may change, and restoring what changed.

A forward pass may write to anything that it can reach: a queue in a list in a dict, a counter in a
configuration, a generator. `Remembered` starts at the modules' attributes and copies, breadth
first, what it can read without running foreign code. Afterwards it writes back only what differs.
"""

from __future__ import annotations

import argparse
import collections
import functools
import random
import re
import sys
import sysconfig
import types
import warnings
from collections.abc import Callable, Collection, Iterable
from operator import is_
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from spherical_motion.errors import StateNotRestored
from spherical_motion.invariance.running.tensor_state import remembered_array, remembered_tensor

LIMIT = 100_000
"""Entries visited beyond the modules' own attributes. Plain numbers and text do not count."""

T = TypeVar("T")

PutBack = Callable[[], object]
"""Writes one thing back if it changed."""

_CONTAINERS = (collections.OrderedDict, dict, list, set, collections.deque)
_EMPTY = {base: base() for base in _CONTAINERS}
_EMPTY_SLOT = object()
_IMMUTABLE = (tuple, frozenset)
_ATOMS = frozenset(
    {
        *(bool, int, float, complex, str, bytes, type(None), type, re.Pattern),
        *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
        *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType),
    }
)
"""Types whose objects never change, or are never visited."""

_STANDARD = sysconfig.get_path("stdlib")
_BASES = frozenset({object, *_CONTAINERS, *_IMMUTABLE, types.SimpleNamespace, argparse.Namespace})
_ABSTRACT = frozenset({"abc", "collections", "collections.abc", "typing"})
_ELSEWHERE = frozenset({"torch", "numpy", "lightning", "pytorch_lightning", "lightning_fabric"})
"""Objects of these packages (modules, data sets, trainers) are not the model's own state."""


class Remembered:
    """The plain state of a model as it was when this was made.

    The model's parameters and buffers are not part of it, nor is what only functions, classes,
    iterators or modules outside `model.modules()` hold.

    >>> model = nn.Identity()
    >>> model.steps = {"train": [0]}
    >>> before = Remembered(model)
    >>> model.steps["train"][0] += 1
    >>> before.put_back()
    >>> model.steps
    {'train': [0]}
    """

    def __init__(self, model: nn.Module) -> None:
        # Three lists and not tuples in one: thousands of small objects a pass would set off the
        # garbage collector, which takes longer than all the rest.
        self._bases: list[type] = []
        self._containers: list[Any] = []
        self._contents: list[Any] = []
        self._others: list[PutBack] = []
        self._seen = {id(t) for t in (*model.parameters(), *model.buffers())}
        self._waiting: collections.deque[object] = collections.deque()
        self._visits: dict[type, Callable[[Any], None] | None] = dict.fromkeys(_ATOMS)
        self._left = LIMIT
        for module in model.modules():
            self._keep(dict, vars(module))
            self._enqueue(vars(module).values())  # does not count towards the limit
        # Breadth first, so that the limit leaves out distant objects before near ones.
        while self._waiting:
            value = self._waiting.popleft()
            visit = self._visits[type(value)]
            assert visit is not None
            try:
                visit(value)
            except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
                continue  # what cannot be read, as a tensor without values, is not remembered

    def put_back(self) -> None:
        """Undo all changes, the innermost first; warn of those that cannot be undone."""
        for restore in reversed(self._others):
            _attempted(restore)
        lists = (reversed(each) for each in (self._bases, self._containers, self._contents))
        for base, value, content in zip(*lists, strict=True):
            if not _same_entries(base, value, content):
                _attempted(lambda b=base, v=value, c=content: _refill(b, v, c))

    def _enqueue(self, values: Iterable[object]) -> None:
        for value in values:
            cls = type(value)
            if cls not in self._visits:
                self._visits[cls] = self._visit_of(cls)
            if self._visits[cls] is not None and id(value) not in self._seen:
                self._seen.add(id(value))
                self._waiting.append(value)

    def _look_into(self, values: Collection[object]) -> None:
        if _ATOMS.issuperset(map(type, values)) or len(values) > self._left:
            return
        self._left -= len(values)
        self._enqueue(values)

    def _visit_of(self, cls: type) -> Callable[[Any], None] | None:
        """How to remember the objects of a class, or None if they are skipped."""
        if issubclass(cls, Tensor):
            return lambda value: self._others.append(remembered_tensor(value))
        if cls is np.ndarray:
            return lambda value: self._others.append(remembered_array(value))
        if issubclass(cls, torch.Generator | np.random.RandomState):
            return lambda value: self._keep_state(value.get_state, value.set_state)
        if issubclass(cls, random.Random):
            return lambda value: self._keep_state(value.getstate, value.setstate)
        if issubclass(cls, np.random.Generator):
            return self._numpy_generator
        if not _plain(cls):
            return None
        for base in _CONTAINERS:
            if issubclass(cls, base):
                return functools.partial(self._container, base)
        return self._look_into if issubclass(cls, _IMMUTABLE) else self._object

    def _container(self, base: type, value: Any) -> None:
        self._keep(base, value)
        if issubclass(base, dict):
            self._look_into(base.keys(value))
            self._look_into(base.values(value))
        else:
            self._look_into(value)
        if type(value) not in _CONTAINERS:
            self._object(value)

    def _object(self, value: object) -> None:
        own = _attributes_of(value)
        if own is not None:
            self._keep(dict, own)
            self._look_into(own.values())
        for slot in _slots_of(type(value)):
            content = _read_slot(value, slot)
            self._others.append(lambda slot=slot, old=content: _restore_slot(value, slot, old))
            if content is not _EMPTY_SLOT:
                self._look_into((content,))

    def _keep_state(self, get: Callable[[], T], set_: Callable[[T], object]) -> None:
        self._others.append(functools.partial(set_, get()))

    def _numpy_generator(self, value: np.random.Generator) -> None:
        bits = value.bit_generator
        self._others.append(functools.partial(setattr, bits, "state", bits.state))

    def _keep(self, base: Any, value: Any) -> None:
        self._bases.append(base)
        self._containers.append(value)
        self._contents.append(base.copy(value) if len(value) else _EMPTY[base])


def _attempted(restore: PutBack) -> None:
    try:
        restore()
    except Exception as error:  # whatever a foreign tensor or array may raise
        warnings.warn(
            f"An object that the model holds could not be restored after a probe: {error}",
            StateNotRestored,
            stacklevel=4,
        )


def _refill(base: Any, value: Any, content: Any) -> None:
    """Restore content by the built-in type's methods, not those of a subclass."""
    base.clear(value)
    if base is collections.OrderedDict:
        for key, entry in content.items():
            base.__setitem__(value, key, entry)
    elif base in (dict, set):
        base.update(value, content)
    else:
        base.extend(value, content)


def _same_entries(base: Any, value: Any, content: Any) -> bool:
    """Whether the entries are identical and in order; `==` would run a foreign `__eq__`."""
    if len(value) != len(content):
        return False
    if base is set:
        return set(map(id, value)) == set(map(id, content))
    same = all(map(is_, base.__iter__(value), base.__iter__(content)))
    if same and issubclass(base, dict):
        return all(map(is_, base.values(value), base.values(content)))
    return same


def _attributes_of(value: object) -> dict[str, object] | None:
    """The object's `__dict__`, without running its class's `__getattribute__`."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return own if type(own) is dict else None


def _slots_of(cls: type) -> list[types.MemberDescriptorType]:
    return [
        entry
        for base in cls.__mro__
        if "__slots__" in vars(base)
        for entry in vars(base).values()
        if type(entry) is types.MemberDescriptorType
    ]


def _read_slot(value: object, slot: types.MemberDescriptorType) -> object:
    try:
        return slot.__get__(value)
    except AttributeError:
        return _EMPTY_SLOT


def _restore_slot(value: object, slot: types.MemberDescriptorType, content: object) -> None:
    if _read_slot(value, slot) is content:
        return
    if content is _EMPTY_SLOT:
        slot.__delete__(value)
    else:
        slot.__set__(value, content)


def _plain(cls: type) -> bool:
    """Whether a class and its bases are a user's own, not machinery such as locks or files."""
    for base in cls.__mro__:
        if base in _BASES or base.__module__ in _ABSTRACT:
            continue
        package = base.__module__.partition(".")[0]
        if package in _ELSEWHERE or (package in sys.stdlib_module_names and _standard(base)):
            return False
    return True


def _standard(cls: type) -> bool:
    """Whether a class comes from the standard library and not from a user's file of that name."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file is None or file.startswith(_STANDARD)
