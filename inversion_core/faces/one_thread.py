"""A thread in which torch computes with one CPU thread, whatever the rest of the process has it do.

With more threads torch's libraries add the same numbers in another order, and an engine beside the detector changes
their number as it goes: one photo would be aligned in two ways, and optimizers with long steps make two codes of that.
torch keeps the number for each thread apart, so a thread of its own settles it for the detector and disturbs nobody.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def on_one_thread(run: Callable[P, T]) -> Callable[P, T]:
    """A function that waits while that thread runs `run`: to the same bits always, one call after the other."""

    @functools.wraps(run)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        return _thread().submit(run, *args, **kwargs).result()

    return waiting


@functools.cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="faces", initializer=keep_to_one)


def keep_to_one() -> None:
    """Let torch compute with one CPU thread in the thread that calls this, and leave all others as they are."""
    default = torch.get_num_threads()
    torch.set_num_threads(1)  # for this thread, and as the default of all that begin later
    restorer = threading.Thread(target=torch.set_num_threads, args=(default,))
    restorer.start()
    restorer.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_thread.cache_clear)  # a forked child has no thread but its own
