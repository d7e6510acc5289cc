"""The line of those who wait for a place: first come, first served, with priorities that age."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class WaitingLine(Generic[T]):
    """One step of priority is like having come `aging_s` earlier, so nobody waits for ever behind more urgent ones.

    All age alike, so the order of two never changes: a heap will do. Not safe for threads.
    """

    def __init__(self, aging_s: float) -> None:
        self._aging_s = aging_s
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: T, *, priority: int, now_s: float) -> None:
        self._count += 1  # of equals the first to come; items are never compared
        heapq.heappush(self._heap, (now_s - priority * self._aging_s, self._count, item))

    def take(self) -> T:
        """The next in line. Raises: IndexError when nobody waits."""
        return heapq.heappop(self._heap)[2]

    def remove_where(self, condition: Callable[[T], bool]) -> list[T]:
        """Take all out for whom it holds."""
        removed = [item for _, _, item in self._heap if condition(item)]
        if removed:
            self._heap = [entry for entry in self._heap if not condition(entry[2])]
            heapq.heapify(self._heap)
        return removed
