"""Building a network for the shapes of its weights alone, on torch's meta device: in no memory and little time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FILLS = (
    Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_, Tensor.copy_,
    nn.init.normal_, nn.init.uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_,
)  # fmt: skip
"""What writes numbers into a tensor and returns it; there is nothing to be written."""
QUOTIENTS = (Tensor.div, Tensor.true_divide, Tensor.__truediv__)


class _NoNumbers(TorchFunctionMode):
    """Answers the operations of constructors that need no numbers.

    torch has Python code for some of them on the meta device, and that imports torch._dynamo: more than a second, in
    each process that loads a pack. What is not known here is left to torch: right too, if slower.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in FILLS:
            return args[0] if args else kwargs["tensor"]  # nn.init hands its own on by name
        if func in QUOTIENTS and not isinstance(args[1], Tensor):
            return torch.empty_like(args[0])
        if func is torch.outer:
            return torch.empty(len(args[0]), len(args[1]), dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Whatever is built inside has shapes and no numbers."""
    with torch.device("meta"), _NoNumbers():
        yield
