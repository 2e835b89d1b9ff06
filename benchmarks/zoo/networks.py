"""Small networks that no library ships in this form."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

__all__ = [
    "CifarResNet",
    "Generator",
    "LayerNormMLP",
    "PostNormEncoder",
    "PreActResNet",
    "SpectralCritic",
    "StyleNet",
    "old_weight_norm_net",
    "weight_normed",
]

Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """Two convolutions and an identity shortcut, padded with zeros where the width grows."""

    def __init__(self, inside: int, outside: int, stride: int, norm: Norm, drop: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = norm(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = norm(outside)
        self.stride, self.grow, self.drop = stride, outside - inside, drop

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(F.dropout(y, self.drop, self.training)))
        if self.drop and self.training:  # stochastic depth, a sample at a time
            kept = torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop
            y = y * kept / (1 - self.drop)
        return F.relu(
            F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.grow)) + y
        )


class CifarResNet(nn.Module):
    """The CIFAR ResNet with 6n + 2 layers (He et al. 2016, section 4.2, shortcut A)."""

    def __init__(self, n: int = 3, norm: Norm = nn.BatchNorm2d, drop: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = norm(16)
        for stage, (inside, outside) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            blocks = [Block(inside, outside, 1 + (stage > 1), norm, drop)]
            blocks += [Block(outside, outside, 1, norm, drop) for _ in range(n - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.head(x.mean((2, 3)))


class PreActBlock(nn.Module):
    """Norm and ReLU in front of each convolution; a 1×1 shortcut where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        if inside != outside:
            self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)
        else:
            self.shortcut = None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class PreActResNet(nn.Module):
    """The pre-activation ResNet with 6n + 2 layers (He et al. 2016b); n = 5 is PreResNet32."""

    def __init__(self, n: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        for stage, (inside, outside) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            blocks = [PreActBlock(inside, outside, 1 + (stage > 1))]
            blocks += [PreActBlock(outside, outside, 1) for _ in range(n - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv(x))))
        return self.head(F.relu(self.bn(x)).mean((2, 3)))


class StyleNet(nn.Module):
    """Instance norm as in fast style transfer: down, a residual block, up, out."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True)
        self.c2, self.n2 = nn.Conv2d(8, 16, 3, 2, 1), nn.InstanceNorm2d(16, affine=True)
        self.r1, self.rn1 = nn.Conv2d(16, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True)
        self.r2, self.rn2 = nn.Conv2d(16, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True)
        self.up = nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1)
        self.un = nn.InstanceNorm2d(8, affine=True)
        self.out = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.n2(self.c2(F.relu(self.n1(self.c1(x))))))
        x = x + self.rn2(self.r2(F.relu(self.rn1(self.r1(x)))))
        return torch.tanh(self.out(F.relu(self.un(self.up(x)))))


class Generator(nn.Sequential):
    """DCGAN's generator, narrow: transposed convolutions with batch norm."""

    def __init__(self) -> None:
        super().__init__(
            nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )


class SpectralCritic(nn.Module):
    """A spectrally normalised discriminator (Miyato et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = spectral_norm(nn.Conv2d(3, 16, 3, 2, 1))
        self.c2 = spectral_norm(nn.Conv2d(16, 32, 3, 2, 1))
        self.c3 = spectral_norm(nn.Conv2d(32, 32, 3, 2, 1))
        self.head = spectral_norm(nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.c1, self.c2, self.c3):
            x = F.leaky_relu(conv(x), 0.1)
        return self.head(x.sum((2, 3)))


class LayerNormMLP(nn.Sequential):
    """Linear layers with biases, each in front of a layer norm."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(20, 32),
            nn.LayerNorm(32),
            nn.ReLU(),
            nn.Linear(32, 24),
            nn.LayerNorm(24),
            nn.ReLU(),
            nn.Linear(24, 5),
        )


class PostNormEncoder(nn.Module):
    """Embedding, learnt positions, and the original transformer's post-norm layers (ReLU)."""

    def __init__(self, layers: int = 3, width: int = 48, tokens: int = 64, length: int = 32):
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, batch_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(width, tokens)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def weight_normed(net: CifarResNet) -> CifarResNet:
    """All weights weight-normalised, biases instead of norm layers (Salimans & Kingma 2016)."""
    for module in list(net.modules()):
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight_norm(module)
    return net


def old_weight_norm_net() -> nn.Module:
    """The deprecated hook-based weight norm, by row, by column and of a whole tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(
            torch.nn.utils.weight_norm(nn.Conv2d(3, 8, 3, 2, 1)),
            nn.ReLU(),
            torch.nn.utils.weight_norm(nn.ConvTranspose2d(8, 6, 3, 2, 1), dim=1),
            nn.Tanh(),
            nn.Flatten(),
            torch.nn.utils.weight_norm(nn.Linear(6 * 15 * 15, 10), dim=None),
        )
