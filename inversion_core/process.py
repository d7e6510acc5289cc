"""What this process's libraries do with idle threads and freed memory: said when the package is imported.

Torch computes with libgomp's threads, and NNPACK's convolutions (models/convolution.py) with a pool of their own. After
each operation libgomp's threads wait awake for the next one, for some milliseconds, and take the cores that the other
pool, or another process, would compute with: a step at 256 px took a fifth longer for it
(docs/experiments/2026-11-28-engine-thread-speed.md). So they wait a
tenth of a millisecond. But where two threads have computed, as a main thread that loads a pack and an engine's do,
libgomp counts more threads than cores, and lets them sleep at once; waking them after each operation made a small
pack's step half as long again. That is another number, which hangs on a policy. libgomp reads both when torch loads it,
so import this package before torch where speed matters.

What a step frees, the next one asks for again. glibc gives it back to the system in between, and the system hands it
out page by page, each made zero first: a tenth of a step, in some processes and not in others. So it is kept, up to
KEPT_BYTES, in one heap for all threads: those of other threads are given back by another rule, which nobody can set.

What the environment says of any of it stands.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, MutableMapping

WAITING = {
    # Rounds that an idle thread waits awake; libgomp's own number is 300,000.
    "GOMP_SPINCOUNT": "10000",
    # With it 1,000 rounds where threads are more than cores, without it 100.
    "OMP_WAIT_POLICY": "active",
}
KEPT_BYTES = 512 * 2**20
"""Free memory at the end of the heap that stays this process's."""
LARGEST_ON_HEAP_BYTES = 32 * 2**20
"""What is larger is asked of the system each time; glibc takes no larger number."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h


def prepare(environment: MutableMapping[str, str]) -> None:
    """Say in `environment` how threads wait, unless it says something of that."""
    if not WAITING.keys() & environment.keys():
        environment.update(WAITING)


def keep_memory(environment: Mapping[str, str]) -> bool:
    """Have freed memory kept, where the C library is glibc and `environment` says nothing of it; whether it is."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    is_spoken_of = "malloc" in tunables or any(name.startswith("MALLOC_") for name in environment)
    if is_spoken_of or (mallopt := _mallopt()) is None:
        return False
    said = (M_TRIM_THRESHOLD, KEPT_BYTES), (M_MMAP_THRESHOLD, LARGEST_ON_HEAP_BYTES), (M_ARENA_MAX, 1)
    return all(mallopt(*each) for each in said)


def _mallopt() -> ctypes._NamedFuncPointer | None:
    """glibc's mallopt; other C libraries may have one of another meaning, or none."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library.mallopt if hasattr(library, "gnu_get_libc_version") else None


if "torch" not in sys.modules:
    prepare(os.environ)
keep_memory(os.environ)
