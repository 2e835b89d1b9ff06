"""Networks for small devices: depthwise convolutions, clipped and smooth activations.

ReLU6, SiLU and the sigmoid of squeeze-and-excitation hand no factor on, so gains in front of them
are no equivalents. Where a norm's output goes into 1×1 convolutions without an activation, and
those feed batch norm, its shift is constant over batch and space and is subtracted again: silent.
"""

from __future__ import annotations

from torch import nn

from zoo.network import Network, images
from zoo.truth import Truth

__all__ = ["NETWORKS"]


def mobilenet_v2() -> nn.Module:
    from torchvision.models import mobilenet_v2 as build

    return build(num_classes=10)


def shufflenet_v2() -> nn.Module:
    from torchvision.models import shufflenet_v2_x0_5 as build

    return build(num_classes=10)


def efficientnet_b0() -> nn.Module:
    from torchvision.models import efficientnet_b0 as build

    return build(num_classes=10)


def derive_mobilenet(truth: Truth) -> None:
    """Every convolution has batch norm; projections are linear and write streams."""
    truth.cells.rows("features.*", ndim=4)
    last = {1: "conv.2"} | dict.fromkeys(range(2, 18), "conv.3")
    truth.no_effect(*(f"features.{block}.{norm}.bias" for block, norm in last.items()))
    for stream in ((1,), (2, 3), (4, 5, 6), (7, 8, 9, 10), (11, 12, 13), (14, 15, 16), (17,)):
        truth.equivalents.jointly(*(f"features.{i}.{last[i]}.weight" for i in stream))


def derive_efficientnet(truth: Truth) -> None:
    """As MobileNetV2; squeeze-and-excitation (fc1, fc2) has no norm.

    The projections' shifts are silent unless stochastic depth drops some samples of the batch.
    """
    convolutions = set(truth.names("features.*"))
    squeezers = set(truth.names("features.*.fc?.*"))
    for name in truth.names("features.*"):
        if name in convolutions - squeezers and len(truth.shapes[name]) == 4:
            truth.cells.rows(name)
    depths = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 1}
    for stage, blocks in depths.items():
        norm = "block.2.1" if stage == 1 else "block.3.1"
        stream = [f"features.{stage}.{block}.{norm}" for block in range(blocks)]
        truth.equivalents.jointly(*(f"{norm}.weight" for norm in stream))
        truth.no_effect(*(f"{norm}.bias" for norm in stream))


def derive_shufflenet(truth: Truth) -> None:
    """Every convolution has batch norm.

    The norm behind a depthwise convolution goes into a 1×1 convolution with batch norm: its shift
    is silent and its gain, as a whole, an equivalent. branch2.1 goes through ReLU into a depthwise
    convolution with batch norm: a pair a channel. The blocks' outputs are shuffled; of each block's
    input one half is read by that block's convolution and goes no further.
    """
    truth.cells.rows("*", ndim=4)
    for norm in ("branch1.1", "branch2.4"):
        for gain in truth.names(f"stage*.{norm}.weight"):
            truth.equivalents.jointly(gain)
            truth.no_effect(gain.replace("weight", "bias"))
    for gain in truth.names("stage*.branch2.1.weight"):
        truth.equivalents.blocks(1, gain, gain.replace("weight", "bias"))
    truth.equivalents.jointly("conv1.1.*")
    for stage, blocks in {2: 4, 3: 8, 4: 4}.items():
        for channels in consumed_together(f"stage{stage}", blocks, truth):
            parts = [f"{n}.{kind}[{c}:{c + 1}]" for n, c in channels for kind in ("weight", "bias")]
            truth.equivalents.jointly(*parts)


def consumed_together(stage: str, blocks: int, truth: Truth) -> list[list[tuple[str, int]]]:
    """Sets of (norm, channel) that one mixing reader takes in, following the shuffle by hand."""
    first = [f"{stage}.0.branch1.3", f"{stage}.0.branch2.6"]
    half = truth.shapes[f"{first[0]}.weight"][0]
    stream = shuffled([(first[0], c) for c in range(half)], [(first[1], c) for c in range(half)])
    sets = []
    for block in range(1, blocks):
        passed, read = stream[:half], stream[half:]
        sets.append(read)
        stream = shuffled(passed, [(f"{stage}.{block}.branch2.6", c) for c in range(half)])
    return [*sets, stream]


def shuffled(left: list[tuple[str, int]], right: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The channel shuffle with two groups: alternately one of each."""
    return [channel for pair in zip(left, right, strict=True) for channel in pair]


NETWORKS = (
    Network(
        "MobileNetV2", mobilenet_v2, images(8, 64), derive_mobilenet, "torchvision; 8 × 64 × 64"
    ),
    Network(
        "ShuffleNetV2 ×0.5",
        shufflenet_v2,
        images(8, 64),
        derive_shufflenet,
        "torchvision; 8 × 64 × 64",
    ),
    Network(
        "EfficientNet-B0",
        efficientnet_b0,
        images(8, 64),
        derive_efficientnet,
        "torchvision, stochastic depth on; 8 × 64 × 64",
    ),
)
