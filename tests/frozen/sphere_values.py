"""What a Gram says, on random steps and on hostile ones, and the Gram's own arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from frozen.flat import Value, call
from frozen.grids import SETTINGS, grams, walked
from spherical_motion import Gram, measure, sphere
from spherical_motion.vocabulary.gram import PRODUCTS

__all__ = ["values"]

PLAIN = (
    "angle",
    "defect",
    "norm",
    "norm_after",
    "radial_step",
    "radius_ratio",
    "step_norm",
    "tangent_of_angle",
    "tangential_step",
    "unit_gradient_norm",
)
"""Functions of a Gram alone."""

HOSTILE = {
    "still": Gram(ww=4.0, wd=0.0, dd=0.0, wg=0.0, gg=1.0, dg=0.0),
    "zero": Gram(ww=0.0, wd=0.0, dd=1.0, wg=0.0, gg=1.0, dg=1.0),
    "no gradient": Gram(ww=1.0, wd=0.1, dd=0.5, wg=0.0, gg=0.0, dg=0.0),
    "half turn": Gram(ww=1.0, wd=-2.0, dd=4.0, wg=0.0, gg=1.0, dg=0.0),
    "rounded": Gram(ww=1.0, wd=1.0, dd=1.0 - 1e-16, wg=2.0, gg=1.0, dg=0.0),
    "tiny": Gram(ww=1e-300, wd=1e-305, dd=1e-304, wg=1e-300, gg=1e-290, dg=1e-300),
    "huge": Gram(ww=1e200, wd=1e180, dd=1e170, wg=1e150, gg=1e250, dg=1e100),
    "unknown": Gram(ww=np.nan, wd=0.0, dd=1.0, wg=0.0, gg=1.0, dg=0.0),
}


def values() -> Iterator[Value]:
    """All keys and values of the room."""
    series = {
        "random": grams((6,)),
        "two": grams((3, 2), seed=1),
        "walk": walked(SETTINGS["sgdm/strong"], 12),
        **HOSTILE,
    }
    for label, gram in series.items():
        for name in PLAIN:
            yield from call(f"{name}/{label}", getattr(sphere, name), gram)
        yield from _with_settings(label, gram)
        pulled = Gram(*(getattr(gram, n) for n in PRODUCTS[:6]), wp=gram.wg)
        for scale in (1.0, 10.0):
            yield from call(f"pull/{label}/{scale}", sphere.pull, pulled, 0.1, scale)
    yield from _with_settings("arrays", series["random"], lr=np.linspace(0.1, 0.6, 6))
    yield from _with_settings("negative", series["random"], lr=-0.1)
    yield from _gram()


def _with_settings(label: str, gram: Gram, lr: object = 0.3) -> Iterator[Value]:
    for name in ("effective_lr", "taylor_variable", "taylor_variable_remainder"):
        yield from call(f"{name}/{label}", getattr(sphere, name), gram, lr)
    yield from call(f"effective_lr_l2/{label}", sphere.effective_lr_l2, gram, lr, 0.2)
    for momentum in (0.0, 0.9):
        for name in ("momentum_alignment", "momentum_norm_sq"):
            key = f"{name}/{label}/{momentum}"
            yield from call(key, getattr(sphere, name), gram, lr, 0.2, momentum)
        for name in ("momentum_dot_gradient", "unit_gradient_drive"):
            for nesterov in (False, True):
                key = f"{name}/{label}/{momentum}/{nesterov}"
                yield from call(key, getattr(sphere, name), gram, lr, 0.2, momentum, nesterov)


def _gram() -> Iterator[Value]:
    gram = grams((3, 2), seed=2)
    yield from call("Gram/sum", gram.sum, axis=1)
    yield from call("Gram/add", lambda: gram + gram)
    yield from call("Gram/item", lambda: gram[1])
    yield from call("Gram/stack", Gram.stack, [gram[0], gram[1]])
    yield from call("Gram/empty", Gram.stack, [])
    yield from call("Gram/shapes", Gram, 1.0, 1.0, 1.0, 1.0, 1.0, [1.0])
    yield from call("Gram/from_array", Gram.from_array, np.zeros(5))
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        before, step, grad = torch.randn(3, 4, 700, generator=generator, dtype=dtype)
        for label, told in (("grad", grad), ("none", None)):
            key = f"measure.gram/{str(dtype).removeprefix('torch.')}/{label}"
            yield from call(key, measure.gram, before, before + 0.01 * step, told)
