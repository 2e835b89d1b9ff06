"""What cannot be probed is turned away with a remedy; what merely looks odd is handled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from spherical_motion import errors
from spherical_motion.invariance import find_groups, inspect_model


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Linear(6, 3))


def x() -> Tensor:
    return torch.randn(8, 4)


@pytest.mark.parametrize(
    ("inputs", "got", "remedy"),
    [
        (DataLoader(TensorDataset(torch.zeros(8, 4)), 4), "DataLoader", "next(iter(loader))[0]"),
        (TensorDataset(torch.zeros(8, 4)), "TensorDataset", "one batch"),
        (np.zeros((8, 4)), "ndarray", "torch.from_numpy"),
        ("hello", "str", "Tokenize"),
        ({"text": ["a", "b"]}, "a dict of list", "Tokenize"),
        (None, "NoneType", "real samples"),
        (3, "int", "real samples"),
        (torch.zeros(0, 4), "Tensor", "It is empty"),
        ((8, 4), "a tuple of int", "torch.randn(8, 4)"),
        ([8, 4], "a list of int", "torch.randn(8, 4)"),
    ],
)
def test_inputs_that_are_none(inputs: Any, got: str, remedy: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        find_groups(net(), inputs)
    assert f"got {got}." in str(caught.value)
    assert remedy in str(caught.value)


def test_a_list_is_one_argument() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, images: list[Tensor]) -> Tensor:
            return self.net(torch.stack(images))

    assert len(find_groups(Detector(), list(x()))) == 1
    with pytest.raises(errors.ModelError, match=r"pass a tuple for model\(\*inputs\)"):
        find_groups(net(), [x(), torch.zeros(8)])


def quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}, dtype=torch.qint8)


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return net()


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (lambda: net().forward, errors.InvalidArgument, "got method"),
        (lambda: nn.Linear, errors.InvalidArgument, r"the class Linear\. Make one: Linear"),
        (on_meta, errors.ModelError, r"6 of 6 on the meta device \(0.weight"),
        (quantized, errors.ModelError, r"quantized modules \(0, 3\).*before quantization"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_models_that_cannot_be_probed(model: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_groups(model(), x())


@pytest.mark.filterwarnings("ignore")
def test_scripted_models_cannot_be_probed() -> None:
    for scripted in (torch.jit.script(net()), torch.jit.trace(net(), x())):
        with pytest.raises(errors.InvalidArgument, match="the model it was made from"):
            find_groups(scripted, x())


class Around(nn.Module):
    """A network, and something odd around it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[Tensor] = []


class Complex(Around):
    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.randn(2, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)[:, :2]
        return torch.view_as_complex(y.contiguous()) * self.turn.sum()


class Counting(Around):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.calls = self.calls + 1
        self.seen.append(x)
        return self.net(x)


class Overwriting(Around):
    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2.0)
        with torch.no_grad():
            self.net[0].weight.div_(self.net[0].weight.norm())
        y = self.net[0](x)
        y += 1.0
        return self.net[3](self.net[1](y).relu_())


@pytest.mark.parametrize("kind", [Complex, Counting, Overwriting])
def test_odd_forwards_are_handled_and_undone(kind: type[Around]) -> None:
    model, inputs = kind(), x()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = inputs.clone()
    groups = find_groups(model, inputs)
    assert "net.0" in [group.name for group in groups]
    assert torch.equal(inputs, kept)
    assert model.seen == []
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


class InOwnPrecision(Around):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError(f"expected dtype float32, got {x.dtype}")
        return self.net(x)


def test_a_model_that_insists_on_its_precision_is_told_how_to_be_probed() -> None:
    with pytest.raises(errors.ModelError, match=r"dtype=torch\.float32"):
        find_groups(InOwnPrecision(), x())
    assert [g.name for g in find_groups(InOwnPrecision(), x(), dtype=torch.float32)] == ["net.0"]


def test_complex_parameters_are_said_not_to_be_examined() -> None:
    warnings = inspect_model(Complex(), x()).warnings
    assert any("turn: 1 complex or integer parameter" in line for line in warnings)


class Restless(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * (1.0 + time.perf_counter() % 1.0)


def test_outputs_that_differ_from_run_to_run_are_said_to_prove_nothing() -> None:
    inspection = inspect_model(Restless(), x())
    assert [group.name for group in inspection.groups] == ["net.0"]
    assert any("differ between two runs" in line for line in inspection.warnings)
    assert not inspection.bit_identical


def test_inference_mode_around_the_call_and_tensors_made_in_it() -> None:
    with torch.inference_mode():
        model, inputs = net(), x()
        assert [group.name for group in find_groups(model, inputs)] == ["0"]
    assert [group.name for group in find_groups(model, inputs)] == ["0"]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), "no normalization layer is fed by any"),
        (net().eval(), r"in eval mode.*Call model\.train\(\) first"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.LayerNorm(4)),
            "norm layers run, but no weights",
        ),
    ],
)
def test_nothing_found_leads_with_the_likeliest_cause(model: nn.Module, why: str) -> None:
    with pytest.raises(errors.NoInvariantGroup, match=rf"^Sequential has no.*weights: .*{why}"):
        find_groups(model, x())
