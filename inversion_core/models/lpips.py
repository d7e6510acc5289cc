"""LPIPS v0.1 "squeeze" (Zhang 2018): a distance for measuring and for training, from weights given by path.

The weights (SqueezeNet 1.1 features and seven linear heads) are not shipped: `load_lpips` reads a
safetensors file with torchvision's keys and `lin.{i}.weight`.
Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from inversion_core.errors import PackInvalid

FIRE_PLAN = {
    3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128),
    9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256),
}  # fmt: skip
"""SqueezeNet 1.1: index -> (in, squeeze, expand) channels of each fire module."""
POOLED_BEFORE = (3, 6, 9)
"""Fire modules that a 3x3 max-pooling at stride 2 precedes."""
TAPPED = (4, 7, 9, 10, 11, 12)
"""Fire modules whose output counts, after the first ReLU's."""


class Fire(nn.Module):
    """Squeeze to few channels, then expand by 1x1 and 3x3 side by side (Iandola 2016)."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x_BCHW))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


class LPIPSSqueeze(nn.Module):
    """Distance of picture pairs (B, 3, H, W) in [-1, 1]: (B,), 0 for equal pictures."""

    shift_C: Tensor
    scale_C: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict({"0": nn.Conv2d(3, 64, 3, stride=2)})
        self.features.update({str(i): Fire(*plan) for i, plan in FIRE_PLAN.items()})
        widths = [64, *(2 * FIRE_PLAN[i][2] for i in TAPPED)]
        self.lin = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in widths)
        self.register_buffer("shift_C", torch.tensor([-0.030, -0.088, -0.188]), persistent=False)
        self.register_buffer("scale_C", torch.tensor([0.458, 0.448, 0.450]), persistent=False)

    def forward(self, image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        distance_B = torch.zeros(len(image_BCHW), device=image_BCHW.device)
        pairs = zip(self.maps(image_BCHW), self.maps(target_BCHW), self.lin, strict=True)
        for a, b, head in pairs:
            distance_B = distance_B + head((_unit(a) - _unit(b)).square()).mean(dim=(1, 2, 3))
        return distance_B

    def embed(self, image_BCHW: Tensor) -> Tensor:
        """The last features averaged over the picture, (B, 512): what `kid_squeeze` and `fid_squeeze` compare.

        Each vector is scaled to root mean square 1. As they are, they have one of about 11 and a long tail, and
        KID's cubic kernel would be a contest of the few largest.
        """
        *_, last_BCHW = self.maps(image_BCHW)
        mean_BC = last_BCHW.mean(dim=(2, 3))
        return F.normalize(mean_BC, dim=1) * math.sqrt(mean_BC.shape[1])

    def maps(self, image_BCHW: Tensor) -> Iterator[Tensor]:
        """The seven feature maps that are compared, the finest first."""
        x = (image_BCHW - self.shift_C[:, None, None]) / self.scale_C[:, None, None]
        x = F.relu(self.features["0"](x))
        yield x
        for index in FIRE_PLAN:
            if index in POOLED_BEFORE:
                x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
            x = self.features[str(index)](x)
            if index in TAPPED:
                yield x


def _unit(x_BCHW: Tensor) -> Tensor:
    """Scale each pixel's feature vector to length 1."""
    return x_BCHW / (x_BCHW.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()


def load_lpips(file: Path) -> LPIPSSqueeze:
    """Read the weights from `file`, frozen, float32.

    Raises:
        PackInvalid: the file is missing, broken or has other keys.
    """
    network = LPIPSSqueeze()
    try:
        network.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise PackInvalid(
            f"{file} is no LPIPS squeeze file (torchvision's squeezenet1_1 keys and lin.0..6.weight): {error}"
        ) from error
    return network.requires_grad_(False).eval()
