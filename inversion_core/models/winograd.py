"""Winograd's forms of 3x3 convolutions and of 4x4 transposed ones at stride 2, as matrix products; kernels are frozen.

A tile of 4x4 outputs of a 3x3 convolution comes from 36 products where the definition takes 144 (Lavin and Gray 2016,
"Fast algorithms for convolutional neural networks", section 4.3):

    Y = A^T [ sum over I of (G g G^T) * (B^T d B) ] A

with d the 6x6 inputs of the tile and g the kernel. The sum over I is, for each of the 36 places, a product of matrices,
and what turns a tile into its 36 numbers and back is one product for all channels. The kernel's form G g G^T is kept:
four times the kernel's size, and the price of the speed.

A transposed convolution with a 4x4 kernel at stride 2 is four convolutions of 2x2, one for each phase of the output's
pixels (even or odd, down and across). Tiles of 4x4 pixels of each phase come from 25 products where the definition
takes 64, and all four from the same 6x6 inputs. Its gradient is the sum of four convolutions of 2x2, one for each phase
of the output's gradient; that sum is made within the products. The gradient of a 3x3 convolution is one of its kind.

Pictures are taken apart channels-last: then a tile's pixel is one run of memory, and the products of all places are one
grouped 1x1 convolution, whose kernel oneDNN keeps in the order that it works in.

Suffixes: B image, C channel, H W height and width, M number of a window's transform, N product, P pixel, T tile,
G group of products, O I output and input channel of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt, prod

import torch
from torch import Tensor

from inversion_core.models.kept import KeptConvolution, once

TILE_PX = 4
"""Side of the tiles that both forms cut the smaller picture into; its sides are multiples of it."""

_POINTS_3X3 = (0.0, 1.0, -1.0, 2.0, -2.0)
_POINTS_2X2 = (0.0, 1.0, -1.0, 0.5)
_PHASES = ((3, 1), (2, 0))
"""Even outputs y[2i] are k[3] x[i - 1] + k[1] x[i], odd ones y[2i + 1] are k[2] x[i] + k[0] x[i + 1]."""
_PHASES_BACK = ((1, 3), (0, 2))
"""The gradient to x[i] is k[1] e[i] + k[3] e[i + 1] of the even ones and k[0] o[i - 1] + k[2] o[i] of the odd ones."""


def _matrices(outputs: int, taps: int, points: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """A^T (outputs, n), G (n, taps) and B^T (n, n) of F(outputs, taps), y_i = sum over k of g_k d_(i + k); float64.

    Toom and Cook's construction from n - 1 points and infinity, n = outputs + taps - 1.
    """
    others = [[other for other in points if other != point] for point in points]
    output = [[point**i for point in points] + [float(i == outputs - 1)] for i in range(outputs)]
    kernel = [
        [point**k / prod(point - other for other in rest) for k in range(taps)]
        for point, rest in zip(points, others, strict=True)
    ]
    kernel.append([float(k == taps - 1) for k in range(taps)])
    window = [[*_polynomial(rest), 0.0] for rest in others] + [_polynomial(points)]
    return _float64(output), _float64(kernel), _float64(window)


def _float64(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _polynomial(roots: Sequence[float]) -> list[float]:
    """Coefficients of the product of (x - root), lowest power first."""
    coefficients = [1.0]
    for root in roots:
        up, down = [0.0, *coefficients], [*(-root * each for each in coefficients), 0.0]
        coefficients = [a + b for a, b in zip(up, down, strict=True)]
    return coefficients


@dataclass(frozen=True, kw_only=True, eq=False)
class _Way:
    """One linear map of pictures by tiles: windows, their transform, products, and what becomes of these."""

    window_px: int
    """Side of the input's windows, which overlap by 2 pixels; the first one begins a pixel before the picture."""
    tile_px: int
    """Side of the output's tiles, which do not overlap."""
    window_MP: Tensor
    """The transform of a flat window; its numbers lie group by group."""
    tile_PN: Tensor
    """Products of all groups to a flat tile."""
    form: Callable[[Tensor], Tensor]
    """Kernel to its form (G, O, I), float64: for each group a matrix from its numbers to a product of each channel."""


def _way_of_3x3(*, is_back: bool) -> _Way:
    output, kernel, window = _matrices(TILE_PX, 3, _POINTS_3X3)

    def form(weight_OIHW: Tensor) -> Tensor:
        return torch.einsum("na,mb,oiab->nmoi", kernel, kernel, weight_OIHW.double()).flatten(0, 1)

    def form_back(weight_OIHW: Tensor) -> Tensor:
        return form(weight_OIHW.transpose(0, 1).flip(2, 3))

    return _Way(
        window_px=6, tile_px=TILE_PX, window_MP=torch.kron(window, window).float(),
        tile_PN=torch.kron(output, output).float(), form=form_back if is_back else form,
    )  # fmt: skip


def _way_up() -> _Way:
    output, kernel, window = _matrices(TILE_PX, 2, _POINTS_2X2)
    windows = torch.zeros(10, 6, dtype=torch.float64)
    windows[:5, :5], windows[5:, 1:] = window, window  # even phase from x[-1] on, odd phase from x[0] on
    outputs = torch.zeros(2 * TILE_PX, 10, dtype=torch.float64)
    outputs[0::2, :5], outputs[1::2, 5:] = output, output
    kernels = torch.cat([kernel @ _picking(taps) for taps in _PHASES])

    def form(kernel_IOHW: Tensor) -> Tensor:
        return torch.einsum("na,mb,ioab->nmoi", kernels, kernels, kernel_IOHW.double()).flatten(0, 1)

    return _Way(
        window_px=6, tile_px=2 * TILE_PX, window_MP=torch.kron(windows, windows).float(),
        tile_PN=torch.kron(outputs, outputs).float(), form=form,
    )  # fmt: skip


def _way_up_back() -> _Way:
    output, kernel, window = _matrices(TILE_PX, 2, _POINTS_2X2)
    windows = torch.zeros(2, 5, 10, dtype=torch.float64)  # of y[-1] .. y[8]: the odd phase from -1 on, the even from 0
    windows[0, :, 1::2], windows[1, :, 0::2] = window, window
    kernels = torch.stack([kernel @ _picking(taps) for taps in _PHASES_BACK])

    def form(kernel_IOHW: Tensor) -> Tensor:
        by_phase = torch.einsum("pna,qmb,ioab->nmipqo", kernels, kernels, kernel_IOHW.double())
        # A group's numbers are those of its place in all four phases.
        return by_phase.reshape(25, kernel_IOHW.shape[0], -1)

    return _Way(
        window_px=10, tile_px=TILE_PX,
        window_MP=torch.einsum("pna,qmb->nmpqab", windows, windows).reshape(100, 100).float(),
        tile_PN=torch.kron(output, output).float(), form=form,
    )  # fmt: skip


def _picking(taps: tuple[int, int]) -> Tensor:
    return torch.eye(4, dtype=torch.float64)[list(taps)]


_CONVOLVE, _CONVOLVE_BACK = _way_of_3x3(is_back=False), _way_of_3x3(is_back=True)
_UP, _UP_BACK = _way_up(), _way_up_back()


def convolve(x_BCHW: Tensor, weight_OIHW: Tensor) -> Tensor:
    """3x3 convolution (B, O, H, W) with padding 1, sides multiples of TILE_PX; float32, no graph, channels-last."""
    return _mapped(x_BCHW, weight_OIHW, _CONVOLVE)


def convolve_back(grad_BOHW: Tensor, weight_OIHW: Tensor) -> Tensor:
    """The transpose of `convolve`: the gradient (B, I, H, W) to its input, from that to its output."""
    return _mapped(grad_BOHW, weight_OIHW, _CONVOLVE_BACK)


def upsample(x_BCHW: Tensor, kernel_IOHW: Tensor) -> Tensor:
    """`conv_transpose2d` (B, O, 2H, 2W) with a 4x4 kernel at stride 2 with padding 1; else as `convolve`."""
    return _mapped(x_BCHW, kernel_IOHW, _UP)


def upsample_back(grad_BOHW: Tensor, kernel_IOHW: Tensor) -> Tensor:
    """The transpose of `upsample`."""
    return _mapped(grad_BOHW, kernel_IOHW, _UP_BACK)


def _mapped(x_BCHW: Tensor, weight: Tensor, way: _Way) -> Tensor:
    """Image by image, so that neighbours do not even change an image's rounding."""
    batch, channels, height, width = x_BCHW.shape
    stride_px = way.window_px - 2
    down, across = height // stride_px, width // stride_px
    form = once(weight, (way, down * across), lambda weight: _Form(way.form(weight), down * across))
    size = batch, form.channels, down * way.tile_px, across * way.tile_px
    y_BCHW = torch.empty(size, device=x_BCHW.device, memory_format=torch.channels_last)
    padded_HWC = x_BCHW.new_zeros(height + 2, width + 2, channels)
    h, w, c = padded_HWC.stride()
    windows = padded_HWC.as_strided(
        (down, across, way.window_px, way.window_px, channels), (stride_px * h, stride_px * w, h, w, c)
    )
    for x_CHW, y_HWC in zip(x_BCHW, y_BCHW.permute(0, 2, 3, 1), strict=True):
        padded_HWC[1:-1, 1:-1] = x_CHW.permute(1, 2, 0)
        numbers_TMC = torch.matmul(way.window_MP, windows.reshape(-1, way.window_px**2, channels))
        tiles_TPC = torch.matmul(way.tile_PN, form.products(numbers_TMC))
        tiles = tiles_TPC.view(down, across, way.tile_px, way.tile_px, -1).transpose(1, 2)
        y_HWC.view(down, way.tile_px, across, way.tile_px, -1).copy_(tiles)
    return y_BCHW


class _Form:
    """A kernel's form, in the order in which oneDNN works for this number of tiles."""

    def __init__(self, form_GOI: Tensor, tiles: int) -> None:
        self._groups, self.channels, inputs = form_GOI.shape
        down = next(side for side in range(isqrt(tiles), 0, -1) if tiles % side == 0)
        self._shape = 1, down, tiles // down, self._groups * inputs  # of the tiles, as if they were a picture
        weight = form_GOI.float().reshape(-1, inputs, 1, 1)
        self._convolve = KeptConvolution(weight, self._shape[1:3], groups=self._groups)

    def products(self, numbers_TMI: Tensor) -> Tensor:
        """(T, G, O) from (T, M, I), where a group's numbers are its share of M and I together."""
        products = self._convolve(numbers_TMI.view(self._shape).permute(0, 3, 1, 2))
        return products.permute(0, 2, 3, 1).reshape(-1, self._groups, self.channels)
