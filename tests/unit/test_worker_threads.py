"""The threads beside the jobs: leases kept, work repeated."""

from __future__ import annotations

import logging
import signal
import time
from threading import Event, Lock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from inversion_worker.bootstrap import _take_once
from inversion_worker.errors import LeaseLost
from inversion_worker.leases import LeaseKeeper
from inversion_worker.periodic import Periodic
from inversion_worker.transitions import Lease

pytestmark = pytest.mark.unit


class Leases:
    """The part of a JobStore that the keeper uses."""

    def __init__(self, lost: Lease | None = None) -> None:
        self.calls: list[tuple[str, Lease]] = []
        self._lost = lost

    def update(self, lease: Lease) -> bool:
        return self._note("update", lease)

    def hand_back(self, lease: Lease) -> None:
        self._note("hand_back", lease)

    def _note(self, what: str, lease: Lease) -> bool:
        if lease == self._lost:
            raise LeaseLost(lease.job_id)
        self.calls.append((what, lease))
        return False


def test_leases_are_renewed_for_as_long_as_they_are_held() -> None:
    one, two = Lease("one", 1), Lease("two", 5)
    store = Leases(lost=two)
    keeper = LeaseKeeper(store, Event())  # type: ignore[arg-type]
    keeper.tick()
    with keeper.keeping(two), keeper.keeping(one):  # a lost one keeps nobody from the others
        keeper.tick()
        keeper.tick()
    keeper.tick()
    assert store.calls == [("update", one)] * 2


def test_a_stopping_process_hands_back_what_does_not_hand_itself_back() -> None:
    store, stopping, lease = Leases(), Event(), Lease("one", 1)
    keeper = LeaseKeeper(store, stopping)  # type: ignore[arg-type]
    with keeper.keeping(lease):
        stopping.set()
        keeper.tick()
        keeper.tick()
    assert store.calls == [("update", lease), ("hand_back", lease)]


@pytest.mark.parametrize(
    ("error", "level"), [(ValueError("bug"), logging.ERROR), (RedisConnectionError("away"), logging.WARNING)]
)
def test_periodic_work_goes_on_after_an_error(caplog: pytest.LogCaptureFixture, error: Exception, level: int) -> None:
    third = Event()
    turns: list[int] = []

    def work() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise error
        if len(turns) == 3:
            third.set()

    thread = Periodic("test", 0.01, work)
    thread.stop()  # before it has started: harmless
    thread = Periodic("test", 0.01, work)
    thread.start()
    assert third.wait(5)
    thread.stop()
    after = len(turns)
    time.sleep(0.05)
    assert len(turns) == after
    assert [record.levelno for record in caplog.records] == [level]


def test_a_signal_within_the_handling_of_the_first_is_not_handled() -> None:
    """Celery's handler holds a lock that is not re-entrant while it runs."""
    lock, handled = Lock(), []

    def handler(number: int, _: object) -> None:
        assert lock.acquire(timeout=1), "a second signal came into the first"
        signal.raise_signal(signal.Signals(number))
        handled.append(number)
        lock.release()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        _take_once(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]
