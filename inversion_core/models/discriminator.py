"""StyleGAN's discriminator with residual blocks (Karras 2020 section 4.1), used in training and, cut short, as F.

Suffixes: B image, C channel, H W height and width, M member and G group of a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models.layers import EqualizedConv2d, EqualizedLinear, leaky_relu, resolutions


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Architecture of a discriminator."""

    resolution: int
    """Side of the picture in pixels, a power of two from 8 to 1024."""
    channels: tuple[int, ...]
    """Channels at 4, 8, ... up to `resolution` pixels, in the generator's order."""

    def __post_init__(self) -> None:
        sizes = resolutions(self.resolution)
        if len(self.channels) != len(sizes):
            raise ValueError(
                f"channels has {len(self.channels)} entries; {self.resolution} px needs {len(sizes)}, for {sizes}"
            )


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a halving, beside a 1x1 convolution; the sum is scaled to keep its variance."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, in_channels)
        self.conv2 = EqualizedConv2d(in_channels, out_channels)
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, gain=1.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = leaky_relu(self.conv1(x_BCHW))
        y = leaky_relu(self.conv2.halved(y))  # halved before the nonlinearity: a quarter of the work
        skip: Tensor = self.skip(F.avg_pool2d(x_BCHW, 2))
        return (y + skip) / math.sqrt(2.0)


class DiscriminatorTrunk(nn.Module):
    """From RGB down to a chosen resolution: the whole body of D, or, cut short, the perceptual network F."""

    def __init__(self, config: DiscriminatorConfig, until: int = 4):
        super().__init__()
        sizes = resolutions(config.resolution)
        if until not in sizes[:-1]:
            raise ValueError(f"until is {until}; a trunk at {config.resolution} px can end at {sizes[:-1]}")
        self.from_rgb = EqualizedConv2d(3, config.channels[-1], 1)
        steps = [k for k in range(len(sizes) - 1, 0, -1) if sizes[k - 1] >= until]
        self.blocks = nn.ModuleList(DiscriminatorBlock(config.channels[k], config.channels[k - 1]) for k in steps)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x = leaky_relu(self.from_rgb(image_BCHW))
        for block in self.blocks:
            x = block(x)
        return x


class Discriminator(nn.Module):
    """D: picture (B, 3, H, W) in [-1, 1] to a logit (B,), higher for real."""

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config
        channels = config.channels[0]
        self.trunk = DiscriminatorTrunk(config)
        self.conv = EqualizedConv2d(channels + 1, channels)
        self.hidden = EqualizedLinear(channels * 16, channels, gain=math.sqrt(2.0))
        self.logit = EqualizedLinear(channels, 1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.head(self.trunk(image_BCHW))

    def head(self, x_BCHW: Tensor) -> Tensor:
        """From the trunk's features (B, C, 4, 4) to logits (B,). One call is one batch of the deviation."""
        x = leaky_relu(self.conv(minibatch_stddev(x_BCHW)))
        x = leaky_relu(self.hidden(x.flatten(1)))
        logit_B: Tensor = self.logit(x).squeeze(1)
        return logit_B


def minibatch_stddev(x_BCHW: Tensor, group_size: int = 4) -> Tensor:
    """Append one channel: the mean standard deviation over groups of images (Karras 2017 section 3).

    Group g takes the images g, g + n, g + 2n, ... with n groups, so the batch need not be a multiple of the group.
    """
    groups = max(1, len(x_BCHW) // group_size)
    if len(x_BCHW) % groups:
        stddev_G = torch.stack([_mean_stddev(x_BCHW[g::groups].unsqueeze(1)) for g in range(groups)]).flatten()
    else:  # all groups at once: on a GPU the number of calls counts, not their size
        stddev_G = _mean_stddev(x_BCHW.unflatten(0, (-1, groups)))
    member_B = torch.arange(len(x_BCHW), device=x_BCHW.device) % groups
    extra_B = stddev_G[member_B]
    return torch.cat([x_BCHW, extra_B.view(-1, 1, 1, 1).expand(-1, 1, *x_BCHW.shape[2:])], dim=1)


def _mean_stddev(x_MGCHW: Tensor) -> Tensor:
    """For each group the standard deviation over its members, averaged over channels and pixels."""
    return (x_MGCHW.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
