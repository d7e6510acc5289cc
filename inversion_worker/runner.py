"""From a delivered message to a job's end: claim the first in line, attempt, and what each outcome becomes.

Attempt.run ends with    the job becomes
nothing raised           succeeded
CancelAsked              canceled
Stopping                 queued again, attempt not counted
LeaseLost                untouched: it is another worker's, or deleted, and then its files go too
JobRefused, StorageFull  failed, with that problem
RedisError               untouched: the reaper takes it up from its checkpoint when Redis is back
anything else            failed, problem `internal`; the cause goes to the log alone
"""

from __future__ import annotations

import logging
from contextlib import suppress

from redis.exceptions import RedisError

from inversion_worker import logs, tracing
from inversion_worker.attempt import Attempt, Context
from inversion_worker.contract import ArtifactKey, JobCanceled, JobFailed, JobRecord, JobStatus, Problem
from inversion_worker.errors import CancelAsked, JobRefused, LeaseLost, Stopping, StorageFull
from inversion_worker.leases import LeaseKeeper
from inversion_worker.problems import INTERNAL, STORAGE_FULL
from inversion_worker.transitions import Lease

log = logging.getLogger(__name__)

_PAUSE_S = 0.5


def _attributes(record: JobRecord) -> dict[str, str | int | float]:
    """What a trace says of the job beside its times."""
    assert record.started_at is not None, "a claimed job has been started"
    waited_s = (record.started_at - record.created_at).total_seconds()
    options = record.options
    return {
        "inversion.id": record.id,
        "inversion.attempt": record.attempts,
        "inversion.queued_s": round(waited_s, 3),
        **({"inversion.steps": record.total_steps} if record.total_steps is not None else {}),
        **({"inversion.optimizer": options.optimizer} if options.optimizer is not None else {}),
    }


class JobRunner:
    """Runs one job at a time for each thread that calls it."""

    def __init__(self, context: Context, keeper: LeaseKeeper) -> None:
        self._context = context
        self._keeper = keeper

    def run(self, told_of: str) -> bool:
        """Run the first job in line, which need not be the one that the message tells of; if none waits, do nothing.

        Returns False when the process is stopping and the message should go to another worker.
        """
        if self._context.stopping.is_set():
            return False
        claimed = self._context.store.claim_next()
        if claimed is None:
            log.info("nothing to do job=%s", told_of)
            return True
        lease, record = claimed
        job_id = lease.job_id
        about = logs.about(job_id=job_id, request_id=record.request_id)
        span = tracing.span("inversion", record.traceparent, **_attributes(record))
        with about, span, self._context.meters.running():
            return self._run(lease, record)

    def _run(self, lease: Lease, record: JobRecord) -> bool:
        job_id = lease.job_id
        log.info("started job=%s attempt=%d", job_id, record.attempts)
        try:
            with self._keeper.keeping(lease):
                return self._attempt(lease, record)
        except RedisError as error:
            log.warning("left to the reaper job=%s error=%s", job_id, error)
            self._wait_for_redis()
            return True
        finally:
            self._tidy(job_id)

    def _wait_for_redis(self) -> None:
        """Hold the message until it can be acknowledged: kombu takes no further one after a failed try."""
        while not self._context.stopping.is_set() and not self._context.store.answers():
            self._context.stopping.wait(_PAUSE_S)

    def _attempt(self, lease: Lease, record: JobRecord) -> bool:
        try:
            self._attempt_or_fail(lease, record)
        except Stopping:
            with suppress(LeaseLost):
                self._context.store.hand_back(lease)
            log.info("handed back job=%s", lease.job_id)
            return False
        except CancelAsked:
            with suppress(LeaseLost):
                self._context.store.finish(lease, JobStatus.CANCELED, JobCanceled())
            log.info("canceled job=%s", lease.job_id)
        except LeaseLost:
            log.info("lease lost job=%s", lease.job_id)
        return True

    def _attempt_or_fail(self, lease: Lease, record: JobRecord) -> None:
        try:
            Attempt(self._context, lease, record).run()
            log.info("succeeded job=%s", lease.job_id)
        except JobRefused as error:
            self._fail(lease, error.problem)
        except StorageFull:
            log.exception("storage full job=%s", lease.job_id)
            self._fail(lease, STORAGE_FULL)
        except (RedisError, Stopping, CancelAsked, LeaseLost):
            raise
        except Exception:
            self._context.store.update(lease)  # a write into a deleted job's folder is no failure
            log.exception("failed job=%s", lease.job_id)
            self._fail(lease, INTERNAL)

    def _fail(self, lease: Lease, problem: Problem) -> None:
        self._context.store.finish(lease, JobStatus.FAILED, JobFailed(error=problem), error=problem)
        log.info("failed job=%s problem=%s", lease.job_id, problem.type)

    def _tidy(self, job_id: str) -> None:
        """No checkpoint outlives its job, no best so far the final one, and no file at all outlives its record.

        What cannot be done now is done by a sweep.
        """
        try:
            record = self._context.store.get(job_id)
            if record is None:
                self._context.artifacts.delete_job(job_id)
            elif record.status.is_final:
                self._context.artifacts.delete(ArtifactKey.checkpoint(job_id))
                if record.status is JobStatus.SUCCEEDED:
                    self._context.artifacts.delete(ArtifactKey.best(job_id))
        except (RedisError, OSError) as error:
            log.warning("not tidied job=%s error=%s", job_id, error)
