"""Runs of any size with the products that SGD makes: the motion of |w|, <w,v> and |v| alone.

A gradient of a fixed unit norm, in a fresh random direction of the tangent space, changes the
weights w and the momentum buffer v in a known way. Their inner products follow from those of the
step before, so that a step of a group takes a few numbers instead of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spherical_motion.records import RunInfo, RunWriter
from spherical_motion.vocabulary import InvariantGroup, Slice

Array = NDArray[np.float64]

LAYERS = 53
"""More groups than this are made as filters of so many layers."""

RATE, DECAY, MOMENTUM = 0.1, 1e-3, 0.9

DROPS = (0.4, 0.8)
"""Where the rate falls to a tenth, as shares of the run."""

FLUSH_ROWS = 400_000
"""Rows between two flushes; less often in runs with few groups, as in training."""

FLUSHES = 800
"""At most so many flushes in a run."""


def make_run(directory: Path, groups: int, steps: int, seed: int = 0) -> None:
    """Record a run of so many groups and steps through the writer.

    Args:
        directory: where; it must not hold a run.
        groups: how many; those beyond `LAYERS` are filters.
        steps: how many.
        seed: of the random directions.
    """
    info = run_info(groups)
    period = max(FLUSH_ROWS // groups, steps // FLUSHES, 1)
    decays = {int(share * steps) for share in DROPS}
    rate = RATE
    with RunWriter(directory, info) as writer:
        for step, products in enumerate(sgd_products(groups, steps, seed)):
            rate = rate / 10 if step in decays else rate
            if step == 0 or step in decays:
                writer.settings(step, 0, (rate, DECAY, MOMENTUM, None))
            writer.rows(step, products)
            if step % period == period - 1:
                writer.flush()


def run_info(groups: int) -> RunInfo:
    """The facts of a run of whole layers, or of the filters of layers."""
    if groups <= LAYERS:
        slices = [Slice(f"layer{i}.weight", 0, 0, 64) for i in range(groups)]
        names = [f"layer{i}" for i in range(groups)]
    else:
        shares = np.linspace(0, groups, LAYERS + 1).astype(int)
        filters = [(i, j) for i in range(LAYERS) for j in range(shares[i + 1] - shares[i])]
        slices = [Slice(f"layer{i}.weight", 0, j, j + 1) for i, j in filters]
        names = [f"layer{i}[{j}]" for i, j in filters]
    sgd = {"lr": RATE, "weight_decay": DECAY, "momentum": MOMENTUM, "dampening": 0}
    return RunInfo(
        groups=tuple(
            InvariantGroup(name, "scale", (s,), cells=((s,),), numel=int(numel), defect=1e-7)
            for name, s, numel in zip(names, slices, _sizes(groups), strict=True)
        ),
        param_groups=({"class": "SGD", "optimizer": 0, "nesterov": False, **sgd},),
        slice_param_group=(0,) * groups,
        dtypes={s.parameter: "float32" for s in slices},
    )


def sgd_products(groups: int, steps: int, seed: int = 0) -> Iterator[Array]:
    """The six products of each step, shape (groups, 6)."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.5, 2.0, groups)  # norm of the gradient at |w| = 1
    spread = 1.0 / np.sqrt(_sizes(groups) - 1.0)
    # 1.5 times the norm at which the first stage comes to rest
    ww = 2.25 * size * np.sqrt(RATE / (2.0 * DECAY * (1.0 - MOMENTUM)))
    wv, vv = np.zeros(groups), np.zeros(groups)
    drops = [int(share * steps) for share in DROPS]
    chunk = max(200_000 // groups, 1)
    for first in range(0, steps, chunk):
        noise = rng.standard_normal((min(chunk, steps - first), 3, groups))
        for row, (along, radial, length) in enumerate(noise):
            lr = RATE * 0.1 ** sum(first + row >= drop for drop in drops)
            gg = size**2 / ww * np.exp(0.2 * length)
            wg = 1e-7 * radial * np.sqrt(ww * gg)
            # What the new gradient has in common with the buffer, within the tangent space.
            vg = spread * along * np.sqrt(gg * np.maximum(vv - wv**2 / ww, 0.0)) + wg * wv / ww
            new_wv = MOMENTUM * wv + wg + DECAY * ww
            new_vv = (
                MOMENTUM**2 * vv
                + gg
                + DECAY**2 * ww
                + 2 * (MOMENTUM * DECAY * wv + MOMENTUM * vg + DECAY * wg)
            )
            gv = MOMENTUM * vg + gg + DECAY * wg
            wd, dd = -lr * new_wv, lr**2 * new_vv
            yield np.stack([ww, wd, dd, wg, gg, -lr * gv], axis=1)
            ww = ww + 2.0 * wd + dd
            wv, vv = new_wv - lr * new_vv, new_vv


def _sizes(groups: int) -> NDArray[np.int64]:
    """How many weights each group has."""
    return np.resize([576, 1152, 2304, 4608], groups)
