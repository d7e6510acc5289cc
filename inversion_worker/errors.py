"""Errors of the worker and its client.

WorkerError             anything below
  + StorageFull         the artifact store takes no more bytes         507   storage-full
  + QueueFull           no further job may wait                        429   queue-full
  + TooManyJobs         nor one more of this tenant                    429   too-many-jobs
  + ServerUnavailable   the embedded Valkey does not start             (stops the process)
  + BackendUnavailable  the default pack or the device cannot be used  (stops the process)
  + StoreUnavailable    the artifact store cannot be used at all      (stops the process)
  + JobRefused          the photo, an option or the pack is at fault   its problem's own status
  + NobodyAnswers       no worker has answered a short question in time       503   no-worker-answers
  + OnceBusy            an Idempotency-Key is in use by another request       409   idempotency-key-in-use
  + OnceReused          an Idempotency-Key came before, with another body     422   idempotency-key-reused
  + Interrupted         an attempt ends before its last Step           (never leaves the worker)
      + LeaseLost       another worker took over, or the job is gone
      + CancelAsked     a person asked for it
      + Stopping        this process is asked to stop
"""

from __future__ import annotations

from inversion_worker.contract import Problem


class WorkerError(Exception):
    """Base."""


class StorageFull(WorkerError):
    """The artifact store has no room left for this write; nothing of it was left behind."""


class QueueFull(WorkerError):
    """As many jobs wait as may; nothing was queued."""


class TooManyJobs(WorkerError):
    """This tenant has as many jobs that wait or run as it may; nothing was queued."""


class ServerUnavailable(WorkerError):
    """The embedded Valkey did not start, or its folder is in use."""


class BackendUnavailable(WorkerError):
    """There is nothing to run jobs with; the message says what to do."""


class StoreUnavailable(WorkerError):
    """What the artifact store's address needs is not installed; the message says how to install it."""


class JobRefused(WorkerError):
    """A job that no repetition would save; `problem` is what its record will say."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class NobodyAnswers(WorkerError):
    """No worker answers questions of this kind, or none has in time; nothing of the question was left."""


class SourceGone(WorkerError):
    """What a new job was to be made of is no longer stored."""


class DirectionExists(WorkerError):
    """The tenant has a direction of this name for the same weights."""


class TooManyDirections(WorkerError):
    """The tenant has as many directions as it may have."""


class OnceBusy(WorkerError):
    """A request with the same Idempotency-Key is being accepted right now."""


class OnceReused(WorkerError):
    """The Idempotency-Key has been used for a request with another body."""


class Interrupted(WorkerError):
    """Base of what ends an attempt early without being a failure."""


class LeaseLost(Interrupted):
    """The fencing token is no longer the newest, the job is no longer running, or its record is gone."""


class CancelAsked(Interrupted):
    """The job's cancel flag is set."""


class Stopping(Interrupted):
    """The worker process was told to stop."""
