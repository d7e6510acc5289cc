"""Batch sizes: few of them where each costs a compilation or a graph, any of them where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def default_buckets(slots: int, device: torch.device) -> tuple[int, ...]:
    """Sizes that batches on `device` are filled up to, the largest at least `slots`.

    A CPU runs every size as it is: filling up would only cost. On CUDA each size has kernels to choose and a graph to
    record: powers of two, and from 8 on also the ones half way, so that no more than a third is filling.
    """
    if device.type != "cuda":
        return tuple(range(1, slots + 1))
    sizes, size = [1, 2, 4, 8], 8
    while sizes[-1] < slots:
        sizes += [size * 3 // 2, size * 2]
        size *= 2
    return tuple(sizes[: next(i for i, s in enumerate(sizes) if s >= slots) + 1])


def bucket_for(count: int, buckets: Sequence[int]) -> int:
    """The smallest size that holds `count` rows; the largest, where none does."""
    return next((size for size in buckets if size >= count), buckets[-1])
