"""Runs many inversions at once on one device. Start here.

    with Engine() as engine:
        for step in engine.submit(Request(pack=pack, target_CHW=target_CHW)):
            print(step.index, step.loss)

Requests share one batch: they join and leave between two iterations (continuous batching, as servers of language
models do it; Yu 2022, "Orca"), and each gets the Steps that `invert` would give it alone. One thread owns the device.
"""

from __future__ import annotations

import logging
from threading import Condition, Thread
from types import TracebackType
from typing import Self

from inversion_core.engine.admission import check_in
from inversion_core.engine.core import Core, EngineConfig
from inversion_core.engine.request import Request
from inversion_core.engine.ticket import Ticket
from inversion_core.errors import EngineClosed, EngineFull

log = logging.getLogger(__name__)


class Engine:
    """Runs requests in one batch. Thread-safe. Call `close`, or use it as a context manager."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self._config = config or EngineConfig()
        self._core = Core(self._config)
        self._changed = Condition()
        self._open: list[Ticket] = []
        self._is_woken = False
        self._is_closed = False
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def slots(self) -> int:
        """How many requests run at the same time."""
        return self._config.slots

    def submit(self, request: Request) -> Ticket:
        """Queue a request; iterate over the ticket for its Steps.

        Raises:
            EngineFull: too many requests are queued; try again later.
            EngineClosed: the engine was closed.
            OptionInvalid: the pack cannot do what is asked for.
        """
        ticket = Ticket(depth=self._config.steps_ahead, wake=self._wake)
        entry = check_in(request, ticket)
        with self._changed:
            if self._is_closed:
                raise EngineClosed("The engine is closed. Submit to another one.")
            self._open = [other for other in self._open if not other.is_ended]
            if len(self._open) >= self._config.slots + self._config.max_waiting:
                raise EngineFull(f"{len(self._open)} inversions run or wait, the most that may. Try again later.")
            self._open.append(ticket)
            self._core.waiting.add(entry, priority=request.priority, now_s=self._config.clock())
        self._wake()
        return ticket

    def close(self) -> None:
        """Stop after the current iteration. Unfinished requests raise EngineClosed."""
        with self._changed:
            self._is_closed = True
        self._wake()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wake(self) -> None:
        with self._changed:
            self._is_woken = True
            self._changed.notify()

    def _run(self) -> None:
        try:
            while self._next():
                pass
        except Exception as error:  # a fault of ours: nobody may wait for ever
            log.exception("the engine failed")
            self._end_all(error)
        else:
            self._end_all(EngineClosed("The engine was closed before this inversion ended."))

    def _next(self) -> bool:
        """One iteration, and a wait where there was nothing to do; False when it is time to stop."""
        with self._changed:
            if self._is_closed:
                return False
            self._is_woken = False
            arrivals = self._core.pick()
        if not self._core.tick(arrivals):
            with self._changed:
                self._changed.wait_for(lambda: self._is_woken or (self._core.waiting and self._core.free > 0))
        return True

    def _end_all(self, error: Exception) -> None:
        with self._changed:
            self._is_closed = True
            left = [*self._core.running, *self._core.waiting.remove_where(lambda _: True)]
        for item in left:
            item.ticket.end(None, error)
