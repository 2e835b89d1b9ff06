"""The norm functions' ε, casts, and attributes, as a model meets them while it is probed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spherical_motion.invariance.graph.observer import NormObserver
from spherical_motion.invariance.running.interception import Interception, adapt_attributes

FAINT = 1e-6 * torch.randn(4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
"""So faint that any usual ε drowns it, and only a norm without one lifts it to order 1."""

CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True, eps=1e-5),
    "batch_norm, positional": lambda x: F.batch_norm(x, None, None, None, None, True, 0.1, 1e-5),
    "batch_norm, default": lambda x: F.batch_norm(x, None, None, training=True),
    "instance_norm": lambda x: F.instance_norm(x),
    "instance_norm, positional": lambda x: F.instance_norm(
        x, None, None, None, None, True, 0.1, 1e-5
    ),
    "layer_norm": lambda x: F.layer_norm(x, (5,)),
    "group_norm": lambda x: F.group_norm(x, 2, None, None, 1e-5),
    "rms_norm": lambda x: F.rms_norm(x, (5,), eps=1e-5),
    "rms_norm, default": lambda x: F.rms_norm(x * 1e-6, (5,)),
    "torch.layer_norm": lambda x: torch.layer_norm(x, (5,)),
    "torch.group_norm": lambda x: torch.group_norm(x, 2),
    "torch.rms_norm": lambda x: torch.rms_norm(x, (5,), None, 1e-5),
    "torch.batch_norm": lambda x: torch.batch_norm(
        x, None, None, None, None, True, 0.1, 1e-5, False
    ),
    "torch.instance_norm": lambda x: torch.instance_norm(
        x, None, None, None, None, True, 0.1, 1e-5, False
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_norm_function_loses_its_epsilon(call: Callable[[Tensor], Tensor]) -> None:
    assert call(FAINT).square().mean() < 0.1
    with Interception(torch.float64, 1e-30, torch.float32):
        lifted = call(FAINT)
    assert float(lifted.square().mean()) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_without_a_replacement_the_model_s_own_stays(call: Callable[[Tensor], Tensor]) -> None:
    with Interception(torch.float64, None, torch.float64):
        inside = call(FAINT)
    assert torch.equal(inside, call(FAINT))


def test_running_statistics_keep_their_epsilon_and_are_counted() -> None:
    mean, variance = torch.zeros(6).double(), torch.zeros(6).double()
    observer = NormObserver()
    with Interception(torch.float64, 1e-30, torch.float32, observer):
        inside = F.batch_norm(FAINT, mean, variance, eps=1e-5)
        F.instance_norm(FAINT, mean, variance, use_input_stats=False)
        F.layer_norm(FAINT, (5,))
    assert torch.equal(inside, F.batch_norm(FAINT, mean, variance, eps=1e-5))
    assert (observer.running, observer.own) == (2, 1)
    assert "2 of 3 norm calls use running statistics" in observer.summary()[0]


def test_casts_and_factories_end_in_the_probe_s_dtype() -> None:
    x = torch.ones(2, dtype=torch.float64)
    with Interception(torch.float64, None, torch.float32):
        made = [
            x.float(),
            x.half(),
            x.bfloat16(),
            x.to(torch.float32),
            x.to(dtype=torch.bfloat16),
            x.type(torch.float32),
            x.sum(dtype=torch.float32),
            torch.zeros(2, dtype=torch.float32),
            torch.arange(3, dtype=torch.float16),
            torch.tensor([1.0], dtype=torch.float32),
            F.softmax(x, 0, dtype=torch.float32),
            torch.ones(2, dtype=torch.int64).float(),
        ]
        kept = [x.to(torch.int32), torch.zeros(2, dtype=torch.bool)]
    assert {y.dtype for y in made} == {torch.float64}
    assert [y.dtype for y in kept] == [torch.int32, torch.bool]


def test_reading_bits_is_no_cast() -> None:
    bits = torch.tensor([1, 2], dtype=torch.int32)
    with Interception(torch.float64, None, torch.float32):
        assert bits.view(torch.float32).dtype == torch.float32


class Attributes(nn.Module):
    """Attributes of which some only sound like an ε."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = self.variance_epsilon = self.layer_norm_eps = self.eps_1 = 1e-5
        self.steps = 1e-3
        self.eps_count, self.epsilon, self.min_eps = 3, 0.5, 0.0
        self.table = torch.ones(2)
        self.index = torch.arange(2)
        self.use_checkpoint, self.checkpoints = True, 2


def test_only_small_floats_named_like_an_epsilon_are_changed() -> None:
    module = Attributes()
    table = module.table
    adapt_attributes(module, torch.float64, 1e-18)
    assert {module.eps, module.variance_epsilon, module.layer_norm_eps, module.eps_1} == {1e-18}
    assert module.steps == 1e-3
    assert (module.eps_count, module.epsilon, module.min_eps) == (3, 0.5, 0.0)
    assert module.table.dtype == torch.float64
    assert module.index.dtype == torch.int64
    assert module.table is not table
    assert (module.use_checkpoint, module.checkpoints) == (False, 2)


def test_a_norm_in_eval_mode_keeps_its_attribute() -> None:
    norm = nn.BatchNorm1d(3)
    adapt_attributes(norm.eval(), torch.float64, 1e-18)
    assert norm.eps == 1e-5
    adapt_attributes(norm.train(), torch.float64, None)
    assert norm.eps == 1e-5


BY_HAND: dict[str, Callable[[Tensor], Tensor]] = {
    "added to the variance": lambda x: x / torch.sqrt(x.var(-1, keepdim=True) + 1e-6),
    "from the left": lambda x: x * torch.rsqrt(1e-6 + x.var(-1, keepdim=True)),
    "in place": lambda x: x * x.var(-1, keepdim=True).add_(1e-6).rsqrt(),
    "a power": lambda x: x * (x.var(-1, keepdim=True) + 1e-6) ** -0.5,
    "outside the root": lambda x: x / (x.std(-1, keepdim=True) + 1e-3),
    "a bound": lambda x: x / x.std(-1, keepdim=True).clamp(min=1e-3),
    "normalize": lambda x: F.normalize(x, dim=-1, eps=1e-3) * x.shape[-1] ** 0.5,
    "torch.add": lambda x: x / torch.add(x.var(-1, keepdim=True), 1e-6).sqrt(),
}


@pytest.mark.parametrize("call", BY_HAND.values(), ids=BY_HAND)
def test_norms_written_by_hand_lose_theirs_and_are_seen(call: Callable[[Tensor], Tensor]) -> None:
    assert call(FAINT).square().mean() < 0.1
    observer = NormObserver()
    with Interception(torch.float64, 1e-30, torch.float32, observer):
        lifted = call(FAINT)
    assert float(lifted.square().mean()) == pytest.approx(1.0, abs=0.3)
    assert [norm.own for norm in observer.course.norms] == [True]
    observer = NormObserver()
    with Interception(torch.float64, None, torch.float32, observer):
        assert torch.equal(call(FAINT), call(FAINT))
    (share, *_) = (norm.eps_share for norm in observer.course.norms)
    assert share > 0.9 or math.isnan(share)


def test_numbers_that_no_norm_divides_by_are_no_norms() -> None:
    observer = NormObserver()
    x = FAINT.abs()
    with Interception(torch.float64, 1e-30, torch.float32, observer):
        assert torch.equal(x + 0.5, x.add(0.5))
        (x + 1e-6).log()
        x.clamp(min=0.0) / 2.0
        x.sum() / x.numel()
    assert observer.course.norms == []
