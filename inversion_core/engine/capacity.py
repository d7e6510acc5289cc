"""How many images fit on a device at once, from what one of them keeps for its gradient.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from inversion_core.loss import InversionLoss
from inversion_core.packs import Pack

MEMORY_PART = 0.6
"""Part of the free memory that batches may take."""
PASSING = 1.5
"""What an image takes at most, as a multiple of what it keeps: a layer's own scratch space comes on top."""
MOST_ON_CUDA = 128
PER_CPU_THREAD = 4
"""Slots for each CPU thread: a batch of small pictures fills the caches better, and more would only wait longer."""
CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Where a container's memory limit and what it uses are told below /sys/fs/cgroup: of version 2, and of version 1."""
_counted: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Generator -> what `image_bytes` counted, for as long as the generator is in use."""


def default_slots(packs: Iterable[Pack], device: torch.device) -> int:
    """Slots that the hungriest of the packs has memory for, at least 1; on a CPU, PER_CPU_THREAD at most."""
    most = MOST_ON_CUDA if device.type == "cuda" else PER_CPU_THREAD * cpu_threads()
    need_bytes = max(image_bytes(pack) for pack in packs) * PASSING
    return max(1, min(most, int(free_bytes(device) * MEMORY_PART / need_bytes)))


def image_bytes(pack: Pack) -> int:
    """Bytes that one image's step keeps for its backward pass, counted in one forward pass; without the weights."""
    if pack.generator not in _counted:
        _counted[pack.generator] = _count_image_bytes(pack)
    return _counted[pack.generator]


def _count_image_bytes(pack: Pack) -> int:
    kept: dict[int, int] = {}
    weights = {tensor.untyped_storage().data_ptr() for tensor in _weights(pack)}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        w_BLD = pack.mean_codes().requires_grad_()
        image_BCHW = pack.synthesize(w_BLD)
        loss = InversionLoss(image_BCHW.detach(), features=pack.features)
        total_B = loss(image_BCHW)  # kept alive: memory that is freed would be counted twice, under one address
    del total_B
    return max(1, sum(kept.values()))


def free_bytes(device: torch.device) -> int:
    """Memory that nobody uses; of the host the smaller of what the kernel and the container's limit leave."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        if line.startswith("MemAvailable:"):
            free = [int(line.split()[1]) * 1024]
    free += free_in_container(Path("/sys/fs/cgroup"))
    return max(0, min(free))


def free_in_container(folder: Path) -> list[int]:
    """What the container's limit leaves; nothing where there is none."""
    for limit_name, used_name in CGROUPS:
        if (folder / limit_name).exists() and (limit := (folder / limit_name).read_text().strip()) != "max":
            return [int(limit) - int((folder / used_name).read_text())]
    return []


def cpu_threads() -> int:
    """CPUs that this process may use, but no more than torch was told to."""
    return min(torch.get_num_threads(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 64)


def thread_counts(device: torch.device) -> tuple[int, ...]:
    """What an engine may choose from: all CPUs, half of them, or one. None on CUDA: torch's own number stays."""
    if device.type == "cuda":
        return ()
    most = cpu_threads()
    return tuple(dict.fromkeys((most, max(1, most // 2), 1)))


def _weights(pack: Pack) -> Iterable[Tensor]:
    for network in (pack.generator, pack.perceptual):
        yield from network.parameters()
        yield from network.buffers()
