"""Whether a reconstruction is still the same person, as a term of a training's loss (Richardson 2021, pSp, eq. 3).

One minus the cosine of two embeddings of a face recognition network, which is given by path and not shipped. Who
trains with a network must measure with another one too: what was trained on no longer measures.
Suffixes: B image, C channel, H W height and width, D dimension of an embedding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.benchmark.identity import IMAGENET_MEAN, IMAGENET_STD, INPUT_PX, TEMPLATE, similarity
from inversion_core.errors import PackInvalid
from inversion_core.models.onnx_network import OnnxNetwork
from inversion_core.training.augment import turn

ALIGNED_LANDMARKS = np.array([(0.3760, 0.4747), (0.6237, 0.4743), (0.4985, 0.6232), (0.3841, 0.7290), (0.6163, 0.7289)])
"""Where FFHQ's alignment puts the five landmarks, as shares of the side: the mean over 134 faces of the OMI set,
which differ by .005 (eyes), .03 (nose) and .015 (mouth)."""
LARGEST_ANGLE = 0.05
"""Radians. Both pictures of a pair are placed a little differently each time, so that nothing is won by a pattern
that means a person in one exact place alone."""
LARGEST_SCALE = 0.04
LARGEST_SHIFT = 0.04
"""Share of the network's picture."""


class IdentityDistance(nn.Module):
    """1 - cosine of the embeddings of aligned pictures (B, 3, H, W) in [-1, 1] and of their targets: (B,), 0 to 2."""

    frame_23: Tensor
    mean_C: Tensor
    std_C: Tensor

    def __init__(self, network: nn.Module):
        """`network` takes (B, 3, INPUT_PX, INPUT_PX), RGB with ImageNet's mean and deviation, and gives (B, D)."""
        super().__init__()
        self.network = network
        self.register_buffer("frame_23", _frame(), persistent=False)
        self.register_buffer("mean_C", torch.from_numpy(IMAGENET_MEAN), persistent=False)
        self.register_buffer("std_C", torch.from_numpy(IMAGENET_STD), persistent=False)

    def forward(self, image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        grid_BHW2 = self._places(len(image_BCHW))
        with torch.no_grad():
            target_BD = self.embed(target_BCHW, grid_BHW2)
        return 1 - (self.embed(image_BCHW, grid_BHW2) * target_BD).sum(dim=1)

    def embed(self, image_BCHW: Tensor, grid_BHW2: Tensor | None = None) -> Tensor:
        """Embeddings (B, D) of length 1; without places, at the mean one."""
        if grid_BHW2 is None:
            grid_BHW2 = _grid(self.frame_23.expand(len(image_BCHW), 2, 3))
        seen_BCHW = F.grid_sample(image_BCHW, grid_BHW2, padding_mode="reflection", align_corners=False)
        input_BCHW = ((seen_BCHW + 1) / 2 - self.mean_C[:, None, None]) / self.std_C[:, None, None]
        return F.normalize(self.network(input_BCHW), dim=1)

    def _places(self, batch: int) -> Tensor:
        drawn_B4 = torch.rand(batch, 4, device=self.frame_23.device) * 2 - 1
        scale_B11 = (1 + drawn_B4[:, 1] * LARGEST_SCALE)[:, None, None]
        turn_B22 = scale_B11 * turn(drawn_B4[:, 0] * LARGEST_ANGLE)
        shift_B21 = drawn_B4[:, 2:, None] * 2 * LARGEST_SHIFT  # the side is 2 long in the map's coordinates
        linear_22, offset_21 = self.frame_23[:, :2], self.frame_23[:, 2:]
        return _grid(torch.cat([linear_22 @ turn_B22, linear_22 @ shift_B21 + offset_21], dim=2))


def load_identity(file: Path) -> IdentityDistance:
    """The distance by a face recognition network in an ONNX file, frozen.

    Raises:
        OptionInvalid: the package onnx is not installed.
        PackInvalid: the file is missing, or no network that gives embeddings of such pictures.
    """
    distance = IdentityDistance(OnnxNetwork(file))
    picture_BCHW = torch.zeros(2, 3, INPUT_PX, INPUT_PX)
    try:
        shape = tuple(distance.embed(picture_BCHW).shape)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise PackInvalid(f"{file} does not take pictures (N, 3, {INPUT_PX}, {INPUT_PX}): {error}") from error
    if len(shape) != 2 or shape[0] != 2:
        raise PackInvalid(f"{file} gives {shape} for two pictures; wanted are embeddings (2, D)")
    return distance.requires_grad_(False).eval()


def _frame() -> Tensor:
    """The map (2, 3) from the network's picture to the aligned one, both in grid_sample's coordinates of -1 to 1."""
    a, b, c, d, e, f = similarity((TEMPLATE + 0.5) / INPUT_PX * 2 - 1, ALIGNED_LANDMARKS * 2 - 1)
    return torch.tensor([[a, b, c], [d, e, f]], dtype=torch.float32)


def _grid(map_B23: Tensor) -> Tensor:
    return F.affine_grid(map_B23, [len(map_B23), 3, INPUT_PX, INPUT_PX], align_corners=False)
