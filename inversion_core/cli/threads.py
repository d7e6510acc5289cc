"""How many CPU threads a command computes with, where no engine finds that out step by step.

Beside other busy programs two threads that wait for each other are slower than one (four times, on two cores that
another program uses too), so the number is tried before the work begins. `OMP_NUM_THREADS` limits what is tried.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from inversion_core.engine.capacity import thread_counts
from inversion_core.errors import OptionInvalid
from inversion_core.packs.load import check_device

ROUNDS = 5
"""Trials of each number, in turns; the median counts."""


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The option for it."""
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: whatever is fastest)")


def use_threads(wanted: int | None, device: str) -> None:
    """Compute with `wanted` threads, or with the number that is fastest just now.

    Raises:
        OptionInvalid: fewer than one, or a device that torch does not have here.
    """
    check_device(device)
    if wanted is not None and wanted < 1:
        raise OptionInvalid(f"--threads is {wanted}; it must be at least 1")
    counts = [wanted] if wanted is not None else thread_counts(torch.device(device))
    if counts:
        torch.set_num_threads(counts[0] if len(counts) == 1 else fastest(counts, _some_convolutions, time.perf_counter))


def fastest(counts: Sequence[int], work: Callable[[], object], clock: Callable[[], float]) -> int:
    """The number of threads with the shortest median time of `work`; the smaller one where two are equal."""
    times_s: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(ROUNDS):
        for count, taken_s in times_s.items():
            torch.set_num_threads(count)
            work()  # wakes the threads up
            began_s = clock()
            work()
            taken_s.append(clock() - began_s)
    return min(counts, key=lambda count: (sorted(times_s[count])[ROUNDS // 2], count))


def _some_convolutions() -> None:
    """The kind of work that an inversion is."""
    picture_BCHW = torch.ones(1, 64, 64, 64)
    kernel_OCHW = torch.ones(64, 64, 3, 3)
    with torch.inference_mode():
        for _ in range(4):
            F.conv2d(picture_BCHW, kernel_OCHW, padding=1)
