"""Differentiable augmentation for the discriminator (Zhao 2020, "DiffAugment"), against overfitting on small sets.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(image_BCHW: Tensor, probability: float) -> Tensor:
    """Change colour, position and a cut-out square, each with `probability` and for each image on its own."""
    if probability <= 0:
        return image_BCHW
    for change in (_brightness, _saturation, _contrast, _translation, _cutout):
        chosen = torch.rand(len(image_BCHW), 1, 1, 1, device=image_BCHW.device) < probability
        image_BCHW = torch.where(chosen, change(image_BCHW), image_BCHW)
    return image_BCHW


def _uniform(x: Tensor) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device)


def _brightness(x: Tensor) -> Tensor:
    return x + (_uniform(x) - 0.5)


def _saturation(x: Tensor) -> Tensor:
    grey = x.mean(dim=1, keepdim=True)
    return grey + (x - grey) * 2 * _uniform(x)


def _contrast(x: Tensor) -> Tensor:
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (0.5 + _uniform(x))


def _translation(x: Tensor, ratio: float = 0.125) -> Tensor:
    batch, height = len(x), x.shape[2]
    reach = max(1, round(height * ratio))
    shift_B2 = torch.randint(-reach, reach + 1, (batch, 2), device=x.device)
    padded = F.pad(x, (reach,) * 4)
    line = torch.arange(height, device=x.device)
    rows = (line + reach + shift_B2[:, :1])[:, None, :, None]
    columns = (line + reach + shift_B2[:, 1:])[:, None, None, :]
    return padded[
        torch.arange(batch, device=x.device)[:, None, None, None],
        torch.arange(x.shape[1], device=x.device)[None, :, None, None],
        rows,
        columns,
    ]


def _cutout(x: Tensor, ratio: float = 0.4) -> Tensor:
    height = x.shape[2]
    half = height * ratio / 2
    line = torch.arange(height, device=x.device)
    in_rows = (line[None, None, :, None] - _uniform(x) * height).abs() < half
    in_columns = (line[None, None, None, :] - _uniform(x) * height).abs() < half
    return x.masked_fill(in_rows & in_columns, 0.0)
