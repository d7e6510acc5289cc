"""How frozen networks compute while they serve: fast, and each image to the same bits, whoever is beside it.

An image's numbers must not depend on its neighbours. In exact arithmetic they do not; but a library chooses by the size
of a batch in which order it adds, and an optimizer with long steps makes the second digit of a code out of a seventh
one within twenty steps
(docs/experiments/2026-11-28-batch-invariance.md). So on a CPU what rounds a batch otherwise than one image is computed
image by image. Most operations do not: each is tried once for each shape.

`invert`, the reference, asks for none of it. On CUDA there is none of it either: there the batch's size decides.

Suffixes: B image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

_asked = threading.local()
_is_alike: dict[Hashable, bool] = {}
"""Operation, threads, shapes and strides -> whether a batch of these is rounded as its images alone are."""


@contextmanager
def serving() -> Iterator[None]:
    """Within it, frozen networks of this thread compute so; forward and backward pass both belong in it."""
    before = getattr(_asked, "is_on", False)
    _asked.is_on = True
    try:
        yield
    finally:
        _asked.is_on = before


def is_serving(x_B: Tensor, *weights: Tensor | None) -> bool:
    """Whether it is asked for and can be had: frozen weights, float32, on a CPU."""
    return (
        getattr(_asked, "is_on", False)
        and x_B.device.type == "cpu"
        and x_B.dtype == torch.float32
        and all(w is None or (w.dtype == torch.float32 and not w.requires_grad) for w in weights)
        and not torch.is_autocast_enabled("cpu")
    )


def by_image(run: Callable[..., Tensor], *x_B: Tensor) -> Tensor:
    """What `run` makes of each image of these, side by side."""
    if len(x_B[0]) == 1:
        return run(*x_B)
    return torch.cat([run(*row) for row in zip(*(each_B.split(1) for each_B in x_B), strict=True)])


def alike(run: Callable[..., Tensor], key: Hashable, *x_B: Tensor) -> Tensor:
    """The same, in one go where that rounds alike; `key` tells this `run` from others. No graph in what is tried."""
    if len(x_B[0]) == 1:
        return run(*x_B)
    key = key, torch.get_num_threads(), *((each_B.shape, each_B.stride()) for each_B in x_B)
    if key not in _is_alike:
        _is_alike[key] = _tried(run, x_B)
    return run(*x_B) if _is_alike[key] else by_image(run, *x_B)


def linear(x_B: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """`F.linear`; while serving each image to the same bits."""

    def run(x_B: Tensor) -> Tensor:
        return F.linear(x_B, weight_OI, bias_O)

    if not is_serving(x_B, weight_OI, bias_O):
        return run(x_B)
    if x_B.requires_grad and torch.is_grad_enabled():  # then its gradient counts too, which no trial has seen
        return by_image(run, x_B)
    return alike(run, ("linear", weight_OI.shape, bias_O is None), x_B)


@torch.no_grad()
def _tried(run: Callable[..., Tensor], like_B: Sequence[Tensor]) -> bool:
    """On batches of one image many times: an order of adding shows in any numbers."""
    draw = torch.Generator().manual_seed(0)
    many_B = [torch.empty_like(each_B).copy_(torch.randn(each_B[:1].shape, generator=draw)) for each_B in like_B]
    alone, together_B = run(*(each_B[:1] for each_B in many_B)), run(*many_B)
    return torch.equal(together_B, alone.expand_as(together_B))
