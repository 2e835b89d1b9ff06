"""torchvision beside a torch its extension was not built for; untouched where all is well."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision, nms, roi_align

HEALTHY = """
import sys, torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from spherical_motion.compat import ensure_torchvision
assert ensure_torchvision() is False
assert "torchvision" not in sys.modules
assert not torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU")
import torchvision
assert torchvision.healthy and ensure_torchvision() is False
"""


def test_a_healthy_torchvision_is_left_alone(tmp_path: Path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("healthy = True\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + HEALTHY
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_without_torchvision_nothing_happens(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ensure_torchvision() is False


def test_torchvision_can_be_imported_and_detects() -> None:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    ensure_torchvision()
    assert ensure_torchvision() is False
    from torchvision import ops

    boxes, scores = random_boxes(12)
    kept = ops.nms(boxes, scores, 0.3)
    assert kept.tolist() == slow_nms(boxes, scores, 0.3)


def random_boxes(count: int, side: float = 10.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, 2, generator=generator) * side
    boxes = torch.cat([corners.min(1).values, corners.max(1).values], 1)
    return boxes, torch.rand(count, generator=generator)


def slow_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    def overlap(a: list[float], b: list[float]) -> float:
        wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        common = max(wide, 0.0) * max(high, 0.0)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return common / (sum(areas) - common)

    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -float(scores[i])):
        if all(overlap(boxes[i].tolist(), boxes[j].tolist()) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 1.0])
def test_suppression_against_the_definition(threshold: float) -> None:
    for count in (1, 2, 40):
        boxes, scores = random_boxes(count)
        assert nms(boxes, scores, threshold).tolist() == slow_nms(boxes, scores, threshold)
    assert nms(torch.empty(0, 4), torch.empty(0), 0.5).tolist() == []


def slow_roi_align(image, roi, scale, high, wide, ratio, aligned):
    """One box, point by point: the mean of bilinear values at a grid of points in each bin."""
    _, height, width = image.shape
    offset = 0.5 if aligned else 0.0
    x0, y0, x1, y1 = (float(v) * scale - offset for v in roi)
    box_wide, box_high = x1 - x0, y1 - y0
    if not aligned:
        box_wide, box_high = max(box_wide, 1.0), max(box_high, 1.0)
    bin_high, bin_wide = box_high / high, box_wide / wide
    rows = ratio if ratio > 0 else max(1, -int(-bin_high // 1))
    columns = ratio if ratio > 0 else max(1, -int(-bin_wide // 1))

    def value(y: float, x: float) -> torch.Tensor:
        if not (-1 <= y <= height and -1 <= x <= width):
            return torch.zeros(image.shape[0], dtype=image.dtype)
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
        top, left = min(int(y), height - 2), min(int(x), width - 2)
        v, u = y - top, x - left
        corner = image[:, top : top + 2, left : left + 2]
        weights = image.new_tensor([[(1 - v) * (1 - u), (1 - v) * u], [v * (1 - u), v * u]])
        return (corner * weights).sum((1, 2))

    out = torch.zeros(image.shape[0], high, wide, dtype=image.dtype)
    for i in range(high):
        for j in range(wide):
            for p in range(rows):
                for q in range(columns):
                    y = y0 + (i + (p + 0.5) / rows) * bin_high
                    x = x0 + (j + (q + 0.5) / columns) * bin_wide
                    out[:, i, j] += value(y, x) / (rows * columns)
    return out


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_against_the_definition(ratio: int, aligned: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 9, 7, generator=generator, dtype=torch.float64)
    rois = torch.tensor(
        [[0, 1, 2, 9, 14], [1, -6, -6, 5, 5], [0, 3, 3, 3.5, 3.2], [1, 2, 1, 40, 50]],
        dtype=torch.float64,
    )
    found = roi_align(images, rois, 0.5, 2, 3, ratio, aligned)
    for roi, pooled in zip(rois, found, strict=True):
        slow = slow_roi_align(images[int(roi[0])], roi[1:], 0.5, 2, 3, ratio, aligned)
        torch.testing.assert_close(pooled, slow, rtol=1e-12, atol=1e-12)


def test_roi_align_is_differentiable_also_without_boxes() -> None:
    images = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 0.3, 0.4, 3.2, 3.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 1.0, 2, 2, 2, True), images)
    empty = roi_align(images, rois[:0], 1.0, 2, 2, 2, True)
    empty.sum().backward()
    assert empty.shape == (0, 2, 2, 2)
    assert not images.grad.any()
