"""Vision transformers, mixers, and convolutional networks with layer norm.

Pre-norm: all that is added into the residual stream, together, when every reader is a layer norm.
Which of two linear layers in a row carries the factor is a matter of gauge (values or output
projection): the one that writes is listed, the rescaling beside it.
"""

from __future__ import annotations

from torch import nn

from zoo.network import Network, images
from zoo.truth import Truth

__all__ = ["NETWORKS"]


def convnext_tiny() -> nn.Module:
    from torchvision.models import convnext_tiny as build

    return build(num_classes=10)


def mixer() -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(num_classes=10, img_size=32, patch_size=8, num_blocks=4, embed_dim=48)


def vit(qk_norm: bool) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=32,
        patch_size=8,
        num_classes=10,
        embed_dim=48,
        depth=4,
        num_heads=3,
        qk_norm=qk_norm,
    )


def swin() -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=10)


def swin_v2() -> nn.Module:
    from torchvision.models.swin_transformer import (
        PatchMergingV2,
        SwinTransformer,
        SwinTransformerBlockV2,
    )

    return SwinTransformer(
        [4, 4],
        24,
        [2, 2],
        [2, 4],
        [4, 4],
        num_classes=10,
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    )


def derive_convnext(truth: Truth) -> None:
    """Stem, and each depthwise convolution with its bias: layer norm follows at once.

    A stage's stream: what enters it (the stem's norm, or the downsampling convolution) and the
    layer scales. It is read by the depthwise convolutions, whose outputs keep their proportions
    only if their biases grow along, and at the end by a layer norm.
    """
    truth.cells.jointly("features.0.0.weight", "features.0.0.bias")
    entries = {1: "features.0.1", 3: "features.2.1", 5: "features.4.1", 7: "features.6.1"}
    for stage, entry in entries.items():
        for scale in truth.names(f"features.{stage}.*.layer_scale"):
            block = scale.removesuffix("layer_scale") + "block"
            truth.cells.jointly(f"{block}.0.weight", f"{block}.0.bias")
            truth.rescaling((f"{block}.5.weight", f"{block}.5.bias"), (scale,))
            truth.rescaling((f"{block}.2.*",), (f"{block}.3.weight",))
        truth.cells.jointly(
            f"{entry}.*", f"features.{stage}.*.layer_scale", f"features.{stage}.*.block.0.bias"
        )
    for norm in ("features.2", "features.4", "features.6"):
        truth.rescaling((f"{norm}.0.weight", f"{norm}.0.bias"), (f"{norm}.1.weight",))


def derive_mixer(truth: Truth) -> None:
    """The stream of a pre-norm network, with its first patches.

    The bias behind token mixing is one number a token, the same for all channels: layer norm
    subtracts it. Token mixing is linear in norm1, channel mixing in norm2.
    """
    biases = "blocks.*.mlp_tokens.fc2.bias"
    truth.no_effect(biases)
    truth.cells.jointly(
        "stem.proj.*", "blocks.*.mlp_tokens.fc2.weight", "blocks.*.mlp_channels.fc2.*"
    )
    for norm in truth.names("blocks.*.norm1.weight"):
        block = norm.removesuffix(".norm1.weight")
        truth.rescaling((f"{block}.norm1.*",), (f"{block}.mlp_tokens.fc1.weight",))
        truth.rescaling((f"{block}.norm2.*",), (f"{block}.mlp_channels.fc1.weight",))


def attention_gauge(truth: Truth, attention: str, width: int) -> None:
    """A fused q, k, v: values against the projection."""
    values = f"[{2 * width}:{3 * width}]"
    truth.rescaling(
        (f"{attention}.qkv.weight{values}", f"{attention}.qkv.bias{values}"),
        (f"{attention}.proj.weight",),
    )


def derive_vit(truth: Truth, qk_norm: bool) -> None:
    """The stream; under QK-norm also each head's queries, and each head's keys, with their biases.

    Softmax does not see what is constant over keys: without QK-norm the keys' biases are silent,
    with it the shift of k_norm.
    """
    width, head = 48, 16
    truth.cells.jointly(
        "patch_embed.proj.*", "cls_token", "pos_embed", "blocks.*.attn.proj.*", "blocks.*.mlp.fc2.*"
    )
    for proj in truth.names("blocks.*.attn.proj.weight"):
        block = proj.removesuffix(".attn.proj.weight")
        attention = f"{block}.attn"
        attention_gauge(truth, attention, width)
        truth.rescaling((f"{block}.norm1.*",), (f"{attention}.qkv.weight",))
        truth.rescaling((f"{block}.norm2.*",), (f"{block}.mlp.fc1.weight",))
        if qk_norm:
            for rows in (f"[0:{width}]", f"[{width}:{2 * width}]"):
                truth.cells.blocks(
                    head, f"{attention}.qkv.weight{rows}", f"{attention}.qkv.bias{rows}"
                )
            truth.no_effect(f"{attention}.k_norm.bias")
        else:
            truth.no_effect(f"{attention}.qkv.bias[{width}:{2 * width}]")


def derive_swin(truth: Truth) -> None:
    """The stem in front of its norm; a stream for each stage, from its entry to the next norm."""
    truth.cells.jointly("features.0.0.weight", "features.0.0.bias")
    for stage, entry in {1: "features.0.2.*", 3: "features.2.reduction.weight"}.items():
        writers = (f"features.{stage}.*.attn.proj.*", f"features.{stage}.*.mlp.3.*")
        truth.cells.jointly(entry, *writers)
    truth.rescaling(("features.2.norm.*",), ("features.2.reduction.weight",))
    for proj in truth.names("features.*.attn.proj.weight"):
        attention = proj.removesuffix(".proj.weight")
        width = truth.shapes[proj][0]
        attention_gauge(truth, attention, width)
        truth.no_effect(f"{attention}.qkv.bias[{width}:{2 * width}]")


def derive_swin_v2(truth: Truth) -> None:
    """Norms behind the branches, and cosine attention.

    Output projections, and the second linear layers, each in front of a norm; patch merging's
    reduction as well. Queries and keys are divided by their lengths head by head; the keys' bias
    is multiplied by zero in the forward pass. The stream is read by GELU layers: none.
    """
    truth.cells.jointly("features.0.0.weight", "features.0.0.bias")
    truth.cells.jointly("features.2.reduction.weight")
    for proj in truth.names("features.*.attn.proj.weight"):
        attention = proj.removesuffix(".proj.weight")
        block = attention.removesuffix(".attn")
        width, head = truth.shapes[proj][0], 12
        truth.cells.jointly(f"{attention}.proj.*")
        truth.cells.jointly(f"{block}.mlp.3.*")
        queries = f"[0:{width}]"
        truth.cells.blocks(
            head, f"{attention}.qkv.weight{queries}", f"{attention}.qkv.bias{queries}"
        )
        truth.cells.blocks(head, f"{attention}.qkv.weight[{width}:{2 * width}]")
        truth.no_effect(f"{attention}.qkv.bias[{width}:{2 * width}]")
        attention_gauge(truth, attention, width)


NETWORKS = (
    Network(
        "ConvNeXt-T",
        convnext_tiny,
        images(2, 64),
        derive_convnext,
        "torchvision, stochastic depth on; 2 × 64 × 64",
    ),
    Network(
        "MLP-Mixer",
        mixer,
        images(4, 32),
        derive_mixer,
        "timm; 4 blocks, 48 channels, 16 patches; 4 × 32 × 32",
    ),
    Network(
        "ViT, pre-LN",
        lambda: vit(qk_norm=False),
        images(4, 32),
        lambda truth: derive_vit(truth, qk_norm=False),
        "timm; 4 blocks, 48 channels, 3 heads; 4 × 32 × 32",
    ),
    Network(
        "ViT, pre-LN, QK-norm",
        lambda: vit(qk_norm=True),
        images(4, 32),
        lambda truth: derive_vit(truth, qk_norm=True),
        "timm; the same with a layer norm on queries and keys",
    ),
    Network(
        "Swin",
        swin,
        images(4, 32),
        derive_swin,
        "torchvision; 2 + 2 blocks, 24 and 48 channels, windows of 4; 4 × 32 × 32",
    ),
    Network(
        "Swin V2",
        swin_v2,
        images(4, 32),
        derive_swin_v2,
        "torchvision; the same, cosine attention and norms behind the branches",
    ),
)
