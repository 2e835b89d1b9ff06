"""ε in norm layers, measured by hooks that leave everything else as it is."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from spherical_motion.invariance import norms_fed
from spherical_motion.monitor.audit.around.norm_layers import (
    COMPILED,
    NO_INPUTS,
    NormLayers,
    fed_or_why,
)


def heard(model: nn.Module, x: Tensor, *parameters: str, passes: int = 1) -> list[tuple]:
    """What the layers that the parameters feed say after some passes."""
    layers = NormLayers(model, norms_fed(model, x), parameters)
    layers.arm()
    for _ in range(passes):
        model(x)
    found = [layers.read(name) for name in parameters]
    layers.disarm()
    return found


def share(values: Tensor, eps: float, dims: tuple[int, ...], rms: bool = False) -> float:
    """ε/(variance + ε) by definition, in float64."""
    values = values.detach().double()
    mean = 0.0 if rms else values.mean(dims, keepdim=True)
    variance = (values - mean).square().mean(dims)
    return float((eps / (variance + eps)).mean())


class HandWritten(nn.Module):
    """RMS norm as transformers writes it."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(6)), eps

    def forward(self, x: Tensor) -> Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))


IMAGES = torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(8, 5, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("norm", "dims"),
    [
        (nn.BatchNorm2d(6, eps=0.1), (0, 2, 3)),
        (nn.InstanceNorm2d(6, eps=0.1), (2, 3)),
        (nn.GroupNorm(6, 6, eps=0.1), (2, 3)),
        (nn.GroupNorm(1, 6, eps=0.1), (1, 2, 3)),
    ],
)
def test_convolutional_norms(norm: nn.Module, dims: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 3), norm)
    ((found, in_eval),) = heard(model, IMAGES, "0.weight")
    assert found == pytest.approx(share(model[0](IMAGES), 0.1, dims), rel=1e-5)
    assert in_eval == 0.0


@pytest.mark.parametrize(
    ("norm", "eps", "rms"),
    [
        (nn.LayerNorm(6, eps=0.3), 0.3, False),
        (nn.RMSNorm(6, eps=0.3), 0.3, True),
        (nn.RMSNorm(6), torch.finfo(torch.float32).eps, True),
        (HandWritten(1e-3), 1e-3, True),
    ],
)
def test_norms_of_rows(norm: nn.Module, eps: float, rms: bool) -> None:
    model = nn.Sequential(nn.Linear(5, 6), norm, nn.Linear(6, 2))
    (first, last) = heard(model, ROWS, "0.weight", "2.weight")
    assert first[0] == pytest.approx(share(model[0](ROWS), eps, (1,), rms), rel=1e-5)
    assert first[1] == 0.0
    assert all(map(math.isnan, last))  # it feeds none


def test_a_batch_norm_in_eval_mode_is_told_with_its_running_variance() -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6, eps=0.1))
    fed = norms_fed(model, IMAGES)
    model(IMAGES)
    model[1].eval()
    layers = NormLayers(model, fed, ["0.weight"])
    layers.arm()
    model(IMAGES)
    found, in_eval = layers.read("0.weight")
    assert in_eval == 1.0
    assert found == pytest.approx(float((0.1 / (model[1].running_var + 0.1)).mean()), rel=1e-6)
    assert norms_fed(model, IMAGES) == fed  # found in eval mode too
    layers.clear()
    assert all(map(math.isnan, layers.read("0.weight")))


def test_layer_norm_does_not_care_for_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6)).eval()
    assert heard(model, ROWS, "0.weight")[0][1] == 0.0


def test_an_evaluation_between_two_steps_does_not_show() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6, eps=0.1))
    layers = NormLayers(model, norms_fed(model, ROWS), ["0.weight"])
    layers.arm()
    model(ROWS)
    before = layers.read("0.weight")
    model.eval()
    with torch.no_grad():
        model(3 * ROWS)
    with torch.inference_mode():
        model(5 * ROWS)
    assert layers.read("0.weight") == before
    model(7 * ROWS)  # also if it was forgotten: the calls with their own statistics count
    assert layers.read("0.weight") == before


def test_accumulated_passes_are_averaged() -> None:
    model = nn.Sequential(nn.Linear(5, 6, bias=False), nn.LayerNorm(6, eps=0.3))
    layers = NormLayers(model, norms_fed(model, ROWS), ["0.weight"])
    layers.arm()
    model(ROWS)
    model(2 * ROWS)
    each = [share(model[0](k * ROWS), 0.3, (1,)) for k in (1, 2)]
    assert layers.read("0.weight")[0] == pytest.approx(sum(each) / 2, rel=1e-5)


class Stream(nn.Module):
    """Two branches on a residual stream, norms called as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(F.layer_norm(x, (5,), eps=0.1))
        x = x + self.second(F.layer_norm(x, (5,), eps=0.4))
        return self.last(x)


def test_calls_of_one_module_are_told_apart() -> None:
    model = Stream()
    fed = norms_fed(model, ROWS)
    assert [(norm.module, norm.call) for norm in fed["first.weight"]] == [("", 1), ("last", 0)]
    assert [(norm.module, norm.call) for norm in fed["second.weight"]] == [("last", 0)]
    first, second = heard(model, ROWS, "first.weight", "second.weight")
    x = ROWS + model.first(F.layer_norm(ROWS, (5,), eps=0.1))
    y = x + model.second(F.layer_norm(x, (5,), eps=0.4))
    both = share(x, 0.4, (1,)), share(y, 1e-5, (0,))
    assert first[0] == pytest.approx(sum(both) / 2, rel=1e-5)
    assert second[0] == pytest.approx(both[1], rel=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_are_heard_when_they_run_again(reentrant: bool) -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6, eps=0.3))
    layers = NormLayers(model, norms_fed(model, ROWS), ["0.weight"])
    layers.arm()
    x = ROWS.clone().requires_grad_()
    checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
    expected = share(model[0](ROWS), 0.3, (1,))
    assert layers.read("0.weight")[0] == pytest.approx(expected, rel=1e-5)


def test_autocast_is_measured_in_single_precision() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6, eps=0.3))
    with torch.autocast("cpu", torch.bfloat16):
        ((found, _),) = heard(model, ROWS, "0.weight")
    assert found == pytest.approx(share(model[0](ROWS), 0.3, (1,)), rel=1e-2)


def test_wrappers_are_looked_through() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6, eps=0.3))
    wrapped = nn.DataParallel(model)
    assert heard(wrapped, ROWS, "0.weight") == heard(model, ROWS, "0.weight")


def test_outputs_and_gradients_are_bit_identical_and_no_graph_is_kept() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), HandWritten(1e-6), nn.Linear(6, 6), nn.LayerNorm(6)
    )
    twin = copy.deepcopy(model)
    layers = NormLayers(model, norms_fed(model, ROWS), ["0.weight", "3.weight"])
    layers.arm()
    for each in (model, twin):
        each(ROWS).square().sum().backward()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert torch.equal(model[1].running_var, twin[1].running_var)
    kept = [share for calls in layers._heard.values() for _, share in calls]
    assert kept
    assert all(share is not None and share.grad_fn is None for share in kept)


def test_nothing_is_left_on_the_model_when_disarmed() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))
    layers = NormLayers(model, norms_fed(model, ROWS), ["0.weight"])
    assert not layers.armed
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    layers.arm()
    layers.arm()
    assert sum(len(m._forward_hooks) for m in model.modules()) == 1
    layers.disarm()
    layers.disarm()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_hooked_model_can_be_copied_and_pickled() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))
    layers = NormLayers(model, norms_fed(model, ROWS), ["0.weight"])
    layers.arm()
    copy.deepcopy(model)(ROWS)
    pickle.loads(pickle.dumps(model))(ROWS)
    assert not layers._heard


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        F.layer_norm(x, (6,))
        raise KeyboardInterrupt


def test_listening_ends_with_an_interrupted_pass() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))
    layers = NormLayers(model, norms_fed(model, ROWS), ["0.weight"])
    layers.arm()
    model[1].forward = Failing().forward
    with pytest.raises(KeyboardInterrupt):
        model(ROWS)
    layers.clear()
    assert torch.overrides._get_current_function_mode() is None


def test_compiled_models_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))
    fed = norms_fed(model, ROWS)
    compiled = torch.compile(model, backend="eager")
    layers = NormLayers(compiled, fed, ["0.weight"])
    layers.arm()
    assert not layers.armed
    assert layers.why == COMPILED
    outside = NormLayers(model, fed, ["0.weight"])
    outside.arm()  # hooked before anybody knows that it will be compiled
    compiled(ROWS)
    assert torch._dynamo.utils.counters["graph_break"] == {}
    assert all(map(math.isnan, outside.read("0.weight")))


def test_what_is_not_known_has_a_reason() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))
    assert fed_or_why(model, None) == NO_INPUTS
    failed = fed_or_why(model, torch.randn(3, 99))
    assert isinstance(failed, str)
    assert "could not be probed" in failed
    layers = NormLayers(model, NO_INPUTS, ["0.weight"])
    layers.arm()
    model(ROWS)
    assert not layers.armed
    assert all(map(math.isnan, layers.read("0.weight")))
