"""Keeps the leases of this process alive while its jobs compute, and lets go of them when it stops."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock

from inversion_worker.errors import LeaseLost
from inversion_worker.store import JobStore
from inversion_worker.transitions import Lease

log = logging.getLogger(__name__)


class LeaseKeeper:
    """A Step may take longer than a lease lasts, so leases are renewed from a thread of their own.

    When the process stops, a job hands itself back at its next Step. `tick` does it for those whose
    Step has not come a tick later.
    """

    def __init__(self, store: JobStore, stopping: Event) -> None:
        self._store = store
        self._stopping = stopping
        self._lock = Lock()
        self._leases: set[Lease] = set()
        self._ticks_left = 1

    @contextmanager
    def keeping(self, lease: Lease) -> Iterator[None]:
        """Renew `lease` for as long as the block lasts."""
        with self._lock:
            self._leases.add(lease)
        try:
            yield
        finally:
            with self._lock:
                self._leases.discard(lease)

    def tick(self) -> None:
        """Renew every lease, or hand every job back; call it about once a second."""
        with self._lock:
            leases = list(self._leases)
        late = self._stopping.is_set() and self._ticks_left == 0
        if self._stopping.is_set() and self._ticks_left:
            self._ticks_left -= 1
        for lease in leases:
            with suppress(LeaseLost):  # the job's own thread finds that out
                if late:
                    self._store.hand_back(lease)
                    log.info("handed back within a step job=%s", lease.job_id)
                else:
                    self._store.update(lease)
