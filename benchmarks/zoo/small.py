"""Small networks of one idea each: other norms, weight norm, spectral norm, transposed layers."""

from __future__ import annotations

import torch
from torch import nn

from zoo.network import Network, images
from zoo.networks import (
    Generator,
    LayerNormMLP,
    SpectralCritic,
    StyleNet,
    old_weight_norm_net,
)
from zoo.truth import Truth

__all__ = ["NETWORKS"]


def group_norm_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    )


def derive_group_norm(truth: Truth) -> None:
    """The filters of one norm group with their biases."""
    truth.cells.blocks(4, "0.weight", "0.bias")
    truth.cells.blocks(8, "3.weight", "3.bias")
    truth.rescaling(("1.*",), ("3.weight",))


def derive_layer_norm(truth: Truth) -> None:
    """Each matrix with its bias; a gain against the next matrix."""
    truth.cells.jointly("0.*")
    truth.cells.jointly("3.*")
    truth.rescaling(("1.*",), ("3.weight",))


def derive_style(truth: Truth) -> None:
    """Instance norm removes a channel's scale and shift: single filters, silent biases.

    Gains in front of ReLU, a convolution and a norm are equivalents; n2 and rn2 meet in a stream
    that the transposed convolution reads.
    """
    truth.cells.rows("c1.weight", "c2.weight", "r1.weight", "r2.weight")
    truth.cells.rows("up.weight", axis=1)
    truth.no_effect("c1.bias", "c2.bias", "r1.bias", "r2.bias", "up.bias")
    truth.equivalents.jointly("n1.*")
    truth.equivalents.jointly("n2.*", "rn2.*")
    truth.equivalents.jointly("rn1.*")


def derive_generator(truth: Truth) -> None:
    """A transposed convolution's filters lie on axis 1; the last has no norm."""
    truth.cells.rows("0.weight", "3.weight", axis=1)
    truth.equivalents.jointly("1.*")


def derive_old_weight_norm(truth: Truth) -> None:
    """g·v/‖v‖ over rows, over columns, and over the whole tensor."""
    truth.cells.rows("0.weight_v")
    truth.cells.rows("2.weight_v", axis=1)
    truth.cells.jointly("5.weight_v")


def derive_spectral(truth: Truth) -> None:
    """Each matrix is divided by its largest singular value."""
    truth.cells.each("*.parametrizations.weight.original")


NETWORKS = (
    Network(
        "Convolutions with biases, GN",
        group_norm_net,
        images(4, 16),
        derive_group_norm,
        "two convolutions, 4 groups each; 4 × 16 × 16",
        fast=True,
    ),
    Network(
        "MLP, LN",
        LayerNormMLP,
        lambda: torch.randn(16, 20),
        derive_layer_norm,
        "linear layers with biases; 16 × 20",
        fast=True,
    ),
    Network(
        "Style transfer, IN",
        StyleNet,
        images(2, 16),
        derive_style,
        "with a transposed convolution; 2 × 16 × 16",
        fast=True,
    ),
    Network(
        "DCGAN generator, BN",
        Generator,
        images(8, 1, channels=16),
        derive_generator,
        "32 and 16 channels; 8 latent vectors of 16",
        fast=True,
    ),
    Network(
        "Weight norm, old hooks",
        old_weight_norm_net,
        images(4, 16),
        derive_old_weight_norm,
        "by row, by column, whole; 4 × 16 × 16",
        fast=True,
    ),
    Network(
        "Critic, spectral norm",
        SpectralCritic,
        images(4, 32),
        derive_spectral,
        "three convolutions and a linear layer; 4 × 32 × 32",
        fast=True,
    ),
)
