"""The comparison of all tools on the digits runs and prints a row a method."""

from __future__ import annotations

import re

import numpy as np
import pytest
import steering_digits
import torch


def test_a_tiny_run_prints_a_row_a_method(capsys, monkeypatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(steering_digits, "cost", lambda name, plan: 1.0)
    try:
        steering_digits.main(["--seeds", "1", "--steps", "28", "--width", "4"])
    finally:
        torch.set_num_threads(threads)
    rows = re.findall(
        r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| ([^|]+) \|", capsys.readouterr().out, re.M
    )
    assert [row[0] for row in rows] == list(steering_digits.METHODS)
    ratios = {row[0]: [float(value) for value in row[3].split(", ")] for row in rows}
    assert ratios["rotational"] == pytest.approx([1.0] * 3, abs=1e-3)
    # The same networks with and without weight decay, as far as rounding and epsilon let them.
    assert ratios["exponential"] == pytest.approx(ratios["sgdm"], rel=0.05)


def test_the_first_step_near_the_target() -> None:
    ratio = np.concatenate([np.linspace(0.2, 1.0, 300), np.ones(200)])
    found = steering_digits.steps_to_target(ratio)
    assert 240 < found < 290
    assert np.isnan(steering_digits.steps_to_target(ratio[:150]))
    assert np.isnan(steering_digits.steps_to_target(ratio[:60]))
