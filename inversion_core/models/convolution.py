"""3x3 convolutions with frozen weights, by Winograd's algorithm where that is faster.

There are two forms of it. F(6x6, 3x3) makes 36 outputs of 64 products where the definition takes 324 (Lavin and Gray
2016, "Fast algorithms for convolutional neural networks"); torch carries it for CPUs (NNPACK) and uses it for phones
alone, and its own CPU kernels (oneDNN) know none of it. It turns the kernel into its form each time, which with many
channels is most of the work; there F(4x4, 3x3) of our own is faster (winograd.py), which keeps the kernel's form.

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
from torch.utils.weak import WeakIdKeyDictionary

from inversion_core.models import winograd

MIN_SIDE_PX = 32
"""Below, turning the kernel into Winograd's form costs more than it saves."""
SMALL_PX = 64
"""Below, it depends on the threads too: torch's own share such a picture better among them."""
MIN_CHANNELS = 48
"""Geometric mean of input and output channels below which tiles cost more to take apart than they save."""
MIN_SIDE_OF_PRODUCTS_PX = 16
MIN_CHANNELS_OF_PRODUCTS = 360
"""The same for the form of our own: 256 to 512 channels are enough, 256 to 256 are not."""
PAYS = 0.9
"""A form is used when its convolution takes no more than this part of the time of what it stands in for."""
TRIES = 4
"""Convolutions of each kind that are timed; the fastest counts, so that a busy machine does not decide."""

_asked = threading.local()
_turned: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""Weight -> its version, and the kernel of the backward pass."""


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
    if not getattr(_asked, "is_on", False):
        return False
    return (
        weight_OIHW.device.type == "cpu"
        and x_BCHW.dtype == weight_OIHW.dtype == torch.float32
        and not weight_OIHW.requires_grad
        and (bias_O is None or not bias_O.requires_grad)
        and not torch.is_autocast_enabled("cpu")
        and (
            as_products(x_BCHW, weight_OIHW)
            or (
                _is_large(x_BCHW, weight_OIHW, MIN_SIDE_PX, MIN_CHANNELS)
                and winograd_pays(is_small=min(x_BCHW.shape[2:]) < SMALL_PX)
            )
        )
    )


def as_products(x_BCHW: Tensor, weight_OIHW: Tensor) -> bool:
    """Whether the form of our own is the faster one of the two."""
    fits = all(side % winograd.TILE_PX == 0 for side in x_BCHW.shape[2:])
    return fits and _is_large(x_BCHW, weight_OIHW, MIN_SIDE_OF_PRODUCTS_PX, MIN_CHANNELS_OF_PRODUCTS) and products_pay()


def _is_large(x_BCHW: Tensor, weight_OIHW: Tensor, side_px: int, channels: int) -> bool:
    out_channels, in_channels = weight_OIHW.shape[:2]
    return min(x_BCHW.shape[2:]) >= side_px and out_channels * in_channels >= channels**2


@functools.cache
def winograd_pays(*, is_small: bool = False) -> bool:
    """Whether NNPACK's form is faster than torch's own kernels here; for small pictures that may be otherwise."""
    if not torch.backends.nnpack.is_available():  # this also wakes it up: it works only after it was asked
        return False
    channels, side_px = (64, 32) if is_small else (128, 64)
    x_BCHW, weight_OIHW = torch.ones(1, channels, side_px, side_px), torch.ones(channels, channels, 3, 3)
    own_s = _fastest_s(lambda: F.conv2d(x_BCHW, weight_OIHW, padding=1))
    return _fastest_s(lambda: _convolved(x_BCHW, weight_OIHW, None)) < PAYS * own_s


@functools.cache
def products_pay() -> bool:
    """Whether the form of our own is faster than what else there is for the many channels that it is for."""
    x_BCHW, weight_OIHW = torch.ones(1, 512, 32, 32), torch.ones(512, 512, 3, 3)
    has_form = winograd_pays()
    other_s = _fastest_s(
        lambda: _convolved(x_BCHW, weight_OIHW, None) if has_form else F.conv2d(x_BCHW, weight_OIHW, padding=1)
    )
    return _fastest_s(lambda: _each(winograd.convolve, x_BCHW, weight_OIHW)) < PAYS * other_s


@torch.no_grad()
def _fastest_s(convolve: Callable[[], Tensor]) -> float:
    convolve()  # the first one plans, and makes the kernel's form
    times_s = []
    for _ in range(TRIES):
        began_s = time.perf_counter()
        convolve()
        times_s.append(time.perf_counter() - began_s)
    return min(times_s)


class _Winograd(torch.autograd.Function):
    """The convolution, and its transpose as the backward pass: that is one of the same kind."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.weight_OIHW, ctx.as_products = weight_OIHW, as_products(x_BCHW, weight_OIHW)
        if not ctx.as_products:
            return _convolved(x_BCHW, weight_OIHW, bias_O)
        y_BCHW = _each(winograd.convolve, x_BCHW, weight_OIHW)
        return y_BCHW if bias_O is None else y_BCHW.add_(bias_O[:, None, None])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if ctx.as_products:
            return _each(winograd.convolve_back, grads[0], ctx.weight_OIHW), None, None
        return conv3x3(grads[0], turned(ctx.weight_OIHW)), None, None


def _each(convolve: Callable[[Tensor, Tensor], Tensor], x_BCHW: Tensor, weight_OIHW: Tensor) -> Tensor:
    """Image by image, so that neighbours do not even change an image's rounding."""
    return torch.stack([convolve(x_CHW, weight_OIHW) for x_CHW in x_BCHW])


def _convolved(x_BCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None) -> Tensor:
    """Image by image: NNPACK has a better plan for one. So neighbours do not even change an image's rounding."""
    if bias_O is None:
        bias_O = weight_OIHW.new_zeros(len(weight_OIHW))
    rows = [torch._nnpack_spatial_convolution(x_1CHW, weight_OIHW, bias_O, 1, 1) for x_1CHW in x_BCHW.split(1)]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def turned(weight_OIHW: Tensor) -> Tensor:
    """The kernel of the transposed convolution; made once, and anew when the weight was changed in place."""
    known = _turned.get(weight_OIHW)
    if known is None or known[0] != weight_OIHW._version:
        known = weight_OIHW._version, weight_OIHW.detach().transpose(0, 1).flip(2, 3).contiguous()
        _turned[weight_OIHW] = known
    kernel_OIHW: Tensor = known[1]
    return kernel_OIHW
