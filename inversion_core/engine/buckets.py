"""Batch sizes: few of them where each costs a compilation or a graph, any of them where it does not."""

from __future__ import annotations

from collections.abc import Sequence

from inversion_core.engine.capacity import image_bytes
from inversion_core.packs import Pack

CPU_PART_BYTES = 400_000_000
"""What the images of one part keep for the backward pass on a CPU, at most. Small pictures are faster together; of
large ones each is a part of its own, for what has to be fetched from memory, page by page, costs more than is shared.
At 256 px (304 MB an image) 8 together took 27 s, in twos 15 and each alone 12
(docs/experiments/2026-11-23-parts-of-a-batch.md)."""


def default_buckets(slots: int, pack: Pack) -> tuple[int, ...]:
    """Sizes of what is computed at once, ascending. What is more than the largest is computed in parts.

    A CPU runs every size as it is, for filling up would only cost, as long as CPU_PART_BYTES hold it. On CUDA each size
    has kernels to choose and a graph to record: powers of two, and from 8 on also the ones half way, so that no more
    than a third is filling; the largest is at least `slots`.
    """
    if pack.device.type != "cuda":
        return tuple(range(1, max(1, min(slots, CPU_PART_BYTES // image_bytes(pack))) + 1))
    sizes, size = [1, 2, 4, 8], 8
    while sizes[-1] < slots:
        sizes += [size * 3 // 2, size * 2]
        size *= 2
    return tuple(sizes[: next(i for i, s in enumerate(sizes) if s >= slots) + 1])


def bucket_for(count: int, buckets: Sequence[int]) -> int:
    """The smallest size that holds `count` rows; the largest, where none does."""
    return next((size for size in buckets if size >= count), buckets[-1])
