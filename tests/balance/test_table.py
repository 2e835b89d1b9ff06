"""The balance table's own parts: nets that train, a slow reference, laws that hold for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from balance.catalogue import NETS
from balance.laws import Rule, terms, windows
from balance.measuring import rule_of
from balance.net import Net
from balance.slow import SlowProducts
from balance.training import OPTIMIZERS, SCHEDULES, Setting, rate_factor, train

ROUNDING = {"SGDM": 1e-6, "Nesterov": 1e-6, "Adam": 1e-5, "AdamW": 1e-4}
"""How far float32 takes the exact law from 1. It rounds AdamW's factor 1 - ηλ, and with it ηλ."""

BY_NAME = {net.name: net for net in NETS}


def recorded(net: Net, setting: Setting) -> SlowProducts:
    """The slow products of one run."""
    records: list[SlowProducts] = []

    def watch(model: torch.nn.Module, optimizer: torch.optim.Optimizer):
        records.append(SlowProducts(model, optimizer))
        return records[0].close

    assert math.isfinite(train(net, setting, watch))
    return records[0]


def test_at_least_eight_nets_with_names_of_their_own() -> None:
    assert len(BY_NAME) == len(NETS) >= 8


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_each_net_trains_on_batches_that_the_seed_fixes(net: Net) -> None:
    first, again, other = (next(net.batches(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    losses = [train(net, Setting("AdamW", steps=steps)) for steps in (1, 30)]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_law_with_all_its_terms_is_an_identity(optimizer: str, schedule: str) -> None:
    net, setting = BY_NAME["MLP, no norm"], Setting(optimizer, schedule, steps=150)
    records = recorded(net, setting)
    assert len(records.products) == 4
    for products in records.products.values():
        for window in windows(rule_of(net, setting), products, records.rates, start=20, length=60):
            assert abs(window.exact - 1.0) < ROUNDING[optimizer] * max(1.0, window.amplification)
            if optimizer in ("SGDM", "Nesterov"):
                assert window.balance == window.exact


def test_what_is_left_of_adamw_is_the_rounding_of_its_decay() -> None:
    net, setting = BY_NAME["MLP, no norm"], Setting("AdamW", steps=150)
    records, lr = recorded(net, setting), net.lr["adam"]
    nominal = rule_of(net, setting)
    rounded = (1.0 - float(np.float32(1.0 - lr * nominal.weight_decay))) / lr
    for products in records.products.values():
        off = []
        for weight_decay in (nominal.weight_decay, rounded):
            settings = Rule("AdamW", nominal.momentum, weight_decay)
            (window,) = windows(settings, products, records.rates, start=20, length=130)
            off.append(abs(window.exact - 1.0))
        assert off[1] < 1e-6 < off[0]


def test_the_law_holds_step_by_step_and_not_only_in_sums() -> None:
    net, setting = BY_NAME["MLP, no norm"], Setting("Adam", "cosine", steps=40)
    records = recorded(net, setting)
    for products in records.products.values():
        turned, *parts = terms(rule_of(net, setting), products, records.rates)
        size = np.abs(np.array([turned, *parts])).max(0)
        assert np.abs(turned - sum(parts)).max() < 1e-5 * size.max()


def test_wrong_settings_break_the_law() -> None:
    net, setting = BY_NAME["MLP, no norm"], Setting("SGDM", steps=150)
    records = recorded(net, setting)
    products = records.products["3.weight"]
    right = rule_of(net, setting)
    for wrong in (
        Rule("SGDM", 0.89, right.weight_decay),
        Rule("Nesterov", 0.9, right.weight_decay),
        Rule("AdamW", 0.9, right.weight_decay),
    ):
        (window,) = windows(wrong, products, records.rates, start=20, length=130)
        assert not abs(window.exact - 1.0) < 0.01
    (window,) = windows(right, products, 1.01 * records.rates, start=20, length=130)
    assert abs(window.exact - 1.0) > 1e-3


def test_the_cosine_warms_up_and_ends_near_zero() -> None:
    rates = [rate_factor("cosine", step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 200)
    assert max(rates) == rates[199] == 1.0
    assert 0.0 < rates[-1] < 1e-4
    assert np.all(np.diff(rates[:200]) > 0)
    assert np.all(np.diff(rates[200:]) < 0)
