"""What float32 does to decay and balance, on torch's own optimizers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion import theory
from spherical_motion.theory.rounding import ROUNDOFF, real_decay, rounding_error
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary import Gram, HyperParameters

DECOUPLED = {
    "AdamW": (torch.optim.AdamW, {}),
    "Adam": (torch.optim.Adam, {"decoupled_weight_decay": True}),
    "NAdam": (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    "RAdam": (torch.optim.RAdam, {"decoupled_weight_decay": True}),
}
PATHS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
FUSED = ("AdamW", "Adam")


def decay_of(hp: HyperParameters, lr: float, weight_decay: float, dtype: str) -> float:
    return float(real_decay(hp, np.array([lr]), np.array([weight_decay]), dtype)[0])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", DECOUPLED)
def test_decay_is_what_torch_takes_from_the_weights(name: str, path: str) -> None:
    if path == "fused" and name not in FUSED:
        return
    make, settings = DECOUPLED[name]
    for dtype in (torch.float32, torch.float64):
        for lr, least in ((1e-3, 5e-5), (3e-5, 1e-3), (1e-5, 5e-3)):
            torch.manual_seed(0)
            w = nn.Parameter(torch.randn(50_000, dtype=dtype))
            before = w.detach().double().clone()
            optimizer = make([w], lr=lr, weight_decay=0.1, **settings, **PATHS[path])
            w.grad = torch.zeros_like(w)
            optimizer.step()
            d = w.detach().double() - before
            found = -float(before @ d / (before @ before)) / lr
            hp = HyperParameters.from_param_group(name, optimizer.param_groups[0])
            wanted = decay_of(hp, lr, 0.1, str(dtype).removeprefix("torch."))
            assert found == pytest.approx(wanted, rel=least)
            # And not the nominal one, where float32 has no such number.
            if dtype == torch.float32 and lr == 1e-5:
                assert found > 0.1 * (1 + 2 * least)


def test_real_decay_is_a_whole_number_of_units_and_tends_to_the_nominal_one() -> None:
    hp = HyperParameters("adamw", lr=1e-3)
    for lr in np.geomspace(1e-7, 1e-1, 25):
        units = decay_of(hp, lr, 0.1, "float32") * lr * 2.0**24
        assert units == pytest.approx(round(units), abs=1e-6)
        assert abs(decay_of(hp, lr, 0.1, "float32") / 0.1 - 1.0) <= 0.5 * 2.0**-24 / (lr * 0.1)
    for other in ("sgd", "lion", "adam"):  # L2 decay, or another way to write it
        assert decay_of(HyperParameters(other, lr=1e-5), 1e-5, 0.1, "float32") == 0.1
    assert decay_of(hp, 1e-5, 0.1, "float64") == 0.1
    assert decay_of(hp, 0.0, 0.1, "float32") == 0.1
    assert decay_of(hp, 1e-5, 0.1, "") == 0.1


def walk(hp: HyperParameters, weight_decay: float, count: int, numel: int, seed: int) -> Gram:
    """The eight products of float32 weights, stepped as torch does, on random gradients."""
    rng = np.random.default_rng(seed)
    w, one = (0.1 * rng.standard_normal(numel)).astype(np.float32), np.float32(1.0)
    b, v, before = np.zeros(numel), np.zeros(numel), np.zeros(numel)
    decays = one - np.float32(0.0)
    if hp.decoupled:
        decays = np.float32(1.0 - hp.lr * weight_decay)
    rows = []
    for t in range(1, count + 1):
        g, old = rng.standard_normal(numel), b
        w64 = w.astype(np.float64)
        x = g if hp.decoupled else g + weight_decay * w64
        if hp.optimizer == "sgd":
            b, p = hp.momentum * b + x, np.ones(numel)
        else:
            b = hp.momentum * b + (1 - hp.momentum) * x
            v = hp.beta2 * v + (1 - hp.beta2) * x * x
            p = 1.0 / (1 - hp.momentum**t) / (np.sqrt(v / (1 - hp.beta2**t)) + 1e-8)
        after = (w * decays).astype(np.float32)
        after = (after.astype(np.float64) - hp.lr * p * b).astype(np.float32)
        d = after.astype(np.float64) - w64
        row = [w64 @ w64, w64 @ d, d @ d, w64 @ g, g @ g, d @ g]
        rows.append([*row, w64 @ (p * x), w64 @ ((p - before) * old)])
        w, before = after, p
    return Gram.from_array(np.array(rows))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_rounding_stays_below_its_bound_and_is_not_far_below_it(name: str, momentum: float) -> None:
    shares, count, numel = [], 200, 300
    for seed, lr in enumerate(np.geomspace(1e-7, 1e-4, 24)):
        hp = HyperParameters(name, lr=lr, momentum=momentum, beta2=0.99)
        gram = walk(hp, 0.1, count, numel, seed)
        decay = real_decay(hp, np.full(count, lr), np.full(count, 0.1), "float32")
        sides = theory.balance_steps(
            hp, gram, steps=np.arange(count), lr=lr, weight_decay=decay, momentum=momentum,
            first_step=0,
        )  # fmt: skip
        miss = abs(sides.turned.sum() - sides.law.sum())
        s = Steps(np.full(count, lr), decay, np.full(count, momentum))
        shares.append(miss / rounding_error(hp, gram, s, "float32", numel))
    shares = np.array(shares)
    assert (shares < 1.0).mean() > 0.9
    assert shares.max() < 2.0
    assert np.median(shares) > 0.02


def test_rounding_falls_with_size_and_length_and_grows_with_the_unit() -> None:
    def error(dtype: str, numel: float, count: int, name: str = "adam") -> float:
        gram = Gram.from_array(np.tile([4.0, 0.0, 1e-4, 0.0, 0.0, 0.0], (count, 1)))
        s = Steps(np.full(count, 1e-4), np.full(count, 0.1), np.full(count, 0.9))
        hp = HyperParameters(name, lr=1e-4, momentum=0.9)
        return rounding_error(hp, gram, s, dtype, numel) / count

    assert error("float32", 1e4, 4000) == pytest.approx(error("float32", 1e2, 4000) / 10, rel=1e-3)
    assert error("float32", 1e2, 40_000) < 0.4 * error("float32", 1e2, 4000)
    # The error of the decay repeats, and does not average out.
    many = error("float32", 1e6, 10**6, "adamw")
    assert many == pytest.approx(error("float32", 1e6, 10**4, "adamw"), rel=0.01)
    assert list(ROUNDOFF) == ["float64", "float32", "float16", "bfloat16"]
    sizes = [error(dtype, 1e4, 1000) for dtype in ROUNDOFF]
    assert sizes == sorted(sizes)
    assert error("int8", 1e4, 1000) == 0.0


def test_a_window_whose_steps_are_as_fine_as_rounding_has_no_ratio() -> None:
    for lr, known in ((1e-3, True), (1e-7, False)):
        hp = HyperParameters("sgd", lr=lr, momentum=0.9)
        gram = walk(hp, 0.01, 200, 300, 0)
        told = {"steps": np.arange(200), "lr": lr, "weight_decay": 0.01, "momentum": 0.9}
        found = theory.balance(hp, gram, **told, dtype="float32", numel=300)
        assert (found.unknown == "") == known
        assert (found.rounding < 0.02) == known
        if not known:
            assert found.unknown.startswith("float32 rounding of the weights may be ")
        in_double = theory.balance(hp, gram, **told, dtype="float64", numel=300)
        assert "rounding" not in in_double.unknown
        assert theory.balance(hp, gram, **told).rounding == 0.0
