"""pSp, e4e and ReStyle: IR-SE-50 with a head for each style layer (Richardson 2021, Tov 2021, Alaluf 2021).

The modules have the names that the public code gives them, so that a file's keys are ours.

- pSp: a feature pyramid; each head makes its row of the code from the level that suits the row.
- e4e: the same, but the first head makes all rows, and the others what is added to theirs (`is_relative`).
- ReStyle: no pyramid; it sees the picture and what the generator makes of the code so far, and corrects the code
  (`passes`).

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models.convolution import convolve
from inversion_core.models.encoders.base import PictureEncoder
from inversion_core.models.generators import Generator
from inversion_core.models.layers import EqualizedLinear, resolutions
from inversion_core.models.serving import by_image, is_serving, linear

MIDDLE_FROM, FINE_FROM = 3, 7
"""The first style layers whose heads look at the middle and the finest level of the pyramid."""
RGB = 3
SQUEEZE = 16
HEAD_SLOPE = 0.01
MOST_BLOCKS = 64


@dataclass(frozen=True, kw_only=True)
class PyramidConfig:
    """Architecture of a pSp, e4e or ReStyle encoder; the defaults are pSp's for 1024 px."""

    kind: ClassVar[str] = "ir-se-50"

    resolution: int = 1024
    """Side of the pictures, a power of two from 8 to 1024; they are shrunk to `input_px`."""
    num_layers: int = 18
    w_dim: int = 512
    input_px: int = 256
    channels: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the four groups of blocks."""
    blocks: tuple[int, ...] = (3, 4, 14, 3)
    """Blocks in each group."""
    has_pyramid: bool = True
    """False: all heads look at the coarsest features."""
    is_relative: bool = False
    """The first head makes all rows; the others add to theirs."""
    passes: int = 0
    """0: it sees the picture alone. N: it sees the picture beside that of the code so far, and corrects it N times."""

    def __post_init__(self) -> None:
        resolutions(self.resolution)
        if len(self.channels) != 4 or len(self.blocks) != 4:
            raise ValueError(f"channels and blocks must have four entries, and have {self.channels}, {self.blocks}")
        if max(self.blocks) > MOST_BLOCKS:
            raise ValueError(f"blocks is {self.blocks}; at most {MOST_BLOCKS} in a group are believed")
        if min(*self.blocks, self.num_layers, self.w_dim) < 1 or min(self.channels) < SQUEEZE:
            raise ValueError(f"blocks, num_layers and w_dim must be at least 1, channels at least {SQUEEZE}")
        if self.input_px not in (32, 64, 128, 256, 512):
            raise ValueError(f"input_px is {self.input_px}; it must be a power of two from 32 to 512")
        if not 0 <= self.passes <= 100:
            raise ValueError(f"passes is {self.passes}; it must be from 0 to 100")


class Convolution(nn.Conv2d):
    """With the fastest kernels there are while it serves."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        stride, padding = int(self.stride[0]), int(self.padding[0])
        return convolve(x_BCHW, self.weight, self.bias, stride=stride, padding=padding)


class SqueezeExcitation(nn.Module):
    """Scales channels by what all of the picture says (Hu 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = Convolution(channels, channels // SQUEEZE, 1, bias=False)
        self.fc2 = Convolution(channels // SQUEEZE, channels, 1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale: Tensor = self.fc2(F.relu(self.fc1(x_BCHW.mean(dim=(2, 3), keepdim=True))))
        return x_BCHW * scale.sigmoid()


class Bottleneck(nn.Module):
    """A residual block of IR-SE-50 (Deng 2019, improved residual units)."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            Convolution(in_channels, channels, 3, padding=1, bias=False),
            nn.PReLU(channels),
            Convolution(channels, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            SqueezeExcitation(channels),
        )
        if in_channels == channels:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        else:
            shortcut = Convolution(in_channels, channels, 1, stride=stride, bias=False)
            self.shortcut_layer = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.res_layer(x_BCHW) + self.shortcut_layer(x_BCHW)
        return y_BCHW


class Head(nn.Module):
    """Features to one row of the code: convolutions down to one pixel, then a fully connected layer."""

    def __init__(self, in_channels: int, w_dim: int, px: int):
        super().__init__()
        convs: list[nn.Module] = []
        for _ in range(px.bit_length() - 1):
            convs += [Convolution(in_channels, w_dim, 3, stride=2, padding=1), nn.LeakyReLU(HEAD_SLOPE)]
            in_channels = w_dim
        self.convs = nn.Sequential(*convs)
        self.linear = EqualizedLinear(w_dim, w_dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BD = self.convs(x_BCHW).flatten(1)
        return linear(x_BD, self.linear.scaled_weight(), self.linear.scaled_bias())


class PyramidEncoder(PictureEncoder):
    """E: picture (B, 3, H, W) in [-1, 1] to W+ code (B, L, D)."""

    start_LD: Tensor
    """What the heads' rows are added to: the mean w, or nothing."""

    def __init__(self, config: PyramidConfig):
        super().__init__()
        self.config: PyramidConfig = config
        in_channels, channels = RGB * (2 if config.passes else 1), config.channels
        self.input_layer = nn.Sequential(
            Convolution(in_channels, channels[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.PReLU(channels[0]),
        )
        body, width = [], channels[0]
        for out, count in zip(channels, config.blocks, strict=True):
            for index in range(count):
                body.append(Bottleneck(width, out, 2 if index == 0 else 1))
                width = out
        self.body = nn.ModuleList(body)
        self.styles = nn.ModuleList(Head(channels[3], config.w_dim, px) for px in head_px(config))
        if config.has_pyramid:
            self.latlayer1 = Convolution(channels[2], channels[3], 1)
            self.latlayer2 = Convolution(channels[1], channels[3], 1)
        self.register_buffer("start_LD", torch.zeros(config.num_layers, config.w_dim))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """What one look at the picture says; an encoder of several passes needs the generator, see `encode`."""
        return self.start_LD + self.rows(self._shrunk(image_BCHW))

    def encode(self, image_BCHW: Tensor, generator: Generator) -> Tensor:
        """As `forward`, or after `passes` corrections (Alaluf 2021, equation 2)."""
        if is_serving(image_BCHW, self.start_LD):
            return by_image(lambda image_1CHW: self._encoded(image_1CHW, generator), image_BCHW)
        return self._encoded(image_BCHW, generator)

    def _encoded(self, image_BCHW: Tensor, generator: Generator) -> Tensor:
        if not self.config.passes:
            return self.forward(image_BCHW)
        x_BCHW = self._shrunk(image_BCHW)
        w_BLD = self.start_LD.expand(len(image_BCHW), -1, -1)
        for _ in range(self.config.passes):
            seen_BCHW = torch.cat([x_BCHW, self._shrunk(generator.synthesis(w_BLD))], dim=1)
            w_BLD = w_BLD + self.rows(seen_BCHW)
        return w_BLD

    def rows(self, x_BCHW: Tensor) -> Tensor:
        """Pictures of `input_px` to what is added to the start."""
        levels = self._levels(x_BCHW)
        rows = [head(levels[level_of(index)]) for index, head in enumerate(self.styles)]
        if self.config.is_relative:
            rows = [rows[0], *(rows[0] + row for row in rows[1:])]
        return torch.stack(rows, dim=1)

    def _levels(self, x_BCHW: Tensor) -> list[Tensor]:
        """Features for the coarse, middle and fine rows."""
        ends, taps = [sum(self.config.blocks[: group + 1]) for group in range(4)], []
        x = self.input_layer(x_BCHW)
        for index, block in enumerate(self.body):
            x = block(x)
            if index + 1 in ends:
                taps.append(x)
        _, fine, middle, coarse = taps
        if not self.config.has_pyramid:
            return [coarse] * 3
        middle = _larger(coarse, middle) + self.latlayer1(middle)
        return [coarse, middle, _larger(middle, fine) + self.latlayer2(fine)]

    def _shrunk(self, image_BCHW: Tensor) -> Tensor:
        side = self.config.input_px
        if image_BCHW.shape[-1] < side:
            return F.interpolate(image_BCHW, size=(side, side), mode="bilinear", align_corners=False)
        return F.adaptive_avg_pool2d(image_BCHW, side)


def _larger(x_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, size=like_BCHW.shape[2:], mode="bilinear", align_corners=True)


def level_of(layer: int) -> int:
    """The level of the pyramid that a style layer's head looks at."""
    return 0 if layer < MIDDLE_FROM else 1 if layer < FINE_FROM else 2


def head_px(config: PyramidConfig) -> list[int]:
    """Side of the features that each head looks at."""
    coarse = config.input_px // 16
    return [coarse << (level_of(index) if config.has_pyramid else 0) for index in range(config.num_layers)]
