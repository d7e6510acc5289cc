"""Celery: which queue, which settings, and how a job's id is sent. The message is a doorbell, no truth.

A message may come twice, late or never. It says that somebody waits, and the worker that gets it takes whoever is
first in line then: so the line alone decides the order. The reaper sends again what was lost, and Celery's own
redelivery can wait for a day (`visibility_timeout`).
"""

from __future__ import annotations

from celery import Celery

TASK = "inversion.run"
QUEUE = "inversion"
"""Also the Redis list in which kombu keeps messages that wait."""
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
        broker_transport_options={"visibility_timeout": _DAY_S},
    )
    return app


def send(app: Celery, job_id: str) -> None:
    """Tell the workers of a job. Blocks for the connection's time; raises kombu's OperationalError."""
    app.send_task(TASK, args=[job_id], queue=QUEUE, retry_policy={"max_retries": 2})


def _broker_url(redis_url: str) -> str:
    """Kombu has its own name for a Redis behind a unix socket."""
    return redis_url.replace("unix://", "redis+socket://", 1)
