"""The in-domain encoder (Zhu 2020, "In-Domain GAN Inversion", and its public code): picture to W+.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models.convolution import convolve
from inversion_core.models.encoders.base import PictureEncoder
from inversion_core.models.layers import leaky_relu, resolutions
from inversion_core.models.serving import linear


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Architecture of an encoder; the defaults are IDInvert's at 256 px."""

    kind: ClassVar[str] = "in-domain"

    resolution: int = 256
    """Side of the picture in pixels, a power of two from 8 to 1024."""
    w_dim: int = 512
    channels_base: int = 64
    """Channels at full resolution; they double with each halving."""
    channels_max: int = 1024
    batch_norm: bool = True
    """False: biases alone, for training with small batches."""
    blocks_per_size: int = 1
    """Residual blocks at each size below the picture's own."""

    def __post_init__(self) -> None:
        resolutions(self.resolution)
        if min(self.w_dim, self.channels_base, self.channels_max, self.blocks_per_size) < 1:
            raise ValueError("w_dim, channels_base, channels_max and blocks_per_size must be at least 1")

    @property
    def num_layers(self) -> int:
        """Number L of style layers."""
        return 2 * len(resolutions(self.resolution))

    @property
    def widths(self) -> list[int]:
        """Channels at each size, from the picture's own down to 4 px."""
        return [min(self.channels_base * 2**i, self.channels_max) for i in range(len(resolutions(self.resolution)))]


class ConvUnit(nn.Module):
    """Convolution, bias, batch norm, leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool, batch_norm: bool):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding="same", bias=bias)
        nn.init.kaiming_normal_(self.conv.weight, a=0.2)
        self.norm = nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = convolve(x_BCHW, self.conv.weight, self.conv.bias, padding=self.conv.kernel_size[0] // 2)
        y_BCHW = self.norm(y_BCHW)
        return leaky_relu(y_BCHW)


class ResidualBlock(nn.Module):
    """Two 3x3 units beside a 1x1 unit, or beside the input itself where the width stays."""

    def __init__(self, in_channels: int, out_channels: int, *, batch_norm: bool):
        super().__init__()
        hidden = min(in_channels, out_channels)
        self.unit1 = ConvUnit(in_channels, hidden, 3, bias=True, batch_norm=batch_norm)
        self.unit2 = ConvUnit(hidden, out_channels, 3, bias=True, batch_norm=batch_norm)
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else ConvUnit(in_channels, out_channels, 1, bias=not batch_norm, batch_norm=batch_norm)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        skip: Tensor = self.skip(x_BCHW)
        y: Tensor = self.unit2(self.unit1(x_BCHW))
        return y + skip


class Stage(ResidualBlock):
    """The residual blocks of one size. Those after the first begin as the identity, so that a stage can be deepened."""

    def __init__(self, in_channels: int, out_channels: int, *, batch_norm: bool, count: int):
        super().__init__(in_channels, out_channels, batch_norm=batch_norm)
        self.more = nn.ModuleList(
            ResidualBlock(out_channels, out_channels, batch_norm=batch_norm) for _ in range(count - 1)
        )
        for block in self.more:
            assert isinstance(block, ResidualBlock)
            for parameter in block.unit2.conv.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = super().forward(x_BCHW)
        for block in self.more:
            x_BCHW = block(x_BCHW)
        return x_BCHW


def stages(config: EncoderConfig) -> nn.ModuleList:
    """An encoder's body between stem and head; before each stage the size is halved."""
    return nn.ModuleList(
        Stage(i, o, batch_norm=config.batch_norm, count=config.blocks_per_size)
        for i, o in itertools.pairwise(config.widths)
    )


class Head(nn.Module):
    """Features at 4 px to the W+ code: one fully connected layer with equalized rate, then batch norm or a bias."""

    def __init__(self, in_features: int, out_features: int, *, batch_norm: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.weight_scale = 1 / math.sqrt(in_features)
        self.norm = nn.BatchNorm1d(out_features) if batch_norm else None
        self.bias = None if batch_norm else nn.Parameter(torch.zeros(out_features))

    def forward(self, x_BF: Tensor) -> Tensor:
        y = linear(x_BF, self.weight * self.weight_scale, self.bias)
        if self.norm is not None:
            y = self.norm(y)
        return y


class Encoder(PictureEncoder):
    """E: picture (B, 3, H, W) in [-1, 1] to W+ code (B, L, D)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config: EncoderConfig = config
        widths, norm = config.widths, config.batch_norm
        self.stem = ConvUnit(3, widths[0], 3, bias=not norm, batch_norm=norm)
        self.blocks = stages(config)
        self.head = Head(widths[-1] * 16, config.num_layers * config.w_dim, batch_norm=norm)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x = self.stem(image_BCHW)
        for block in self.blocks:
            x = block(F.avg_pool2d(x, 2))
        w_BLD: Tensor = self.head(x.flatten(1)).unflatten(1, (self.config.num_layers, self.config.w_dim))
        return w_BLD

    def take_over(self, other: Encoder) -> None:
        """Begin as another encoder of the same sizes; what this has more blocks, at first, does nothing.

        Raises:
            ValueError: its sizes are others, or it has more blocks.
        """
        if not is_deepened(self.config, other.config):
            raise ValueError(f"an encoder of {self.config} cannot begin as one of {other.config}")
        missing = self.load_state_dict(other.state_dict(), strict=False).missing_keys
        assert all(".more." in key for key in missing)


def is_deepened(config: EncoderConfig, other: EncoderConfig) -> bool:
    """Whether the two are alike but for blocks that the first has more, if any."""
    alike = dataclasses.replace(config, blocks_per_size=other.blocks_per_size) == other
    return alike and config.blocks_per_size >= other.blocks_per_size
