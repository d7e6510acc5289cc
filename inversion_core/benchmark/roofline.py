"""The step's own roofline: how long its operations take at the least, one after another as they are written.

Each operation has to do its products, and to read what it takes and write what it gives once: it takes at the least
the longer of the two, at the rates of the device (Williams, Waterman and Patterson 2009, "Roofline"). A step that
fuses operations may beat it; one that waits for launches, or turns layouts round, stays behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from inversion_core.benchmark.clock import seconds
from inversion_core.engine.precision import Precision, arithmetic

COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
"""Large beside every cache."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one operation does."""

    flops: int
    """Of matrix products and convolutions as they are defined, two for each product; 0 for all others."""
    bytes: int
    """Read and written, each tensor once."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a device does in a second at the most, measured on it."""

    flops_per_s: float
    """Of one large matrix product, in the precision of the step."""
    bytes_per_s: float
    """Read and written by one large copy."""


def least_seconds(works: Iterable[Work], rates: Rates) -> float:
    """The roofline: no operation is faster than the slower of its two limits."""
    return sum(max(work.flops / rates.flops_per_s, work.bytes / rates.bytes_per_s) for work in works)


def works_of(call: Callable[[], object]) -> list[Work]:
    """The operations of a call, backward passes in it included; views, which move nothing, left out."""
    counter = _Counter()
    with counter:
        call()
    return counter.works


def measured_rates(device: torch.device, precision: Precision = Precision.FLOAT32) -> Rates:
    """The fastest of eight tries each."""
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision is Precision.BFLOAT16 else torch.float32
    a = torch.randn(side, side, device=device).to(dtype)
    with arithmetic(precision, device):
        product_s = _fastest_s(lambda: a @ a, device)
    source = torch.zeros(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    copy = torch.empty_like(source)
    copy_s = _fastest_s(lambda: copy.copy_(source), device)
    return Rates(flops_per_s=2 * side**3 / product_s, bytes_per_s=2 * len(source) / copy_s)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.works: list[Work] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        read, written = _tensors((args, kwargs)), _tensors(out)
        known = {_place(tensor) for tensor in read}
        if func.is_view or not written or (not func._schema.is_mutable and all(_place(t) in known for t in written)):
            return out
        count = flop_registry.get(func._overloadpacket)
        flops = 0 if count is None else int(count(*args, **kwargs, out_val=out))
        self.works.append(Work(flops=flops, bytes=_bytes(read) + _bytes(written)))
        return out


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensors: Sequence[Tensor]) -> int:
    """Each once; of an expanded one only what there is of it."""
    sizes = {
        (_place(tensor), tensor.storage_offset(), tensor.shape): min(
            tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        )
        for tensor in tensors
    }
    return sum(sizes.values())


def _fastest_s(call: Callable[[], object], device: torch.device) -> float:
    call()
    return min(seconds(call, device) for _ in range(8))
