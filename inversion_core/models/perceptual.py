"""Perceptual networks F of equation 1: VGG-16 up to relu4_3 (IDInvert), or a middle layer of our own discriminator.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.errors import OptionInvalid
from inversion_core.models.convolution import conv3x3
from inversion_core.models.discriminator import DiscriminatorConfig, DiscriminatorTrunk
from inversion_core.models.layers import EqualizedConv2d

VGG16_PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512)
"""Convolutions and poolings of VGG-16 up to conv4_3 (Simonyan 2015, configuration D)."""
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
"""Mean of the ImageNet training pictures for each channel, in 0..255, as the Caffe weights expect it."""


class PerceptualNetwork(Protocol):
    """F: picture (B, 3, H, W) in [-1, 1] to features (B, C, h, w)."""

    def __call__(self, image_BCHW: Tensor) -> Tensor: ...


class VGG16Features(nn.Module):
    """VGG-16 from RGB in [-1, 1] to relu4_3: (B, 512, H / 8, W / 8)."""

    offset_C: Tensor

    def __init__(self, mean_bgr: Sequence[float] = IMAGENET_MEAN_BGR) -> None:
        """`mean_bgr` is taken off 0..255, so it is also what the zero padding of the first convolution stands for."""
        super().__init__()
        widths = [width for width in VGG16_PLAN if isinstance(width, int)]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1) for i, o in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.register_buffer("offset_C", torch.tensor([float(mean) for mean in mean_bgr]), persistent=False)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x = (image_BCHW.flip(1) + 1) * 127.5 - self.offset_C[:, None, None]  # RGB to BGR, 0..255, centred
        convs = iter(self.convs)
        for entry in VGG16_PLAN:
            x = F.max_pool2d(x, 2) if entry == "pool" else _conv_relu(x, next(convs))
        return x


def _conv_relu(x_BCHW: Tensor, conv: nn.Module) -> Tensor:
    assert isinstance(conv, nn.Conv2d)
    return F.relu(conv3x3(x_BCHW, conv.weight, conv.bias), inplace=True)


class NoFeatures(nn.Module):
    """Stands where a pack has no perceptual network."""

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raises OptionInvalid."""
        raise OptionInvalid("the pack has no perceptual network, which every loss needs")


class DiscriminatorFeatures(nn.Module):
    """A discriminator's trunk down to `until` pixels: feature matching where no ImageNet network can be shipped.

    Pictures larger than the discriminator's are shrunk to its size: it has seen faces at one scale.
    """

    def __init__(self, config: DiscriminatorConfig, until: int):
        super().__init__()
        self.resolution = config.resolution
        self.trunk = DiscriminatorTrunk(config, until)

    def fold(self) -> None:
        """Scale the kernels once, for a frozen network; later changes of the weights go unseen."""
        for name, module in self.trunk.named_modules():
            if isinstance(module, EqualizedConv2d):
                module.fold(halves=name.endswith("conv2"))

    def unfold(self) -> None:
        """Go by the weights again."""
        for module in self.trunk.modules():
            if isinstance(module, EqualizedConv2d):
                module.unfold()

    def forward(self, image_BCHW: Tensor) -> Tensor:
        if (factor := image_BCHW.shape[-1] // self.resolution) > 1:
            image_BCHW = F.avg_pool2d(image_BCHW, factor)
        features_BCHW: Tensor = self.trunk(image_BCHW)
        return features_BCHW
