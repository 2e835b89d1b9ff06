"""Mask R-CNN: batch norm in the body only; pyramid, proposals and heads have none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.network import Network
from zoo.residual import bottlenecks
from zoo.truth import Truth

__all__ = ["NETWORKS"]


def mask_rcnn() -> nn.Module:
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    return maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=3,
        min_size=96,
        max_size=96,
        rpn_pre_nms_top_n_train=50,
        rpn_post_nms_top_n_train=20,
        box_batch_size_per_image=16,
    )


def scenes() -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Two images with two boxes each, and their masks."""
    pictures, targets = [], []
    for _ in range(2):
        pictures.append(torch.rand(3, 96, 96))
        masks = torch.zeros(2, 96, 96, dtype=torch.uint8)
        masks[0, 10:50, 12:60] = 1
        masks[1, 40:90, 30:80] = 1
        boxes = torch.tensor([[12.0, 10, 60, 50], [30, 40, 80, 90]])
        targets.append({"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks})
    return pictures, targets


def derive_mask_rcnn(truth: Truth) -> None:
    """The pyramid reads every stage through convolutions without a norm: no streams of gains."""
    bottlenecks(truth, "backbone.body.", stream_stages=())


NETWORKS = (
    Network(
        "Mask R-CNN, ResNet50-FPN",
        mask_rcnn,
        scenes,
        derive_mask_rcnn,
        "torchvision, batch norm in the body, losses as outputs; 2 × 96 × 96, 20 proposals",
    ),
)
