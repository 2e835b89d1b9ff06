"""Which tensor a name means, who steps it, and who holds its optimizer."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from mixed import Net, group
from torch import nn

from spherical_motion.binding import (
    NamedParameters,
    Role,
    Steppers,
    hold,
    refuse_second,
    release,
)
from spherical_motion.binding.stepping import class_name, scalar_settings
from spherical_motion.errors import AlreadyAttached, InvalidArgument
from spherical_motion.monitor import Monitor
from spherical_motion.optim import bind
from spherical_motion.vocabulary import Slice

MISSING = group("a", Slice("fc.wieght", 0, 0, 4))
OUTSIDE = group("a", Slice("fc.weight", 0, 0, 9))
UNSTEPPED = group("a", Slice("conv.weight", 0, 0, 6))


def test_wrapped_compiled_and_tied_parameters_are_one_tensor_under_each_name() -> None:
    model = Net()
    model.tied = model.fc
    named = NamedParameters(nn.DataParallel(model))
    for name in ("fc.weight", "tied.weight", "module.fc.weight", "module.tied.weight"):
        assert named[name] is model.fc.weight
    assert named.full_name("tied.weight") == "module.tied.weight"
    assert named.bare_name(model.fc.weight) == "fc.weight"
    assert named.bare_name(nn.Parameter(torch.zeros(1))) == "?"
    compiled = nn.Module()  # named as torch.compile does
    compiled.add_module("_orig_mod", model)
    assert NamedParameters(compiled)["fc.bias"] is model.fc.bias


def test_the_second_optimizer_of_a_parameter_is_refused() -> None:
    model = Net()
    first, second = (torch.optim.SGD(model.fc.parameters(), lr=0.1) for _ in range(2))
    steppers = Steppers([first, second])
    assert steppers.of(model.fc.weight) == (first, 0)
    assert steppers.of(model.conv.weight) is None
    assert Steppers([second]).only_one(model.fc.bias, "fc.bias", MISSING, "Here") == (second, 0)
    with pytest.raises(InvalidArgument, match=r"Here: parameter 'fc.bias' .* by 2 param groups"):
        steppers.only_one(model.fc.bias, "fc.bias", MISSING, "Here")


@pytest.mark.parametrize("bad", [MISSING, OUTSIDE, UNSTEPPED])
def test_monitor_and_tools_refuse_in_the_same_words(bad, tmp_path) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)
    with pytest.raises(InvalidArgument) as by_monitor:
        Monitor(model, optimizer, [bad], tmp_path / "run")
    with pytest.raises(InvalidArgument) as by_tool:
        bind(model, [bad], optimizer, "Monitor")
    assert str(by_monitor.value) == str(by_tool.value)


def test_two_of_one_role_exclude_each_other_and_two_roles_do_not() -> None:
    optimizer = torch.optim.SGD(Net().parameters(), lr=0.1)
    hold(optimizer, Role.STEER, "EquilibriumStart")
    refuse_second(optimizer, Role.WATCH, "Monitor")
    hold(optimizer, Role.WATCH, "monitor that records to runs/a")
    with pytest.raises(AlreadyAttached, match="Rotational: an EquilibriumStart acts on this SGD"):
        refuse_second(optimizer, Role.STEER, "Rotational")
    with pytest.raises(AlreadyAttached, match="a monitor that records to runs/a watches this SGD"):
        refuse_second(optimizer, Role.WATCH, "Monitor")
    release(optimizer, Role.STEER)
    release(optimizer, Role.STEER)
    refuse_second(optimizer, Role.STEER, "Rotational")


class Plain(torch.optim.AdamW):
    pass


class Deeper(Plain):
    def extra(self) -> None:
        """Something that is not `step`."""


class OwnStep(torch.optim.AdamW):
    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        return super().step(closure)


class Rprop2(torch.optim.Rprop):
    pass


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure=None) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (Plain, "AdamW"),
        (Deeper, "AdamW"),
        (OwnStep, "AdamW"),
        (torch.optim.AdamW, "AdamW"),
        (torch.optim.Rprop, "Rprop"),
        (Rprop2, "Rprop"),
        (Lion, "Lion"),
    ],
)
def test_a_subclass_is_held_to_the_rule_of_the_class_it_derives_from(cls, name: str) -> None:
    for _ in range(2):  # the first object of a class makes torch wrap its `step`
        optimizer = cls([torch.zeros(2, requires_grad=True)], lr=0.1)
        torch.optim.lr_scheduler.ConstantLR(optimizer)  # wraps the `step` of the object
        assert class_name(optimizer) == name
    own = cls.__name__
    told = scalar_settings([optimizer])[0]
    assert told["class"] == name
    assert told.get("subclass") == (None if own == name else own)


def test_the_registry_keeps_no_optimizer_alive() -> None:
    optimizer = torch.optim.SGD(Net().parameters(), lr=0.1)
    hold(optimizer, Role.WATCH, "monitor")
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None
