"""What a worker counts about itself, and how it travels: beside each announcement, as one JSON value in Redis.

    inversion:meters:{worker}  a WorkerFigures, gone when the worker is
    inversion:totals           hash: submitted, succeeded, failed, canceled, and failed:{type}; since the beginning

The API's /metrics shows them. So a worker needs no port of its own, and may sit where nothing can reach it.
"""

from __future__ import annotations

import os
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TypeVar

from inversion_worker.contract import STEP_BUCKETS_S, WorkerFigures, WorkerInfo

T = TypeVar("T")


class Meters:
    """Counts of one process; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running = 0
        self._frames = 0
        self._answers: dict[str, tuple[int, float]] = {}
        self._step_seconds = 0.0
        self._steps_by_bucket = [0] * (len(STEP_BUCKETS_S) + 1)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a job as running while the block lasts."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def timed(self, steps: Iterable[T]) -> Iterator[T]:
        """The same steps; the time that each takes to come is counted, and what is done with it is not."""
        iterator = iter(steps)
        try:
            while True:
                began = time.perf_counter()
                try:
                    step = next(iterator)
                except StopIteration:
                    return
                self._count_step(time.perf_counter() - began)
                yield step
        finally:
            if close := getattr(iterator, "close", None):
                close()

    def _count_step(self, seconds: float) -> None:
        with self._lock:
            self._step_seconds += seconds
            self._steps_by_bucket[bisect_left(STEP_BUCKETS_S, seconds)] += 1

    def frame(self) -> None:
        """Count a frame."""
        with self._lock:
            self._frames += 1

    def answered(self, kind: str, seconds: float) -> None:
        """Count a short question, however it was answered."""
        with self._lock:
            count, total = self._answers.get(kind, (0, 0.0))
            self._answers[kind] = (count + 1, total + seconds)

    def figures(self, info: WorkerInfo) -> WorkerFigures:
        """All counts as they are now."""
        with self._lock:
            return WorkerFigures(
                worker=info.id,
                device=info.device,
                slots=info.slots,
                running=self._running,
                frames=self._frames,
                step_seconds=self._step_seconds,
                steps_by_bucket=list(self._steps_by_bucket),
                answers=dict(self._answers),
                process_memory_bytes=_process_memory_bytes(),
                device_memory_bytes=_device_memory_bytes(info.device),
            )


def _process_memory_bytes() -> int | None:
    """Resident memory; None where the system does not tell (/proc is Linux's)."""
    with suppress(OSError), open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _device_memory_bytes(device: str) -> int | None:
    """What Torch has taken of the GPU; None without one. Torch is not imported for it: a backend has, or needs none."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return int(torch.cuda.memory_reserved(device))
