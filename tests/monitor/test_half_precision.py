"""Weights of half precision are measured exactly, through copies in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from watched import batch, network

from spherical_motion.monitor import watch
from spherical_motion.records import Records, read


def run(path: Path, dtype: torch.dtype, lr: float, make=torch.optim.SGD) -> tuple[Records, list]:
    """Train in a dtype; the records, and the products of the second layer, calculated apart."""
    model = network().to(dtype)
    optimizer = make(model.parameters(), lr=lr)
    found = []
    with watch(model, optimizer, directory=path, groups="plain", quiet=True):
        for step in range(6):
            x, y = batch(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x.to(dtype)).float(), y).backward()
            w, g = model[3].weight.detach().double(), model[3].weight.grad.double()
            optimizer.step()
            d = model[3].weight.detach().double() - w
            found.append(
                [
                    float((a * b).sum())
                    for a, b in zip((w, w, d, w, g, d), (w, d, d, g, g, g), strict=True)
                ]
            )
    return read(path), found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("lr", [0.5, 1e-5])
def test_products_are_those_of_the_weights_as_they_are(dtype, lr: float, tmp_path) -> None:
    records, found = run(tmp_path / "run", dtype, lr)
    names = ("ww", "wd", "dd", "wg", "gg", "dg")
    measured = np.stack([getattr(records.slice_gram, n)[:, 1] for n in names], axis=1)
    np.testing.assert_allclose(measured, found, rtol=1e-12, atol=1e-12)
    assert records.info.dtypes["3.weight"] == str(dtype).removeprefix("torch.")
    audits = records.audits.of(1)
    assert (audits.miss_sq <= audits.allowed_sq).all()
    assert (audits.lost > 0.5).all() if lr < 1e-4 else (audits.lost < 0.1).all()


def test_the_metric_of_adam_is_not_measured_and_said(tmp_path: Path) -> None:
    records, _ = run(tmp_path / "run", torch.bfloat16, 0.01, torch.optim.AdamW)
    assert np.isnan(records.gram.wp).all()
    assert np.isfinite(records.gram.gg).all()
    (event,) = (e for e in records.events if e["kind"] == "no_preconditioner")
    assert "half precision" in event["why"]


def test_weights_are_those_of_a_run_without_a_monitor(tmp_path: Path) -> None:
    found = []
    for watched in (True, False):
        model = network().bfloat16()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        monitor = (
            watch(model, optimizer, directory=tmp_path, groups="plain", quiet=True)
            if watched
            else None
        )
        for step in range(5):
            x, y = batch(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x.bfloat16()).float(), y).backward()
            optimizer.step()
        if monitor is not None:
            monitor.close()
        found.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
