"""A thread that does something every so many seconds, come what may."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


class Periodic:
    """Calls `work` at once and then every `every_s` seconds until `stop`; an error is logged, not fatal."""

    def __init__(self, name: str, every_s: float, work: Callable[[], object]) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._stop = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ask the thread to end, and wait that long for it; harmless when it never started."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._work()
            except (RedisError, OperationalError) as error:  # the server is away: the next turn tries again
                log.warning("%s has to wait: %s", self._name, error)
            except Exception:
                log.exception("%s failed", self._name)
            self._stop.wait(self._every_s)
