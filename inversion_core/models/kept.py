"""Convolutions whose frozen kernel oneDNN keeps in the order that it works in.

Torch hands a kernel over as it lies, and oneDNN turns it into its own order at every call: with many channels and few
pixels that takes longer than the products
(docs/experiments/2026-11-28-kept-kernels.md). The operations that keep it are those that torch's compiler
uses; this torch is pinned exactly.

Suffixes: B image, C channel, H W height and width, O I output and input channel of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

_made: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""Weight -> key -> the weight's version, and what was made of it."""


def is_available() -> bool:
    """Whether this torch was built with oneDNN, and can keep kernels for it."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def once(weight: Tensor, key: Hashable, make: Callable[[Tensor], T]) -> T:
    """What `make` makes of a weight; made once for each key, and anew when the weight was changed in place."""
    of_weight: dict[Hashable, tuple[int, T]] = _made.setdefault(weight, {})
    known = of_weight.get(key)
    if known is None or known[0] != weight._version:
        known = weight._version, make(weight.detach())
        of_weight[key] = known
    return known[1]


class KeptConvolution:
    """`F.conv2d`, or `F.conv_transpose2d`, with one kernel for pictures of one size; float32 on a CPU, no graph."""

    def __init__(self, weight: Tensor, size: Sequence[int], *, stride: int = 1, padding: int = 0, groups: int = 1,
                 is_transposed: bool = False) -> None:  # fmt: skip
        """`weight` (O, I, H, W), of a transposed convolution (I, O, H, W); `size`: height and width of the pictures."""
        channels = weight.shape[0] if is_transposed else weight.shape[1] * groups
        shape = [1, channels, *size]  # other batches are served too
        self._padding, self._stride, self._groups = [padding] * 2, [stride] * 2, groups
        self._is_transposed = is_transposed
        reorder: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight
        if is_transposed:
            reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
            self._weight = reorder(weight, self._padding, [0, 0], self._stride, [1, 1], groups, shape)
        else:
            self._weight = reorder(weight.to_mkldnn(), self._padding, self._stride, [1, 1], groups, shape)

    def __call__(self, x_BCHW: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """The result lies channels-last."""
        rest: tuple[Any, ...] = [1, 1], self._groups, "none", [], ""
        ops: Any = torch.ops.mkldnn
        y_BCHW: Tensor
        if self._is_transposed:
            y_BCHW = ops._convolution_transpose_pointwise(
                x_BCHW, self._weight, bias_O, self._padding, [0, 0], self._stride, *rest
            )
        else:
            y_BCHW = ops._convolution_pointwise(x_BCHW, self._weight, bias_O, self._padding, self._stride, *rest)
        return y_BCHW
