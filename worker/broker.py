"""Celery: which queue, which settings, and how a job's id is sent. The message is a doorbell, no truth.

A message may come twice, late or never: the job's record decides what a delivery means, and the reaper
sends again what was lost. So Celery's own redelivery can wait for a day (`visibility_timeout`).
"""

from __future__ import annotations

from celery import Celery

TASK = "inversion.run"
QUEUE = "inversion"
PRIORITY_NEW = 3
"""Of a job of normal priority; see `priority_of`."""
PRIORITY_AGAIN = 0
"""Of 0 (first), 3, 6, 9: a job that had begun, or whose message was lost, is not put behind new ones."""
_PRIORITY_STEPS = (0, 3, 6, 9)
_DAY_S = 24 * 3600


def make_celery(redis_url: str) -> Celery:
    """A Celery application on that Redis; nothing is connected yet."""
    app = Celery("inversion", broker=_broker_url(redis_url), set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a server that restarts is waited for, however long
        broker_transport_options={"visibility_timeout": _DAY_S, "priority_steps": list(_PRIORITY_STEPS)},
    )
    return app


def send(app: Celery, job_id: str, priority: int = PRIORITY_NEW) -> None:
    """Tell the workers of a job. Blocks for the connection's time; raises kombu's OperationalError."""
    app.send_task(TASK, args=[job_id], queue=QUEUE, priority=priority, retry_policy={"max_retries": 2})


def priority_of(rank: int) -> int:
    """Of a new job whose `Priority.rank` this is."""
    return _PRIORITY_STEPS[rank]


def message_lists() -> list[str]:
    """Redis lists in which kombu keeps waiting messages, one for each priority."""
    return [QUEUE if step == 0 else f"{QUEUE}\x06\x16{step}" for step in _PRIORITY_STEPS]


def _broker_url(redis_url: str) -> str:
    """Kombu has its own name for a Redis behind a unix socket."""
    return redis_url.replace("unix://", "redis+socket://", 1)
