"""Convolutions with frozen weights, by Winograd's algorithm where that is faster.

There are two forms of it. F(6x6, 3x3) makes 36 outputs of 64 products where the definition takes 324 (Lavin and Gray
2016, "Fast algorithms for convolutional neural networks"); torch carries it for CPUs (NNPACK) and uses it for phones
alone, and its own CPU kernels (oneDNN) know none of it. It turns the kernel into its form each time, which with many
channels is most of the work; there F(4x4, 3x3) of our own is faster (winograd.py), which keeps the kernel's form. Our
own also serves transposed convolutions, by which StyleGAN up-samples. The smallest pictures are convolved as ever, with
kernels that oneDNN keeps (kept.py).

Both round a little worse: 1e-5 of the largest output, beside 1e-6. So they are used only where somebody asks for them:
the engine does, and `invert`, the reference, stays as exact as it can be. Which of them pays depends on the processor
and not on what it calls itself (docs/log.md): each is tried once in a process, when it is first asked for.

Suffixes: B image, C channel, H W height and width, P pixel, O I output and input channel of a kernel.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.models import kept, winograd
from inversion_core.models.kept import KeptConvolution, once

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

_asked = threading.local()


@contextmanager
def fast_convolutions() -> Iterator[None]:
    """Within it, convolutions of this thread may be Winograd's; forward and backward pass both belong in it."""
    before = getattr(_asked, "is_on", False)
    _asked.is_on = True
    try:
        yield
    finally:
        _asked.is_on = before


def conv3x3(x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`F.conv2d` with padding 1; differentiable in the input alone where it takes the fast way."""
    if is_kept(x_BCHW, weight_OIHW, bias_O):
        kept_BCHW: Tensor = _Kept.apply(x_BCHW, weight_OIHW, bias_O)  # type: ignore[no-untyped-call]
        return kept_BCHW
    if not is_fast(x_BCHW, weight_OIHW, bias_O):
        return F.conv2d(x_BCHW, weight_OIHW, bias_O, padding=1)
    y_BCHW: Tensor = _Winograd.apply(x_BCHW, weight_OIHW, bias_O)  # type: ignore[no-untyped-call]
    return y_BCHW


def conv1x1(x_BCHW: Tensor, weight_OI11: Tensor, bias_O: Tensor) -> Tensor:
    """`F.conv2d` as the matrix product that it is: for three outputs of a large picture torch's kernel takes longer."""
    y_BOP = torch.matmul(weight_OI11.flatten(1), x_BCHW.flatten(2)) + bias_O[:, None]
    return y_BOP.view(len(x_BCHW), -1, *x_BCHW.shape[2:])


def is_fast(x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None) -> bool:
    """Whether Winograd's form serves: asked for, frozen float32 on a CPU, large enough, and a CPU where it pays."""
    return _may_be_fast(x_BCHW, weight_OIHW, bias_O) and (
        as_products(x_BCHW, weight_OIHW)
        or (
            _is_large(x_BCHW, weight_OIHW, MIN_SIDE_PX, MIN_CHANNELS)
            and winograd_pays(is_small=min(x_BCHW.shape[2:]) < SMALL_PX)
        )
    )


def as_products(x_BCHW: Tensor, weight_OIHW: Tensor) -> bool:
    """Whether the form of our own is the faster one of the two."""
    is_large = _is_large(x_BCHW, weight_OIHW, MIN_SIDE_OF_PRODUCTS_PX, MIN_CHANNELS_OF_PRODUCTS)
    return is_large and _has_tiles(x_BCHW) and products_pay()


def _may_be_fast(x_BCHW: Tensor, weight: Tensor, bias_O: Tensor | None = None) -> bool:
    """What every fast way wants: asked for, and frozen float32 on a CPU."""
    return (
        getattr(_asked, "is_on", False)
        and weight.device.type == "cpu"
        and x_BCHW.dtype == weight.dtype == torch.float32
        and not weight.requires_grad
        and (bias_O is None or not bias_O.requires_grad)
        and not torch.is_autocast_enabled("cpu")
    )


def _has_tiles(x_BCHW: Tensor) -> bool:
    return all(side % winograd.TILE_PX == 0 for side in x_BCHW.shape[2:])


def _is_large(x_BCHW: Tensor, weight: Tensor, side_px: int, channels: int) -> bool:
    return min(x_BCHW.shape[2:]) >= side_px and weight.shape[0] * weight.shape[1] >= channels**2


def upsample(x_BCHW: Tensor, kernel_IOHW: Tensor) -> Tensor:
    """`F.conv_transpose2d` with a 4x4 kernel at stride 2 with padding 1; differentiable as `conv3x3`."""
    if is_kept(x_BCHW, kernel_IOHW):
        kept_BCHW: Tensor = _KeptUp.apply(x_BCHW, kernel_IOHW)  # type: ignore[no-untyped-call]
        return kept_BCHW
    if not is_fast_up(x_BCHW, kernel_IOHW):
        return F.conv_transpose2d(x_BCHW, kernel_IOHW, stride=2, padding=1)
    y_BCHW: Tensor = _WinogradUp.apply(x_BCHW, kernel_IOHW)  # type: ignore[no-untyped-call]
    return y_BCHW


def is_kept(x_BCHW: Tensor, weight: Tensor, bias_O: Tensor | None = None) -> bool:
    """Whether the kernel is kept in oneDNN's order: as `is_fast`, for the smallest pictures."""
    return (
        _may_be_fast(x_BCHW, weight, bias_O)
        and max(x_BCHW.shape[2:]) <= MOST_KEPT_PX
        and _is_large(x_BCHW, weight, 1, MIN_CHANNELS_KEPT)
        and kept.is_available()
    )


def is_fast_up(x_BCHW: Tensor, kernel_IOHW: Tensor) -> bool:
    """As `is_fast`, of up-sampling."""
    return (
        _may_be_fast(x_BCHW, kernel_IOHW)
        and _has_tiles(x_BCHW)
        and _is_large(x_BCHW, kernel_IOHW, MIN_SIDE_OF_PRODUCTS_PX, MIN_CHANNELS_UP)
        and upsampling_pays()
    )


@functools.cache
def winograd_pays(*, is_small: bool = False) -> bool:
    """Whether NNPACK's form is faster than torch's own kernels here; for small pictures that may be otherwise."""
    if not torch.backends.nnpack.is_available():  # this also wakes it up: it works only after it was asked
        return False
    channels, side_px = (64, 32) if is_small else (128, 64)
    x_BCHW, weight_OIHW = torch.ones(1, channels, side_px, side_px), torch.ones(channels, channels, 3, 3)
    return _pays(
        lambda: _convolved(x_BCHW, weight_OIHW, None),
        lambda: F.conv2d(x_BCHW, weight_OIHW, padding=1),
    )


@functools.cache
def products_pay() -> bool:
    """Whether the form of our own is faster than what else there is for the many channels that it is for."""
    if not kept.is_available():
        return False
    x_BCHW, weight_OIHW = torch.ones(1, 512, 32, 32), torch.ones(512, 512, 3, 3)
    has_form = winograd_pays()
    return _pays(
        lambda: winograd.convolve(x_BCHW, weight_OIHW),
        lambda: _convolved(x_BCHW, weight_OIHW, None) if has_form else F.conv2d(x_BCHW, weight_OIHW, padding=1),
    )


@functools.cache
def upsampling_pays() -> bool:
    """The same of its transposed convolutions."""
    if not kept.is_available():
        return False
    x_BCHW, kernel_IOHW = torch.ones(1, 256, 32, 32), torch.ones(256, 256, 4, 4)
    return _pays(
        lambda: winograd.upsample(x_BCHW, kernel_IOHW),
        lambda: F.conv_transpose2d(x_BCHW, kernel_IOHW, stride=2, padding=1),
    )


@torch.no_grad()
def _pays(ours: Callable[[], Tensor], other: Callable[[], Tensor]) -> bool:
    ways = ours, other
    times_s: tuple[list[float], list[float]] = [], []
    for round_ in range(TRIES + 1):
        for way, times in zip(ways, times_s, strict=True):
            began_s = time.perf_counter()
            way()
            if round_:  # the first one plans, and makes the kernel's form
                times.append(time.perf_counter() - began_s)
    return min(times_s[0]) < PAYS * min(times_s[1])


class _Winograd(torch.autograd.Function):
    """The convolution, and its transpose as the backward pass: that is one of the same kind."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.weight_OIHW, ctx.as_products = weight_OIHW, as_products(x_BCHW, weight_OIHW)
        if not ctx.as_products:
            return _convolved(x_BCHW, weight_OIHW, bias_O)
        y_BCHW = winograd.convolve(x_BCHW, weight_OIHW)
        return y_BCHW if bias_O is None else y_BCHW.add_(bias_O[:, None, None])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if ctx.as_products:
            return winograd.convolve_back(grads[0], ctx.weight_OIHW), None, None
        return conv3x3(grads[0], turned(ctx.weight_OIHW)), None, None


class _Kept(torch.autograd.Function):
    """Results are turned back: few pixels are soon copied, and what follows need not lie channels-last."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.weight_OIHW = weight_OIHW
        return _kept(x_BCHW, weight_OIHW, padding=1)(x_BCHW, bias_O).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _kept(grads[0], turned(ctx.weight_OIHW), padding=1)(grads[0]).contiguous(), None, None


class _KeptUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, kernel_IOHW: Tensor) -> Tensor:
        ctx.kernel_IOHW = kernel_IOHW
        return _kept(x_BCHW, kernel_IOHW, padding=1, stride=2, is_transposed=True)(x_BCHW).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _kept(grads[0], ctx.kernel_IOHW, padding=1, stride=2)(grads[0]).contiguous(), None


def _kept(x_BCHW: Tensor, weight: Tensor, **how: Any) -> KeptConvolution:
    size = tuple(x_BCHW.shape[2:])
    return once(weight, (size, *how.items()), lambda weight: KeptConvolution(weight, size, **how))


class _WinogradUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, kernel_IOHW: Tensor) -> Tensor:
        ctx.kernel_IOHW = kernel_IOHW
        return winograd.upsample(x_BCHW, kernel_IOHW)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return winograd.upsample_back(grads[0], ctx.kernel_IOHW), None


def _convolved(x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None) -> Tensor:
    """Image by image: NNPACK has a better plan for one. So neighbours do not even change an image's rounding."""
    if bias_O is None:
        bias_O = weight_OIHW.new_zeros(len(weight_OIHW))
    rows = [torch._nnpack_spatial_convolution(x_1CHW, weight_OIHW, bias_O, 1, 1) for x_1CHW in x_BCHW.split(1)]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def turned(weight_OIHW: Tensor) -> Tensor:
    """The kernel of the transposed convolution; made once, and anew when the weight was changed in place."""
    return once(weight_OIHW, "turned", lambda weight_OIHW: weight_OIHW.transpose(0, 1).flip(2, 3).contiguous())
