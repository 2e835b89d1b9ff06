"""Residual networks with batch norm and its relatives.

A convolution in front of batch norm or instance norm: each filter by itself (the norm divides each
channel by its own deviation). In front of group norm: the filters of one norm group together.

A norm's gain and shift in front of ReLU, a convolution and another norm: together as a whole,
because ReLU and the convolution carry a factor on to the norm, which removes it. That factor could
as well have been taken out of the convolution, so these follow from its filters: equivalents. The
same holds for all that is added into a residual stream whose readers all have norms behind them.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from zoo.network import Network, images
from zoo.networks import CifarResNet, PreActResNet, weight_normed
from zoo.truth import Truth

__all__ = ["NETWORKS"]


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as build

    return build(num_classes=10)


def resnet50() -> nn.Module:
    from torchvision.models import resnet50 as build

    return build(num_classes=10)


def resnet18_group_norm() -> nn.Module:
    from torchvision.models import resnet18 as build

    return build(num_classes=10, norm_layer=partial(nn.GroupNorm, 8))


def bit_resnet() -> nn.Module:
    from timm.layers.std_conv import StdConv2d
    from timm.models.resnetv2 import ResNetV2

    standardised = partial(StdConv2d, eps=1e-8)
    return ResNetV2(
        layers=(2, 2),
        channels=(128, 256),
        stem_chs=32,
        stem_type="fixed",
        num_classes=10,
        conv_layer=standardised,
    )


def densenet121() -> nn.Module:
    from torchvision.models import densenet121 as build

    return build(num_classes=10)


def basic_block_gains(truth: Truth, stages: int = 4, prefix: str = "") -> None:
    """Gains inside blocks of two convolutions, and streams; layer1 has no downsampling."""
    bn1 = [n.removesuffix(".weight") for n in truth.names(f"{prefix}layer*.bn1.weight")]
    for norm in bn1:
        truth.equivalents.jointly(f"{norm}.*")
    truth.equivalents.jointly("bn1.*", "layer1.*.bn2.*")
    for stage in range(2, stages):  # the last stage feeds the classifier instead of a norm
        truth.equivalents.jointly(f"layer{stage}.0.downsample.1.*", f"layer{stage}.*.bn2.*")


def derive_resnet18(truth: Truth) -> None:
    truth.cells.rows("conv1.weight", "layer*.conv?.weight", "layer*.downsample.0.weight")
    basic_block_gains(truth)


def derive_resnet18_group_norm(truth: Truth) -> None:
    for conv in truth.names("conv1.weight", "layer*.conv?.weight", "layer*.downsample.0.weight"):
        truth.cells.blocks(truth.shapes[conv][0] // 8, conv)  # 8 norm groups at every width
    basic_block_gains(truth)


def bottlenecks(truth: Truth, prefix: str, stream_stages: tuple[int, ...]) -> None:
    """ResNet50's body: every stage starts with a downsampling block, the stem feeds norms only."""
    truth.cells.rows(
        f"{prefix}conv1.weight",
        f"{prefix}layer*.conv?.weight",
        f"{prefix}layer*.downsample.0.weight",
    )
    for bn in ("bn1", "bn2"):
        for gain in truth.names(f"{prefix}layer*.{bn}.weight"):
            truth.equivalents.jointly(gain.removesuffix("weight") + "*")
    truth.equivalents.jointly(f"{prefix}bn1.*")
    for stage in stream_stages:
        layer = f"{prefix}layer{stage}"
        truth.equivalents.jointly(f"{layer}.0.downsample.1.*", f"{layer}.*.bn3.*")


def derive_resnet50(truth: Truth) -> None:
    bottlenecks(truth, "", stream_stages=(1, 2, 3))


def derive_bit(truth: Truth) -> None:
    """Weight standardisation makes each filter invariant by itself, wherever it feeds.

    Group norm follows each convolution, so a norm's gain and shift have their factor removed by
    the next norm. A standardised filter cannot take the factor over: these are cells of their own.
    A stage's stream is the shortcut of its first block, read from that block's norm1, and what
    norm3 sends through conv3; all later readers are norms.
    """
    truth.cells.rows("stem.conv.weight", "stages.*.conv?.weight", "stages.*.downsample.conv.weight")
    for stage in (0, 1):
        blocks = f"stages.{stage}.blocks"
        for block in (0, 1):
            truth.cells.jointly(f"{blocks}.{block}.norm2.*")
        truth.cells.jointly(f"{blocks}.1.norm1.*")
        truth.cells.jointly(f"{blocks}.0.norm1.*", f"{blocks}.*.norm3.*")


def derive_preact(truth: Truth) -> None:
    """The stream is read by batch norms, channel by channel: its writers' filters c together."""
    truth.cells.rows("layer*.conv1.weight")
    streams = {1: "conv.weight", 2: "layer2.0.shortcut.weight", 3: "layer3.0.shortcut.weight"}
    for stage, first in streams.items():
        convs = truth.names(f"layer{stage}.*.conv2.weight")
        truth.cells.blocks(1, first, *convs)
        for conv in convs:  # ReLU and conv2 hand a factor on from bn2
            gain = conv.replace("conv2.weight", "bn2.")
            truth.rescaling((f"{gain}weight", f"{gain}bias"), (conv,))
    for gain in truth.names("layer*.bn1.weight"):
        norm, block = gain.removesuffix("weight") + "*", gain.removesuffix(".bn1.weight")
        if block in ("layer2.0", "layer3.0"):  # bn1 feeds the shortcut as well
            truth.rescaling((norm,), (f"{block}.shortcut.weight",))
        else:
            truth.equivalents.jointly(norm)


def derive_densenet(truth: Truth) -> None:
    """Features are concatenated, and every reader is a batch norm: filters are single.

    norm0's channels reach those norms through ReLU and pooling with no weight between: each gain
    with its shift is a cell. Other norms feed a convolution: equivalents.
    """
    truth.cells.rows("features.*", ndim=4)
    truth.cells.blocks(1, "features.norm0.weight", "features.norm0.bias")
    for gain in truth.names("features.*.norm?.weight", "features.transition?.norm.weight"):
        truth.equivalents.jointly(gain.removesuffix("weight") + "*")


def derive_cifar(truth: Truth, gains: bool = True) -> None:
    """The padded shortcuts carry the stream through to the head: no stream of gains."""
    truth.cells.rows("conv.weight", "layer*.conv?.weight")
    if gains:
        for gain in truth.names("layer*.norm1.weight"):
            truth.equivalents.jointly(gain.removesuffix("weight") + "*")


def derive_cifar_plain(truth: Truth) -> None:
    derive_cifar(truth, gains=False)


def derive_cifar_weight_norm(truth: Truth) -> None:
    """g·v/‖v‖ a row: each row of v, the head's too; gains g are followed by no norm."""
    truth.cells.rows("*.parametrizations.weight.original1")


def part_frozen() -> nn.Module:
    net = CifarResNet()
    net.conv.eval()
    net.norm.eval()
    net.layer1.eval()
    return net


def derive_part_frozen(truth: Truth) -> None:
    """Batch norm with running statistics is an affine map and divides by nothing."""
    truth.cells.rows("layer2.*.conv?.weight", "layer3.*.conv?.weight")
    for gain in truth.names("layer2.*.norm1.weight", "layer3.*.norm1.weight"):
        truth.equivalents.jointly(gain.removesuffix("weight") + "*")


def derive_nothing(truth: Truth) -> None:
    """No cell at all."""


NETWORKS = (
    Network("ResNet18", resnet18, images(4, 64), derive_resnet18, "torchvision; 4 × 64 × 64"),
    Network("ResNet50", resnet50, images(4, 64), derive_resnet50, "torchvision; 4 × 64 × 64"),
    Network("PreResNet32", PreActResNet, images(4, 32), derive_preact, "4 × 32 × 32"),
    Network("ResNet20, BN", CifarResNet, images(4, 32), derive_cifar, "4 × 32 × 32", fast=True),
    Network(
        "ResNet20, WN",
        lambda: weight_normed(CifarResNet(norm=lambda _: nn.Identity())),
        images(4, 32),
        derive_cifar_weight_norm,
        "weight norm and biases, no norm layer; 4 × 32 × 32",
    ),
    Network(
        "ResNet20, BN affine off",
        lambda: CifarResNet(norm=partial(nn.BatchNorm2d, affine=False)),
        images(4, 32),
        derive_cifar_plain,
        "4 × 32 × 32",
    ),
    Network(
        "ResNet20, SyncBN",
        lambda: nn.SyncBatchNorm.convert_sync_batchnorm(CifarResNet()),
        images(4, 32),
        derive_cifar,
        "one process without a process group: statistics of the one batch; 4 × 32 × 32",
    ),
    Network(
        "ResNet20, dropout and stochastic depth",
        lambda: CifarResNet(drop=0.2),
        images(16, 32),
        derive_cifar,
        "both on, at 0.2; 16 × 32 × 32",
    ),
    Network(
        "ResNet20, stem and stage 1 in eval",
        part_frozen,
        images(4, 32),
        derive_part_frozen,
        "as when fine-tuning; 4 × 32 × 32",
        fast=True,
    ),
    Network(
        "ResNet20, all in eval",
        lambda: CifarResNet().eval(),
        images(4, 32),
        derive_nothing,
        "nothing is invariant; 4 × 32 × 32",
        fast=True,
    ),
    Network(
        "ResNet18, GN",
        resnet18_group_norm,
        images(2, 64),
        derive_resnet18_group_norm,
        "8 groups; 2 × 64 × 64",
    ),
    Network(
        "BiT ResNetV2, GN and weight standardisation",
        bit_resnet,
        images(2, 64),
        derive_bit,
        "timm; 2 stages of 2 blocks, 128 and 256 channels; 2 × 64 × 64",
    ),
    Network("DenseNet121", densenet121, images(4, 64), derive_densenet, "torchvision; 4 × 64 × 64"),
)


if __name__ == "__main__":  # the truth alone, to read
    for network in NETWORKS:
        torch.manual_seed(0)
        model, _ = network.made()
        truth = network.truth(model)
        print(f"{network.name}: {len(truth.cells)} cells, {len(truth.equivalents)} equivalents")
