"""Layers that more than one network uses. Shape suffixes: B image, C channel, H W height and width."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models.convolution import convolve

LEAKY_SLOPE = 0.2
"""Negative slope of every leaky ReLU of StyleGAN (Karras 2019)."""
EPSILON = 1e-8
"""Added to a mean square before its root, in pixel and instance norm."""


class EqualizedLinear(nn.Module):
    """Fully connected layer whose weight is drawn from N(0, 1) and scaled when used (equalized rate, Karras 2017 4.1).

    Args:
        gain: factor of the He constant 1 / sqrt(in_features).
        rate_multiplier: 0.01 in the mapping network (Karras 2019 appendix C), scales weight and bias alike.
    """

    def __init__(self, in_features: int, out_features: int, *, gain: float = 1.0, rate_multiplier: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / rate_multiplier)
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.weight_scale = gain / math.sqrt(in_features) * rate_multiplier
        self.rate_multiplier = rate_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scaled_weight(), self.scaled_bias())

    def scaled_weight(self) -> Tensor:
        """What inputs are multiplied with, (O, I)."""
        return self.weight * self.weight_scale

    def scaled_bias(self) -> Tensor:
        return self.bias * self.rate_multiplier


class EqualizedConv2d(nn.Module):
    """Convolution with equalized rate, "same" padding and a bias."""

    folded_weight: Tensor | None
    folded_halving: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, *, gain: float = math.sqrt(2.0)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_scale = gain / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("folded_weight", None, persistent=False)
        self.register_buffer("folded_halving", None, persistent=False)

    def fold(self, *, halves: bool = False) -> None:
        """Scale the kernel once, for a frozen network; later changes of the weight go unseen.

        `halves`: the one of `halved`, in place of that of a plain call.
        """
        self.unfold()
        if halves:
            self.folded_halving = self._halving_kernel().detach()
        else:
            self.folded_weight = self._kernel().detach()

    def unfold(self) -> None:
        """Go by the weight again."""
        self.folded_weight = self.folded_halving = None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return convolve(x_BCHW, self._kernel(), self.bias, padding=self.weight.shape[-1] // 2)

    def halved(self, x_BCHW: Tensor) -> Tensor:
        """The same, then the mean of each 2x2 pixels, as one convolution at stride 2: less than half of the work."""
        return convolve(x_BCHW, self._halving_kernel(), self.bias, stride=2, padding=self.weight.shape[-1] // 2)

    def _kernel(self) -> Tensor:
        return self.weight * self.weight_scale if self.folded_weight is None else self.folded_weight

    def _halving_kernel(self) -> Tensor:
        if self.folded_halving is not None:
            return self.folded_halving
        k = F.pad(self.weight * (self.weight_scale / 4), (1, 1, 1, 1))
        return k[..., 1:, 1:] + k[..., :-1, 1:] + k[..., 1:, :-1] + k[..., :-1, :-1]


def pixel_norm(x_BZ: Tensor) -> Tensor:
    """Scale each vector to root mean square 1 (Karras 2017 eq. 2)."""
    return x_BZ * torch.rsqrt(x_BZ.square().mean(dim=1, keepdim=True) + EPSILON)


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAKY_SLOPE)


def leaky_relu_(x: Tensor) -> Tensor:
    """In place: a large picture's new memory costs more than the work on it."""
    return F.leaky_relu(x, LEAKY_SLOPE, inplace=True)


def resolutions(resolution: int) -> list[int]:
    """The powers of two from 4 to `resolution`, which must be one from 8 to 1024.

    Raises:
        ValueError: it is not.
    """
    if resolution not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise ValueError(f"resolution is {resolution}; it must be a power of two from 8 to 1024")
    return [2**k for k in range(2, resolution.bit_length())]
