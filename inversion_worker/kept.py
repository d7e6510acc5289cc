"""Values that are kept in memory for a moment, because the next question is likely to need them again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

T = TypeVar("T")


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the value is made: whoever else wants it waits for it."""
    value: Any = None
    size: int = 0
    is_made: bool = False
    until_s: float = 0.0


class Kept:
    """Values by key, of so many bytes in all, each for a while after its last use. Any thread may call."""

    def __init__(self, most_bytes: int, for_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """What is larger than `most_bytes` alone is made, and not kept."""
        self._most_bytes = most_bytes
        self._for_s = for_s
        self._now = now
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """The value of `key`; where there is none, `make` is called for it and its size in bytes.

        Raises: what `make` raises; then nothing is kept.
        """
        with self._lock:
            self._drop_old()
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            entry.until_s = self._now() + self._for_s
            if entry.is_made:
                return cast(T, entry.value)
        with entry.lock:
            if not entry.is_made:
                try:
                    entry.value, entry.size = make()
                except BaseException:
                    with self._lock:
                        if self._entries.get(key) is entry:
                            del self._entries[key]
                    raise
                entry.is_made = True
            value: T = entry.value
        with self._lock:
            self._drop_many()
            self._set_timer()
        return value

    @property
    def bytes(self) -> int:
        """Size of all that is kept."""
        with self._lock:
            self._drop_old()
            return self._size()

    def _size(self) -> int:
        return sum(entry.size for entry in self._entries.values())

    def _drop_old(self) -> None:
        now = self._now()
        for key in [key for key, entry in self._entries.items() if entry.is_made and entry.until_s <= now]:
            del self._entries[key]

    def _drop_many(self) -> None:
        """Until the rest is within the bound, those first that were used longest ago."""
        size = self._size()
        for key in list(self._entries):
            if size <= self._most_bytes:
                return
            if self._entries[key].is_made:
                size -= self._entries.pop(key).size

    def _set_timer(self) -> None:
        """What nobody asks for any more goes too."""
        if self._timer is None and self._entries:
            self._timer = threading.Timer(self._for_s, self._tick)
            self._timer.daemon = True
            self._timer.start()

    def _tick(self) -> None:
        with self._lock:
            self._timer = None
            self._drop_old()
            self._set_timer()
