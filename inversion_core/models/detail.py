"""A network that begins detail: the residual on features (docs/math.md, equation 10) in one pass, without a gradient.

It sees the picture that is wanted, how far the picture of the code is from it, and the features that detail is added
to. Most of the work is done at the size of the detail, a part of it at half that size, for a wider view.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models.convolution import convolve
from inversion_core.models.layers import leaky_relu

FEATURE_SCALE = 0.3
"""Features are larger than pictures by about as much."""
SMALL = 0.02
"""Standard deviation of the first weights of a block's second convolution: a block begins near the identity."""
FIELDS = ("width", "inner_width")


@dataclass(frozen=True, kw_only=True)
class DetailPredictorConfig:
    """Sizes of the network that a pack may choose; the others follow from the generator."""

    width: int = 64
    """Channels at the size of the detail."""
    inner_width: int = 96
    """Channels at half that size."""

    def __post_init__(self) -> None:
        for name in FIELDS:
            if not 1 <= getattr(self, name) <= 1024:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 1 to 1024")


class Convolution(nn.Module):
    """A convolution with a bias, which keeps the size, or halves it."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int = 3, *, stride: int = 1, std: float | None = None
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.stride, self.padding = stride, (size - 1) // 2
        if std is None:
            nn.init.kaiming_normal_(self.weight, a=0.2)
        else:
            nn.init.normal_(self.weight, std=std)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return convolve(x_BCHW, self.weight, self.bias, stride=self.stride, padding=self.padding)


class Block(nn.Module):
    """Two 3x3 convolutions beside the input itself."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = Convolution(channels, channels)
        self.conv2 = Convolution(channels, channels, std=SMALL)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.conv2(leaky_relu(self.conv1(leaky_relu(x_BCHW))))
        return x_BCHW + y_BCHW


class DetailPredictor(nn.Module):
    """Target, picture of the code and base features to detail. A new one gives zeros."""

    def __init__(self, config: DetailPredictorConfig, *, resolution: int, px: int, channels: int):
        """
        Args:
            resolution: side of the pictures.
            px, channels: side and channels of the detail.
        """
        super().__init__()
        self.config = config
        self.channels, self.factor = channels, resolution // px
        wide, inner = config.width, config.inner_width
        self.stem = Convolution(6 * self.factor**2 + channels, wide)
        self.first = Block(wide)
        self.down = Convolution(wide, inner, 4, stride=2)
        self.inner = nn.Sequential(Block(inner), Block(inner))
        self.up = Convolution(inner, wide, 1)
        self.last = nn.Sequential(Block(wide), Block(wide))
        self.head = Convolution(wide, channels, std=0.0)

    def forward(self, target_BCHW: Tensor, image_BCHW: Tensor, base_BCHW: Tensor) -> Tensor:
        """Detail (B, C, H, W).

        Args:
            target_BCHW: pictures (B, 3, R, R) that are wanted.
            image_BCHW: pictures of the codes, without detail.
            base_BCHW: the features that detail is added to; of more channels than C the first ones are looked at.
        """
        seen_BCHW = F.pixel_unshuffle(torch.cat([target_BCHW, target_BCHW - image_BCHW], dim=1), self.factor)
        x_BCHW = self.first(self.stem(torch.cat([seen_BCHW, FEATURE_SCALE * base_BCHW[:, : self.channels]], dim=1)))
        inner_BCHW = self.up(leaky_relu(self.inner(self.down(x_BCHW))))
        x_BCHW = x_BCHW + F.interpolate(inner_BCHW, scale_factor=2.0, mode="bilinear", align_corners=False)
        detail_BCHW: Tensor = self.head(leaky_relu(self.last(x_BCHW)))
        return detail_BCHW
