"""Winograd's F(4x4, 3x3) as matrix products, for frozen kernels of many channels.

A tile of 4x4 outputs comes from 36 products where the definition takes 144 (Lavin and Gray 2016, "Fast algorithms for
convolutional neural networks", section 4.3):

    Y = A^T [ sum over I of (G g G^T) * (B^T d B) ] A

with d the 6x6 inputs of the tile and g the kernel. The sum over I is, for each of the 36 places, a product of matrices
(O, I) and (I, T), and what turns a tile into its 36 numbers and back is one product for all tiles. The kernel's form
G g G^T is kept: four times the kernel's size, and the price of the speed.

The gradient to the input is the transpose of all that, with the same form of the kernel.

Suffixes: C channel, H W height and width, N number of a tile (36), T tile, O I output and input channel of a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

Rows = Sequence[Sequence[float]]
TILE_PX = 4
"""Side of a tile's outputs; its inputs reach one pixel further on each side."""
_INPUT: Rows = (
    [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
)  # fmt: skip
_KERNEL: Rows = (
    [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
)  # fmt: skip
_OUTPUT: Rows = ([1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1])

_forms: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""Weight -> its version, and its form."""


def _both_ways(rows: Rows) -> Tensor:
    """The matrix that does to a flat tile what `rows` does to its columns and then to its rows; in float64."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)


INPUT_NN, KERNEL_NK, OUTPUT_PN = _both_ways(_INPUT).float(), _both_ways(_KERNEL), _both_ways(_OUTPUT).float()


def convolve(x_CHW: Tensor, weight_OIHW: Tensor) -> Tensor:
    """3x3 convolution (O, H, W) with padding 1 of a picture whose sides are multiples of TILE_PX; float32, no graph."""
    channels, height, width = x_CHW.shape
    down, across = height // TILE_PX, width // TILE_PX
    padded_CHW = F.pad(x_CHW, (1, 1, 1, 1))
    c, h, w = padded_CHW.stride()
    tiles_NCT = padded_CHW.as_strided((6, 6, channels, down, across), (h, w, c, TILE_PX * h, TILE_PX * w))
    inputs_NCT = torch.mm(INPUT_NN, tiles_NCT.reshape(36, -1)).view(36, channels, -1)
    products_NOT = torch.bmm(form_of(weight_OIHW), inputs_NCT)
    y = torch.mm(OUTPUT_PN, products_NOT.view(36, -1)).view(TILE_PX, TILE_PX, -1, down, across)
    return y.permute(2, 3, 0, 4, 1).reshape(-1, height, width)


def convolve_back(grad_OHW: Tensor, weight_OIHW: Tensor) -> Tensor:
    """The transpose of `convolve`: the gradient (I, H, W) to its input, from that to its output."""
    channels, height, width = grad_OHW.shape
    down, across = height // TILE_PX, width // TILE_PX
    tiles = grad_OHW.reshape(channels, down, TILE_PX, across, TILE_PX).permute(2, 4, 0, 1, 3)
    outputs_NOT = torch.mm(OUTPUT_PN.t(), tiles.reshape(TILE_PX**2, -1)).view(36, channels, -1)
    products_NIT = torch.bmm(form_of(weight_OIHW).transpose(1, 2), outputs_NOT)
    tiles_NIT = torch.mm(INPUT_NN.t(), products_NIT.view(36, -1)).view(36, products_NIT.shape[1], -1)
    columns = tiles_NIT.transpose(0, 1).reshape(-1, tiles_NIT.shape[2])
    return F.fold(columns, (height, width), kernel_size=6, padding=1, stride=TILE_PX)  # adds where tiles overlap


def form_of(weight_OIHW: Tensor) -> Tensor:
    """G g G^T (36, O, I) of a kernel; made once, and anew when the weight was changed in place."""
    known = _forms.get(weight_OIHW)
    if known is None or known[0] != weight_OIHW._version:
        form_NOI = torch.einsum("nk,oik->noi", KERNEL_NK, weight_OIHW.detach().double().flatten(2))
        known = weight_OIHW._version, form_NOI.float().contiguous()
        _forms[weight_OIHW] = known
    form: Tensor = known[1]
    return form
