"""Convolutions with frozen weights: whichever of several ways is the fastest for one, while a network serves.

There are two forms of Winograd's algorithm. F(6x6, 3x3) makes 36 outputs of 64 products where the definition takes 324
(Lavin and Gray 2016, "Fast algorithms for convolutional neural networks"); torch carries it for CPUs (NNPACK) and uses
it for phones alone, and its own CPU kernels (oneDNN) know none of it. It turns the kernel into its form each time,
which with many channels is most of the work; there F(4x4, 3x3) of our own is faster (winograd.py), which keeps the
kernel's form. Our own also serves transposed convolutions, by which StyleGAN up-samples. The smallest pictures are
convolved as ever, with kernels that oneDNN keeps (kept.py); all others as torch does it. Whichever way it is, an image
is rounded as if it were alone (serving.py).

Winograd's round a little worse: 1e-5 of the largest output, beside 1e-6. So they are used only where somebody asks for
them (serving.py): the engine does, and `invert`, the reference, stays as exact as it can be. Which of them pays depends
on the processor and not on what it calls itself
(docs/experiments/2026-11-28-winograd-avx512.md): each is tried once in a process, when it is first asked
for.

Suffixes: B image, C channel, H W height and width, P pixel, O I output and input channel of a kernel.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.models import kept, winograd
from inversion_core.models.kept import KeptConvolution, once
from inversion_core.models.serving import alike, by_image, is_serving

MIN_SIDE_PX = 32
"""Below, turning the kernel into Winograd's form costs more than it saves."""
SMALL_PX = 64
"""Below, it depends on the threads too: torch's own share such a picture better among them."""
MIN_CHANNELS = 48
"""Geometric mean of input and output channels below which tiles cost more to take apart than they save."""
MIN_SIDE_OF_PRODUCTS_PX = 16
MIN_CHANNELS_OF_PRODUCTS = 360
"""The same for the form of our own: 256 to 512 channels are enough, 256 to 256 are not."""
MIN_CHANNELS_UP = 180
"""The same for up-sampling: 256 to 128 channels are enough, 128 to 64 are not."""
PAYS = 0.9
"""A form is used when its convolution takes no more than this part of the time of what it stands in for."""
TRIES = 6
"""Convolutions of each kind that are timed, in turns; the fastest counts, so that a busy machine does not decide."""
MOST_KEPT_PX = 8
MIN_CHANNELS_KEPT = 128
"""Up to that side and from so many channels on, a kernel is kept in oneDNN's order; else its products take longer."""


class How(NamedTuple):
    """What `F.conv2d` and `F.conv_transpose2d` are told beside kernel and bias."""

    stride: int = 1
    padding: int = 0
    groups: int = 1
    is_transposed: bool = False


UP = How(stride=2, padding=1, is_transposed=True)


def convolve(
    x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None = None, *, stride: int = 1, padding: int = 0,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """`F.conv2d`; while serving in the way that is fastest, and then differentiable in the input alone."""
    return _applied(x_BCHW, weight_OIHW, bias_O, How(stride, padding, groups))


def conv3x3(x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`convolve` with padding 1."""
    return _applied(x_BCHW, weight_OIHW, bias_O, How(padding=1))


def conv1x1(x_BCHW: Tensor, weight_OI11: Tensor, bias_O: Tensor) -> Tensor:
    """`convolve` as the matrix product that it is: for three outputs of a large picture torch's kernel takes longer."""
    if is_serving(x_BCHW, weight_OI11, bias_O):
        return convolve(x_BCHW, weight_OI11, bias_O)
    y_BOP = torch.matmul(weight_OI11.flatten(1), x_BCHW.flatten(2)) + bias_O[:, None]
    return y_BOP.view(len(x_BCHW), -1, *x_BCHW.shape[2:])


def upsample(x_BCHW: Tensor, kernel_IOHW: Tensor, *, padding: int = 1, groups: int = 1) -> Tensor:
    """`F.conv_transpose2d` at stride 2, by default with the padding of a 4x4 kernel; else as `convolve`."""
    return _applied(x_BCHW, kernel_IOHW, None, How(2, padding, groups, is_transposed=True))


def _applied(x_BCHW: Tensor, weight: Tensor, bias_O: Tensor | None, how: How) -> Tensor:
    way = way_of(x_BCHW, weight, bias_O, how)
    if way is None:
        return _usual(x_BCHW, weight, bias_O, how)
    y_BCHW: Tensor = _Applied.apply(x_BCHW, way)  # type: ignore[no-untyped-call]
    return y_BCHW


def _usual(x_BCHW: Tensor, weight: Tensor, bias_O: Tensor | None, how: How) -> Tensor:
    if how.is_transposed:
        return F.conv_transpose2d(x_BCHW, weight, bias_O, how.stride, how.padding, groups=how.groups)
    return F.conv2d(x_BCHW, weight, bias_O, how.stride, how.padding, groups=how.groups)


# -- which way -------------------------------------------------------------------------------------------------


class Way(Protocol):
    """A convolution with one frozen kernel, and its transpose, which takes the gradient back; both without a graph."""

    def forth(self, x_BCHW: Tensor) -> Tensor: ...

    def back(self, grad_BCHW: Tensor) -> Tensor: ...


def way_of(x_BCHW: Tensor, weight: Tensor, bias_O: Tensor | None, how: How) -> Way | None:
    """The way that serves best; None: torch's, with torch's own gradient."""
    if not is_serving(x_BCHW, weight, bias_O):
        return None
    if how == How() and weight.shape[2:] == (1, 1):
        return Product(weight, bias_O)
    if _is_soon_computed(x_BCHW, weight, how):
        return Kept(weight, bias_O, how)
    if how == How(padding=1) and weight.shape[2:] == (3, 3):
        if _has_tiles(x_BCHW) and _is_wide(weight, MIN_CHANNELS_OF_PRODUCTS) and products_pay():
            return Products(weight, bias_O)
        if _suits_nnpack(x_BCHW, weight):
            return Nnpack(weight, bias_O)
    if how == UP and _has_tiles(x_BCHW) and _is_wide(weight, MIN_CHANNELS_UP) and upsampling_pays():
        return ProductsUp(weight)
    return None if len(x_BCHW) == 1 else Alike(weight, bias_O, how, x_BCHW.shape[1:])


def _is_soon_computed(x_BCHW: Tensor, weight: Tensor, how: How) -> bool:
    """Whether a kernel is turned for longer than it is computed with: few pixels, before or after, and many weights."""
    smaller_px = max(x_BCHW.shape[2:]) // (1 if how.is_transposed else how.stride)
    is_small = how.groups == 1 and smaller_px <= MOST_KEPT_PX
    return is_small and _is_wide(weight, MIN_CHANNELS_KEPT) and kept.is_available()


def _suits_nnpack(x_BCHW: Tensor, weight: Tensor) -> bool:
    side_px = min(x_BCHW.shape[2:])
    return side_px >= MIN_SIDE_PX and _is_wide(weight, MIN_CHANNELS) and winograd_pays(is_small=side_px < SMALL_PX)


def _has_tiles(x_BCHW: Tensor) -> bool:
    """Enough of them, and no half ones."""
    return all(side >= MIN_SIDE_OF_PRODUCTS_PX and side % winograd.TILE_PX == 0 for side in x_BCHW.shape[2:])


def _is_wide(weight: Tensor, channels: int) -> bool:
    return weight.shape[0] * weight.shape[1] >= channels**2


@functools.cache
def winograd_pays(*, is_small: bool = False) -> bool:
    """Whether NNPACK's form is faster than torch's own kernels here; for small pictures that may be otherwise."""
    if not torch.backends.nnpack.is_available():  # this also wakes it up: it works only after it was asked
        return False
    channels, side_px = (64, 32) if is_small else (128, 64)
    x_BCHW, weight_OIHW = torch.ones(1, channels, side_px, side_px), torch.ones(channels, channels, 3, 3)
    return _pays(Nnpack(weight_OIHW, None).forth, lambda x_BCHW: F.conv2d(x_BCHW, weight_OIHW, padding=1), x_BCHW)


@functools.cache
def products_pay() -> bool:
    """Whether the form of our own is faster than what else there is for the many channels that it is for."""
    if not kept.is_available():
        return False
    x_BCHW, weight_OIHW = torch.ones(1, 512, 32, 32), torch.ones(512, 512, 3, 3)
    other = Nnpack(weight_OIHW, None).forth if winograd_pays() else None
    return _pays(
        Products(weight_OIHW, None).forth, other or (lambda x_BCHW: F.conv2d(x_BCHW, weight_OIHW, padding=1)), x_BCHW
    )


@functools.cache
def upsampling_pays() -> bool:
    """The same of its transposed convolutions."""
    if not kept.is_available():
        return False
    x_BCHW, kernel_IOHW = torch.ones(1, 256, 32, 32), torch.ones(256, 256, 4, 4)
    return _pays(ProductsUp(kernel_IOHW).forth, lambda x_BCHW: _usual(x_BCHW, kernel_IOHW, None, UP), x_BCHW)


@torch.no_grad()
def _pays(ours: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x_BCHW: Tensor) -> bool:
    ways = ours, other
    times_s: tuple[list[float], list[float]] = [], []
    for round_ in range(TRIES + 1):
        for way, times in zip(ways, times_s, strict=True):
            began_s = time.perf_counter()
            way(x_BCHW)
            if round_:  # the first one plans, and makes the kernel's form
                times.append(time.perf_counter() - began_s)
    return min(times_s[0]) < PAYS * min(times_s[1])


# -- the ways --------------------------------------------------------------------------------------------------


class _Applied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, way: Way) -> Tensor:
        ctx.way = way
        return way.forth(x_BCHW)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.way.back(grads[0]), None


@dataclass(frozen=True, eq=False)
class Alike:
    """Torch's own, with each image to the same bits as alone."""

    weight: Tensor
    bias_O: Tensor | None
    how: How
    size: tuple[int, ...]
    """Of an input without its batch."""

    def forth(self, x_BCHW: Tensor) -> Tensor:
        key = "forth", self.weight.shape, self.bias_O is None, self.how
        return alike(lambda x_BCHW: _usual(x_BCHW, self.weight, self.bias_O, self.how), key, x_BCHW)

    def back(self, grad_BCHW: Tensor) -> Tensor:
        return alike(self._back, ("back", self.weight.shape, self.how, self.size), grad_BCHW)

    def _back(self, grad_BCHW: Tensor) -> Tensor:
        """As torch computes the gradient of `_usual`."""
        stride, padding, groups, is_transposed = self.how
        like_BCHW = grad_BCHW.new_empty(1).expand(len(grad_BCHW), *self.size)  # only its shape counts
        x_grad_BCHW: Tensor = torch.ops.aten.convolution_backward(
            grad_BCHW, like_BCHW, self.weight, None, [stride] * 2, [padding] * 2, [1, 1], is_transposed, [0, 0], groups,
            [True, False, False],
        )[0]  # fmt: skip
        return x_grad_BCHW


@dataclass(frozen=True, eq=False)
class Product:
    """1x1, as the matrix product that it is; oneDNN's rounds by the batch, and by the threads too."""

    weight_OI11: Tensor
    bias_O: Tensor | None

    def forth(self, x_BCHW: Tensor) -> Tensor:
        return _times(self.weight_OI11.flatten(1), x_BCHW, self.bias_O)

    def back(self, grad_BCHW: Tensor) -> Tensor:
        return _times(self.weight_OI11.flatten(1).T, grad_BCHW, None)


def _times(matrix_OI: Tensor, x_BIHW: Tensor, bias_O: Tensor | None) -> Tensor:
    def run(x_BIHW: Tensor) -> Tensor:
        matrix_BOI, x_BIP = matrix_OI.expand(len(x_BIHW), -1, -1), x_BIHW.flatten(2)
        y_BOP = torch.bmm(matrix_BOI, x_BIP) if bias_O is None else torch.baddbmm(bias_O[:, None], matrix_BOI, x_BIP)
        return y_BOP.view(len(x_BIHW), -1, *x_BIHW.shape[2:])

    return alike(run, ("times", matrix_OI.shape, matrix_OI.is_contiguous(), bias_O is None), x_BIHW)


@dataclass(frozen=True, eq=False)
class Kept:
    """With a kernel that oneDNN keeps. Results are turned back: few pixels are soon copied, and what follows need not
    lie channels-last."""

    weight: Tensor
    bias_O: Tensor | None
    how: How

    def forth(self, x_BCHW: Tensor) -> Tensor:
        convolution = _kept(x_BCHW, self.weight, self.how)
        key = "kept", self.weight.shape, self.bias_O is None, self.how
        return alike(lambda x_BCHW: convolution(x_BCHW, self.bias_O).contiguous(), key, x_BCHW)

    def back(self, grad_BCHW: Tensor) -> Tensor:
        weight, how = self.weight, self.how._replace(is_transposed=not self.how.is_transposed)
        if self.how == How(padding=1):
            weight, how = turned(weight), self.how  # a convolution, too, and a faster one
        convolution = _kept(grad_BCHW, weight, how)
        key = "kept", weight.shape, True, how
        return alike(lambda grad_BCHW: convolution(grad_BCHW).contiguous(), key, grad_BCHW)


def _kept(x_BCHW: Tensor, weight: Tensor, how: How) -> KeptConvolution:
    size = tuple(x_BCHW.shape[2:])
    return once(weight, (size, how), lambda weight: KeptConvolution(weight, size, **how._asdict()))


@dataclass(frozen=True, eq=False)
class Nnpack:
    """F(6x6, 3x3). Image by image: NNPACK has a better plan for one."""

    weight_OIHW: Tensor
    bias_O: Tensor | None

    def forth(self, x_BCHW: Tensor) -> Tensor:
        return _nnpack(x_BCHW, self.weight_OIHW, self.bias_O)

    def back(self, grad_BCHW: Tensor) -> Tensor:
        return _nnpack(grad_BCHW, turned(self.weight_OIHW), None)


def _nnpack(x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None) -> Tensor:
    bias_O = weight_OIHW.new_zeros(len(weight_OIHW)) if bias_O is None else bias_O
    return by_image(lambda x_1CHW: torch._nnpack_spatial_convolution(x_1CHW, weight_OIHW, bias_O, 1, 1), x_BCHW)


@dataclass(frozen=True, eq=False)
class Products:
    """F(4x4, 3x3)."""

    weight_OIHW: Tensor
    bias_O: Tensor | None

    def forth(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = winograd.convolve(x_BCHW, self.weight_OIHW)
        return y_BCHW if self.bias_O is None else y_BCHW.add_(self.bias_O[:, None, None])

    def back(self, grad_BCHW: Tensor) -> Tensor:
        return winograd.convolve_back(grad_BCHW, self.weight_OIHW)


@dataclass(frozen=True, eq=False)
class ProductsUp:
    """F(4x4, 2x2), of up-sampling."""

    kernel_IOHW: Tensor

    def forth(self, x_BCHW: Tensor) -> Tensor:
        return winograd.upsample(x_BCHW, self.kernel_IOHW)

    def back(self, grad_BCHW: Tensor) -> Tensor:
        return winograd.upsample_back(grad_BCHW, self.kernel_IOHW)


def turned(weight_OIHW: Tensor) -> Tensor:
    """The kernel of the transposed convolution; made once, and anew when the weight was changed in place."""
    return once(weight_OIHW, "turned", lambda weight_OIHW: weight_OIHW.transpose(0, 1).flip(2, 3).contiguous())
