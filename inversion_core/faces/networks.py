"""The three networks of MTCNN (Zhang 2016, figure 2), each looking at a square of RGB pixels.

    PNet   12 px, slides over the whole picture    is there a face, and where about?
    RNet   24 px, one crop a candidate             most candidates go
    ONet   48 px, one crop a candidate             the rest go, landmarks come

Inputs are (N, 3, H, W) in [-1, 1]. Each returns `score_N...`, the probability of a face, and offsets of
the box's left, top, right and bottom edges in units of the crop's side. Shapes: N crop, C, H, W.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("mtcnn.safetensors")
"""See NOTICE.md for where they come from."""


def _pool(x_NCHW: Tensor, size: int) -> Tensor:
    return F.max_pool2d(x_NCHW, size, stride=2, ceil_mode=True)  # the weights were trained with Caffe's rounding


class PNet(nn.Module):
    """Proposals: fully convolutional, stride 2, one 12 px window an output pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.box = nn.Conv2d(32, 4, 1)
        self.score = nn.Conv2d(32, 2, 1)

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> score (N, H', W'), offsets (N, 4, H', W'), with H' = ceil((H - 2) / 2) - 4."""
        x = _pool(self.prelu1(self.conv1(image_NCHW)), 2)
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        return self.score(x).softmax(1)[:, 1], self.box(x)


class RNet(nn.Module):
    """Refinement: judges and shifts a candidate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.box = nn.Linear(128, 4)
        self.score = nn.Linear(128, 2)

    def forward(self, crop_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, 24, 24) -> score (N,), offsets (N, 4)."""
        x = _pool(self.prelu1(self.conv1(crop_NCHW)), 3)
        x = _pool(self.prelu2(self.conv2(x)), 3)
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense(x.flatten(1)))
        return self.score(x).softmax(1)[:, 1], self.box(x)


class ONet(nn.Module):
    """Output: the last word on a candidate, and its landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.box = nn.Linear(256, 4)
        self.landmarks = nn.Linear(256, 10)
        self.score = nn.Linear(256, 2)

    def forward(self, crop_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, 48, 48) -> score (N,), offsets (N, 4), landmarks (N, 5, 2) as (x, y) from 0 to 1 of the crop."""
        x = _pool(self.prelu1(self.conv1(crop_NCHW)), 3)
        x = _pool(self.prelu2(self.conv2(x)), 3)
        x = _pool(self.prelu3(self.conv3(x)), 2)
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense(x.flatten(1)))
        landmarks = self.landmarks(x).view(-1, 2, 5).transpose(1, 2)  # stored as five x, then five y
        return self.score(x).softmax(1)[:, 1], self.box(x), landmarks


class MTCNN(nn.Module):
    """The three with their weights, frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        with safe_open(WEIGHTS, framework="pt") as file:
            self.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        self.eval().requires_grad_(False)
