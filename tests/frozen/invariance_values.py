"""What the search finds in ten networks of the zoo: groups, slices, defects, passes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn
from zoo import small
from zoo.network import Network, images, token_ids
from zoo.networks import CifarResNet, PostNormEncoder, PreActResNet, weight_normed

import spherical_motion as smd
from frozen.flat import Value

__all__ = ["values"]


def _unused(truth: object) -> None:
    """The truth plays no part here."""


def _pre_norm() -> nn.Module:
    """A transformer with its norms in front, and its embedding in the residual stream."""
    layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Embedding(12, 16), layer, nn.LayerNorm(16), nn.Linear(16, 12))


OTHERS = (
    Network("ResNet8, BN", lambda: CifarResNet(1), images(4, 8), _unused, ""),
    Network("PreResNet8", lambda: PreActResNet(1), images(4, 8), _unused, ""),
    Network("ResNet8, WN", lambda: weight_normed(CifarResNet(1)), images(4, 8), _unused, ""),
    Network("Transformer, pre-LN", _pre_norm, token_ids(4, 6, 12), _unused, ""),
    Network(
        "Encoder, post-LN",
        lambda: PostNormEncoder(1, 16, 12, 6).eval(),
        token_ids(4, 6, 12),
        _unused,
        "",
    ),
)


def values() -> Iterator[Value]:
    """All keys and values of the room."""
    for network in (*small.NETWORKS, *OTHERS):
        model, inputs = network.made()
        yield from _inspected(network.name, smd.inspect_model(model, inputs))
    for network in small.NETWORKS[:3]:
        model, inputs = network.made()
        groups = smd.find_groups(model, inputs, "filter")
        yield f"{network.name}/filters", [group.name for group in groups]


def _inspected(name: str, found: smd.Inspection) -> Iterator[Value]:
    for kind, groups in (("groups", found.groups), ("rescalings", found.rescalings)):
        yield f"{name}/{kind}", [group.name for group in groups]
        for i, group in enumerate(groups):
            key = f"{name}/{kind}/{i}"
            yield (
                f"{key}/slices",
                [[s.parameter, s.axis, s.start, s.stop] for s in sorted(group.slices)[:12]],
            )
            yield f"{key}/kind", [group.kind, len(group.slices), len(group.cells), group.numel]
            yield f"{key}/powers", list(group.powers)
            yield f"{key}/defect", _rough(group.defect)
    yield f"{name}/uncovered", [[u.parameter, u.cause] for u in found.uncovered]
    yield f"{name}/coverage", found.coverage
    yield f"{name}/told", [len(found.warnings), len(found.notes), found.bit_identical]
    yield f"{name}/passes", [found.passes, found.forwards, found.backwards, found.repairs]


def _rough(defect: float) -> float:
    """A defect; one that is rounding, which sums in another order change, counts as 0."""
    return 0.0 if math.isfinite(defect) and defect < 1e-12 else defect
