"""How near two pictures are, each pair on its own. Pure functions of tensors; nothing is read or written.

Suffixes: B image, C channel (RGB), H W height and width, D dimension of an embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PEAK_8BIT = 255.0
SIGNED_RANGE = 2.0
"""From -1 to 1."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B (ITU-R BT.601)."""
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
"""Wang 2004, section III-C: an 11 x 11 Gaussian window of sigma 1.5, K1 and K2."""


def levels(image_BCHW: Tensor) -> Tensor:
    """Pictures in [-1, 1] as what an 8-bit file holds, (B, C, H, W) float64 of whole numbers 0..255.

    The same clipping and rounding as `inversion_core.pictures.to_image`.
    """
    clipped_BCHW = image_BCHW.detach().float().nan_to_num(nan=0.0).clamp(-1, 1)
    return ((clipped_BCHW + 1.0) * 127.5).round().double()


def mse(image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean square difference in [-1, 1], nothing rounded: (B,), float64."""
    _check(image_BCHW, target_BCHW)
    return (image_BCHW.double() - target_BCHW.double()).square().mean(dim=(1, 2, 3))


def psnr_signed_db(image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB, nothing rounded, the peak being the range 2 of [-1, 1]: (B,), inf if equal."""
    return 10 * torch.log10(SIGNED_RANGE**2 / mse(image_BCHW, target_BCHW))


def psnr_db(image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB of the 8-bit pictures, peak 255: (B,), inf if equal."""
    _check(image_BCHW, target_BCHW)
    return 10 * torch.log10(PEAK_8BIT**2 / (levels(image_BCHW) - levels(target_BCHW)).square().mean(dim=(1, 2, 3)))


def ssim(image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Structural similarity (Wang 2004, eq. 13, mean over positions) of the 8-bit pictures' luma: (B,), 1 if equal.

    Only windows that lie wholly inside count, and nothing is scaled down first.
    """
    _check(image_BCHW, target_BCHW)
    if min(image_BCHW.shape[2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} px a side; the pictures are {tuple(image_BCHW.shape[2:])}")
    x_B1HW, y_B1HW = _luma(levels(image_BCHW)), _luma(levels(target_BCHW))
    mean_x, mean_y = _windowed(x_B1HW), _windowed(y_B1HW)
    variance_x = _windowed(x_B1HW.square()) - mean_x.square()
    variance_y = _windowed(y_B1HW.square()) - mean_y.square()
    covariance = _windowed(x_B1HW * y_B1HW) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * PEAK_8BIT) ** 2, (SSIM_K2 * PEAK_8BIT) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness = likeness / ((mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2))
    return likeness.mean(dim=(1, 2, 3))


def cosine(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Cosine of the angle between embeddings: (B,), 1 for the same direction, float64."""
    return F.cosine_similarity(a_BD.double(), b_BD.double(), dim=1)


def gaussian_window() -> Tensor:
    """The window of `ssim` along one axis, sum 1: (11,), float64. The square one is its outer product."""
    offset = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weight = torch.exp(-offset.square() / (2 * SSIM_SIGMA**2))
    return weight / weight.sum()


def _windowed(x_B1HW: Tensor) -> Tensor:
    """Gaussian mean around each pixel whose window lies inside: (B, 1, H - 10, W - 10)."""
    window = gaussian_window().to(x_B1HW.device)
    return F.conv2d(F.conv2d(x_B1HW, window[None, None, :, None]), window[None, None, None, :])


def _luma(levels_BCHW: Tensor) -> Tensor:
    weight_C = torch.tensor(LUMA, dtype=levels_BCHW.dtype, device=levels_BCHW.device)
    return (levels_BCHW * weight_C[:, None, None]).sum(dim=1, keepdim=True)


def _check(image_BCHW: Tensor, target_BCHW: Tensor) -> None:
    if image_BCHW.shape != target_BCHW.shape or image_BCHW.ndim != 4 or image_BCHW.shape[1] != 3:
        raise ValueError(
            f"pictures have shapes {tuple(image_BCHW.shape)} and {tuple(target_BCHW.shape)}; "
            "both must be (B, 3, H, W), and equal"
        )
