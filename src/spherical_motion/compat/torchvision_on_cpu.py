"""Make torchvision importable on a torch build that its compiled extension does not match.

torchvision's wheels on PyPI hold an extension built against CUDA, which does not load with a CPU
build of torch. `import torchvision` then fails with "operator torchvision::nms does not exist",
and so does every package that imports it (timm, transformers, lightning). This module defines in
Python the two operators that detection models need: non-maximum suppression and RoIAlign.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_installed: list[torch.library.Library] = []
"""Keeps the library objects alive, whose operators would vanish with them."""


def ensure_torchvision() -> bool:
    """Install the Python operators if torchvision needs them to be imported, and say whether.

    Does nothing if torchvision is absent or already imported, or if its extension loads.

    >>> ensure_torchvision() and ensure_torchvision()  # once at most
    False
    """
    if not _broken():
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # The schema without a quantised kernel lets torchvision register its fake version.
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", nms, "CompositeExplicitAutograd")
    _installed.append(library)

    importlib.import_module("torchvision")
    boxes: Any = sys.modules["torchvision.ops.boxes"]
    boxes._assert_has_ops = lambda: None
    # The attribute `torchvision.ops.roi_align` is the function, not the module.
    aligning: Any = sys.modules["torchvision.ops.roi_align"]
    aligning._roi_align = roi_align
    aligning.is_compile_supported = lambda *_: True  # so that it always takes its Python branch
    return True


def _broken() -> bool:
    if "torchvision" in sys.modules:
        return False
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return False
    root = spec.submodule_search_locations[0]
    extension = FileFinder(root, (ExtensionFileLoader, EXTENSION_SUFFIXES)).find_spec("_C")
    if extension is not None and extension.origin:
        try:
            torch.ops.load_library(extension.origin)  # what torchvision itself does at import
        except (ImportError, OSError):
            return True
    return not hasattr(torch.ops.torchvision, "nms")


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that no kept box with a better score overlaps, best first.

    Args:
        boxes: (n, 4), as x1, y1, x2, y2.
        scores: (n,).
        iou_threshold: drop a box whose intersection over union with a kept one exceeds this.

    >>> nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6]]), torch.ones(3), 0.5)
    tensor([0, 2])
    """
    order = scores.sort(stable=True, descending=True).indices
    x1, y1, x2, y2 = boxes.detach()[order].double().cpu().numpy().T
    area = (x2 - x1) * (y2 - y1)
    alive = np.ones(len(area), dtype=bool)
    kept = []
    for i in range(len(area)):
        if not alive[i]:
            continue
        kept.append(i)
        rest = slice(i + 1, None)
        wide = (np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])).clip(min=0)
        high = (np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])).clip(min=0)
        common = wide * high
        with np.errstate(divide="ignore", invalid="ignore"):  # boxes without area never match
            alive[rest] &= ~(common / (area[i] + area[rest] - common) > iou_threshold)
    return order[torch.as_tensor(kept, dtype=torch.long, device=order.device)]


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """RoIAlign (He et al. 2017), differentiable in `input`; arguments as in `torchvision.ops`.

    Args:
        input: (images, channels, height, width).
        rois: (k, 5): index of the image, then x1, y1, x2, y2 before `spatial_scale`.
        sampling_ratio: points per bin and axis; 0 or less means the bin's size rounded up.

    Returns:
        (k, channels, pooled_height, pooled_width).
    """
    channels, height, width = input.shape[1:]
    pooled = (pooled_height, pooled_width)
    out = input.new_zeros((rois.shape[0], channels, *pooled))
    if rois.shape[0] == 0:
        return out + 0 * input.sum()
    image = rois[:, 0].long()
    x0, y0, x1, y1 = (rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
    wide, high = x1 - x0, y1 - y0
    if not aligned:
        wide, high = wide.clamp(min=1.0), high.clamp(min=1.0)
    bin_high, bin_wide = high / pooled_height, wide / pooled_width
    if sampling_ratio > 0:
        rows = columns = torch.full_like(image, sampling_ratio)
    else:
        rows, columns = (size.ceil().long().clamp(min=1) for size in (bin_high, bin_wide))

    which, pieces = [], []
    kinds = torch.stack([image, rows, columns], 1)
    for kind in torch.unique(kinds, dim=0):  # boxes of one image with one sampling grid
        n, per_row, per_column = kind.tolist()
        chosen = (kinds == kind).all(1).nonzero().squeeze(1)
        y = _points(y0[chosen], bin_high[chosen], pooled_height, per_row)
        x = _points(x0[chosen], bin_wide[chosen], pooled_width, per_column)
        values = _sampled(input[n : n + 1], y, x, height, width)
        pieces.append(F.avg_pool2d(values, (per_row, per_column)))
        which.append(chosen)
    return out.index_copy(0, torch.cat(which), torch.cat(pieces))


def _points(start: Tensor, size: Tensor, bins: int, per_bin: int) -> Tensor:
    """Coordinates (k, bins · per_bin) of equally spaced points in each bin."""
    steps = torch.arange(bins * per_bin, device=start.device, dtype=start.dtype) + 0.5
    return start[:, None] + steps / per_bin * size[:, None]


def _sampled(image: Tensor, y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear values (k, channels, points in y, points in x); 0 beyond one pixel outside."""
    k, points_y, points_x = len(y), y.shape[1], x.shape[1]
    unit_y = y.clamp(0, height - 1) * (2 / max(height - 1, 1)) - 1
    unit_x = x.clamp(0, width - 1) * (2 / max(width - 1, 1)) - 1
    shape = (k, points_y, points_x)
    grid = torch.stack([unit_x[:, None, :].expand(shape), unit_y[:, :, None].expand(shape)], -1)
    values = F.grid_sample(
        image,
        grid.reshape(1, k * points_y, points_x, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    inside = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None, :]
    values = values.reshape(image.shape[1], *shape).transpose(0, 1)
    return values * inside[:, None]
