"""Puts a worker process together: backend, store, Celery, and the threads beside them.

Order matters: packs are loaded and warmed up before the process takes a job or says that it is alive.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import uuid
import warnings
from collections.abc import Callable
from functools import partial
from signal import SIGTERM, Signals
from threading import Event
from types import FrameType
from typing import Any, Protocol

from celery import Celery, signals
from celery.platforms import SecurityWarning

from inversion_worker import broker, logs, tasks, tracing
from inversion_worker.answering import Answerer
from inversion_worker.answers import HANDLERS
from inversion_worker.artifacts import ArtifactStore
from inversion_worker.attempt import Context
from inversion_worker.backend import Backend
from inversion_worker.contract import WorkerInfo
from inversion_worker.errors import BackendUnavailable, StoreUnavailable
from inversion_worker.leases import LeaseKeeper
from inversion_worker.meters import Meters
from inversion_worker.periodic import Periodic
from inversion_worker.reaper import Reaper
from inversion_worker.runner import JobRunner
from inversion_worker.settings import WorkerSettings
from inversion_worker.store import JobStore

log = logging.getLogger(__name__)

LoadBackend = Callable[[WorkerSettings], Backend]
_CHATTY = ("celery.worker.strategy", "celery.app.trace", "celery.worker.consumer.connection")


def run(settings: WorkerSettings, load_backend: LoadBackend) -> int:
    """Work until SIGTERM or SIGINT; returns the exit status, 2 where there is nothing to run.

    Call it from the main thread.
    """
    _log_to_stderr(settings)
    tracing.set_up("inversion-worker")
    os.setpriority(os.PRIO_PROCESS, 0, max(settings.niceness, os.getpriority(os.PRIO_PROCESS, 0)))
    warnings.filterwarnings("ignore", category=SecurityWarning)  # of running as root: no message is a pickle
    store = JobStore.from_url(settings.redis_url, settings.lease_ttl_s)
    try:
        artifacts = ArtifactStore(settings.artifacts_url, store.owner())
        backend = load_backend(settings)
    except StoreUnavailable as error:
        log.error("no artifact store: %s", error)
        return 2
    except BackendUnavailable as error:
        log.error("no backend: %s", error)
        return 2
    stopping = Event()
    keeper = LeaseKeeper(store, stopping)
    celery = broker.make_celery(settings.redis_url)
    context = _context(settings, store, artifacts, backend, stopping)
    tasks.register(celery, JobRunner(context, keeper))
    info = _info(settings, backend)
    answerer = Answerer.from_url(settings.redis_url, context.artifacts, backend, HANDLERS, info.id, context.meters)
    threads: list[Thread] = [answerer, *_threads(settings, context, celery, keeper, info, answerer)]
    publish = partial(_publish, store, context.meters, info, settings.announce_ttl_s)
    threads.append(Periodic("meters", settings.announce_s, publish))
    with _Beside(stopping, threads, info.id):
        status = _work(celery, settings, info)
    store.withdraw(info.id)
    return status


class Thread(Protocol):
    """What runs beside Celery."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _Beside:
    """Runs the threads beside Celery: they start when it is ready, and the event is set when it stops."""

    def __init__(self, stopping: Event, threads: list[Thread], name: str) -> None:
        self._stopping = stopping
        self._threads = threads
        self._name = name
        self._is_shutting_down = False

    def __enter__(self) -> None:
        signals.worker_ready.connect(self._ready)
        signals.worker_shutting_down.connect(self._shutting_down)

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.stop()

    def _ready(self, **_: Any) -> None:
        _take_once(SIGTERM)
        for thread in self._threads:
            thread.start()
        log.info("ready worker=%s", self._name)

    def _shutting_down(self, **_: Any) -> None:
        """Runs within the signal's handler, perhaps within itself; the event's lock is not re-entrant: set it once."""
        if not self._is_shutting_down:
            self._is_shutting_down = True
            self._stopping.set()


def _take_once(number: Signals) -> None:
    """Let the handler that is there see only the first of such signals.

    Celery's sends one of its own signals under a lock that is not re-entrant: a second SIGTERM within the first (the
    kernel sends several when a parent with threads dies) would wait for that lock for ever.
    """
    handler = signal.getsignal(number)
    assert callable(handler)
    taken: list[int] = []

    def first(received: int, frame: FrameType | None) -> None:
        if not taken:
            taken.append(received)
            handler(received, frame)

    signal.signal(number, first)


def _threads(
    settings: WorkerSettings,
    context: Context,
    celery: Celery,
    keeper: LeaseKeeper,
    info: WorkerInfo,
    answerer: Answerer,
) -> list[Periodic]:
    store = context.store
    reaper = Reaper(store, context.artifacts, celery, settings)
    return [
        Periodic("announce", settings.announce_s, lambda: store.announce(info, settings.announce_ttl_s)),
        Periodic("answers", settings.announce_s, lambda: answerer.announce(settings.announce_ttl_s)),
        Periodic("reaper", settings.reaper_s, reaper.reap),
        Periodic("sweep", settings.sweep_s, reaper.sweep),
        Periodic("leases", settings.lease_renew_s, keeper.tick),
    ]


def _publish(store: JobStore, meters: Meters, info: WorkerInfo, ttl_s: float) -> None:
    store.publish(meters.figures(info), ttl_s)


def _context(
    settings: WorkerSettings, store: JobStore, artifacts: ArtifactStore, backend: Backend, stopping: Event
) -> Context:
    return Context(
        store=store,
        artifacts=artifacts,
        backend=backend,
        stopping=stopping,
        checkpoint_s=settings.checkpoint_s,
    )


def _info(settings: WorkerSettings, backend: Backend) -> WorkerInfo:
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    return WorkerInfo(id=name, packs=backend.packs(), slots=backend.slots, device=backend.device)


def _work(celery: Celery, settings: WorkerSettings, info: WorkerInfo) -> int:
    """Celery's worker, in this thread. Threads, not processes: CUDA does not survive a fork."""
    worker = celery.Worker(
        hostname=f"inversion@{info.id}",
        pool_cls="threads",
        concurrency=info.slots,
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _log_to_stderr(settings: WorkerSettings) -> None:
    text = "%(asctime)s %(levelname)s %(name)s %(threadName)s %(message)s"
    logging.basicConfig(level=settings.log_level, handlers=[logs.handler(settings.log_format, text)])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)

    @signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
    def keep_ours(**_: Any) -> None:
        """A receiver is all that Celery needs to leave logging alone."""
