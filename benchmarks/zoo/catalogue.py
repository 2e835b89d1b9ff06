"""The list of networks, in the order in which they are printed."""

from __future__ import annotations

from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision
from zoo import detection, language, mobile, residual, small, vision
from zoo.network import Network

__all__ = ["NETWORKS"]

ensure_torchvision()

NETWORKS: tuple[Network, ...] = (
    *residual.NETWORKS,
    *mobile.NETWORKS,
    *detection.NETWORKS,
    *vision.NETWORKS,
    *language.NETWORKS,
    *small.NETWORKS,
)
