"""One run of the table, watched by the library, and what its theory says window by window."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn, optim

import spherical_motion as smd
from balance import laws
from balance.net import Net
from balance.training import MOMENTUM, Setting, train
from spherical_motion.comparison import Row
from spherical_motion.theory import Balance, balance
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS

__all__ = ["START", "WINDOW", "law", "measured", "recorded", "rule_of", "watched"]

START = 200
"""First step of the first window."""

WINDOW = 500
"""Steps of a window; the last takes the rest."""


def measured(net: Net, setting: Setting) -> dict[str, Any]:
    """All matrices of one run, as JSON can say it."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        loss, records = recorded(net, setting, Path(directory) / "run")
        seven, eight = (
            {row.group: row_facts(row) for row in smd.compare(read)}
            for read in (without_change(records), records)
        )
    seconds = time.perf_counter() - start
    return {
        "net": net.name,
        "note": net.note,
        **dataclasses.asdict(setting),
        "loss": loss,
        "seconds": round(seconds, 1),
        "matrices": [
            {
                "name": name,
                "row": eight[name],
                "row_of_seven": seven[name],
                "windows": matrix(records, name, rule_of(net, setting)),
            }
            for name in records.groups
        ],
    }


def rule_of(net: Net, setting: Setting) -> laws.Rule:
    """The rule by which a run steps its matrices."""
    kind = "sgd" if setting.optimizer in ("SGDM", "Nesterov") else setting.optimizer.lower()
    return laws.Rule(setting.optimizer, MOMENTUM, net.weight_decay[kind])


def recorded(net: Net, setting: Setting, directory: Path) -> tuple[float, smd.Records]:
    """Train under watch and read what was recorded."""
    loss = train(net, setting, lambda *trained: watched(*trained, directory).close)
    return loss, smd.read(directory)


def watched(model: nn.Module, optimizer: optim.Optimizer, directory: Path) -> smd.Monitor:
    """Watch every matrix at every step, with all eight products."""
    return smd.watch(model, optimizer, directory=directory, groups="plain", products=8, quiet=True)


def without_change(records: smd.Records) -> smd.Records:
    """The run as seven products record it, without S."""
    info = dataclasses.replace(records.info, products=7)
    return dataclasses.replace(records, info=info)


def row_facts(row: Row) -> dict[str, Any]:
    """What a user sees of the whole run: the comparison's row."""
    low, high = row.balance_interval
    return {
        "balance": finite(row.balance, 9),
        "low": finite(low, 9),
        "high": finite(high, 9),
        "unknown": row.balance_unknown,
    }


def matrix(records: smd.Records, name: str, rule: laws.Rule) -> list[dict[str, Any]]:
    """The windows of one matrix."""
    group = records.groups.index(name)
    products = records.gram[:, group].to_array(PRODUCTS)
    rates = records.lr[:, group]
    return [
        window(records, group, span, laws.window(rule, products, rates, *span))
        for span in laws.spans(len(rates), START, WINDOW)
    ]


def window(
    records: smd.Records, group: int, span: tuple[int, int], plain: laws.Window
) -> dict[str, Any]:
    """The library's balance law on a window, without and with S, beside the papers' law."""
    first, last = span
    at = slice(first - 1, last)  # the step before the first is needed, too
    gram = records.gram[at, group]
    without = smd.Gram(*gram.to_array((*FIELDS, "wp")).T)
    seven, eight = (law(records, group, at, products) for products in (without, gram))
    return {
        "start": first,
        "measured": finite(math.sqrt(gram.dd[1:].sum() / gram.ww[1:].sum()), 4),
        "plain": finite(plain.plain),
        "rest": finite(plain.rest),
        "balance": finite(seven.ratio, 9),
        "exact": finite(eight.ratio, 9),
        "unknown": seven.unknown,
        "pull": finite(plain.pull / plain.weight_decay, 4),
        "growth": finite(plain.growth, 4),
        "change": finite(plain.change, 4),
        "amplification": finite(seven.amplification, 4),
    }


def law(records: smd.Records, group: int, at: slice, gram: smd.Gram) -> Balance:
    hp = records.info.hyperparameters(records.main_slices[group])
    return balance(
        hp,
        gram,
        steps=records.steps[at],
        lr=records.lr[at, group],
        weight_decay=records.weight_decay[at, group],
        momentum=records.momentum[at, group],
    )


def finite(value: float, digits: int = 5) -> float | None:
    """Rounded to `digits` digits; None for NaN and infinity, which JSON does not know."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
