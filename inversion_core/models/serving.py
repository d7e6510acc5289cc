"""How frozen networks compute while they serve: fast, and each image to the same bits, whoever is beside it.

An image's numbers must not depend on its neighbours. In exact arithmetic they do not; but a library chooses by the size
of a batch in which order it adds, and an optimizer with long steps makes the second digit of a code out of a seventh
one within twenty steps (docs/log.md). So on a CPU what rounds a batch otherwise than one image is computed image by
image. Most operations do not: each is tried once for each shape.

`invert`, the reference, asks for none of it. On CUDA there is none of it either: there the batch's size decides.

Suffixes: B image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_asked = threading.local()
_is_alike: dict[Hashable, bool] = {}
"""Operation, shapes, layout and threads -> whether a batch of these is rounded as its images alone are."""


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


def by_image(run: Callable[[Tensor], Tensor], x_B: Tensor) -> Tensor:
    """What `run` makes of each image, side by side."""
    return run(x_B) if len(x_B) == 1 else torch.cat([run(x_1) for x_1 in x_B.split(1)])


def alike(run: Callable[[Tensor], Tensor], x_B: Tensor, key: Hashable) -> Tensor:
    """The same, in one go where that rounds alike; `key` tells this `run` from others. No graph."""
    if len(x_B) == 1:
        return run(x_B)
    layout = x_B.is_contiguous(), x_B.dim() == 4 and x_B.is_contiguous(memory_format=torch.channels_last)
    key = key, x_B.shape, layout, torch.get_num_threads()
    if key not in _is_alike:
        _is_alike[key] = _tried(run, x_B)
    return run(x_B) if _is_alike[key] else by_image(run, x_B)


@torch.no_grad()
def _tried(run: Callable[[Tensor], Tensor], like_B: Tensor) -> bool:
    """On a batch of one image many times: an order of adding shows in any numbers."""
    one = torch.randn(like_B[:1].shape, generator=torch.Generator().manual_seed(0))
    many_B = torch.empty_like(like_B).copy_(one)
    alone, together_B = run(many_B[:1]), run(many_B)
    return torch.equal(together_B, alone.expand_as(together_B))
