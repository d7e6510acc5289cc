"""The one Celery task. It tells the runner that a job waits, and the broker what the runner answers."""

from __future__ import annotations

from celery import Celery
from celery.exceptions import Reject

from inversion_worker.broker import TASK
from inversion_worker.runner import JobRunner


def register(app: Celery, runner: JobRunner) -> None:
    """Make `app` run jobs with `runner`."""

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def run(job_id: str) -> None:
        if not runner.run(job_id):
            raise Reject("the worker is stopping", requeue=True)
