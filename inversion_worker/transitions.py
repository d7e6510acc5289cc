"""What may happen to a job, as calls of the scripts: pure functions that both sides of the seam share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from pydantic import TypeAdapter

from inversion_worker import scripts
from inversion_worker.contract import (
    FINAL_EVENTS,
    JOB_EVENT,
    MAX_ATTEMPTS,
    BatchRecord,
    JobCanceled,
    JobDeleted,
    JobEvent,
    JobExpired,
    JobFailed,
    JobOptions,
    JobQueued,
    JobRecord,
    JobStatus,
)
from inversion_worker.once import Claim
from inversion_worker.problems import WORKER_LOST
from inversion_worker.scripts import Call


@dataclass(frozen=True)
class Lease:
    """The right to write to a running job, until somebody claims it with a newer token."""

    job_id: str
    fence: int


class Asked(IntEnum):
    """What somebody wants of a running job, as scripts.UPDATE answers."""

    NOTHING = 0
    CANCEL = 1
    FINISH = 2
    """End with the best so far."""


_FIELDS = {name: TypeAdapter[Any](field.rebuild_annotation()) for name, field in JobRecord.model_fields.items()}
"""A field at a time: a record that is not whole costs pydantic ten times as much, for the fields that are not there."""


def unix_ms(time: datetime) -> int:
    """Milliseconds since 1970."""
    return int(time.timestamp() * 1000)


def encode_fields(**fields: Any) -> dict[str, str]:
    """Fields of a JobRecord as Redis holds them: a JSON value each.

    An option that was not chosen is left out, so that a worker of before, which may not know it, takes the job.
    """
    return {name: _encode(name, value) for name, value in fields.items()}


def _encode(name: str, value: Any) -> str:
    plain = isinstance(value, JobOptions) and value.webhook_events == FINAL_EVENTS
    left_out = {"webhook_events"} if plain else None
    return _FIELDS[name].dump_json(value, exclude=left_out, exclude_none=True).decode()


def decode_record(stored: Mapping[str, str]) -> JobRecord | None:
    """The record in a hash as Redis returns it; None for an empty one (no such job)."""
    if "id" not in stored:
        return None
    known = stored.keys() & JobRecord.model_fields.keys()  # a record may have been written by another version
    return JobRecord.model_validate({name: json.loads(stored[name]) for name in known})


def encode_event(event: JobEvent) -> str:
    return JOB_EVENT.dump_json(event).decode()


def decode_event(text: str) -> JobEvent:
    return JOB_EVENT.validate_json(text)


def submit(record: JobRecord, ttl_ms: int, once: Claim | None = None) -> Call:
    """Queue a new job; under an Idempotency-Key only while `once` still holds it.

    `expires_at` of the record is when it is given up; from its end on it is kept for `ttl_ms`.
    """
    fields = encode_fields(**{name: getattr(record, name) for name in JobRecord.model_fields})
    made_ms, given_up_ms = unix_ms(record.created_at), unix_ms(record.expires_at)
    head = (given_up_ms, encode_event(JobQueued()), made_ms, ttl_ms, record.options.priority.rank)
    keys = (scripts.index_key(record.tenant), scripts.known_key(record.tenant, record.id))
    args: tuple[str | int, ...] = (*head, once.token if once else "", *_flat(fields))
    return Call(scripts.SUBMIT, record.id, args, (*keys, once.key) if once else keys)


def submit_batch(batch: BatchRecord) -> Iterator[tuple[str, str, int]]:
    """What is written of a batch beside its jobs: keys, values and until when (ms)."""
    expires_ms = unix_ms(batch.expires_at)
    yield scripts.batch_key(batch.id), batch.model_dump_json(), expires_ms
    yield scripts.known_key(batch.tenant, batch.id), "", expires_ms + scripts.TOMBSTONE_MS


def claim(job_id: str, lease_ms: int) -> Call:
    """Start a queued job; see scripts.CLAIM for the answer."""
    return Call(scripts.CLAIM, job_id, (lease_ms,))


def update(lease: Lease, lease_ms: int, event: JobEvent | None, fields: Mapping[str, Any]) -> Call:
    """Write fields and an event, and renew the lease; all of it or, when the lease is lost, nothing."""
    said = encode_event(event) if event is not None else ""
    return Call(scripts.UPDATE, lease.job_id, (lease.fence, lease_ms, said, *_flat(encode_fields(**fields))))


def finish(lease: Lease, status: JobStatus, event: JobEvent, fields: Mapping[str, Any]) -> Call:
    """End a running job in a final state."""
    assert status.is_final, status
    head = (lease.fence, status.value, encode_event(event))
    return Call(scripts.FINISH, lease.job_id, (*head, *_flat(encode_fields(**fields))))


def hand_back(lease: Lease) -> Call:
    """Put a running job back into its old place in the line."""
    events = (encode_event(JobQueued()), encode_event(JobCanceled()))
    return Call(scripts.HAND_BACK, lease.job_id, (lease.fence, *events))


def reclaim(job_id: str) -> Call:
    """Take a job from a worker whose lease has ended; harmless for every other job."""
    events = (JobQueued(), JobCanceled(), JobFailed(error=WORKER_LOST))
    error = encode_fields(error=WORKER_LOST)["error"]
    said = (encode_event(event) for event in events)
    return Call(scripts.RECLAIM, job_id, (MAX_ATTEMPTS, *said, error))


def mark_sent(job_id: str, after_ms: int) -> Call:
    """Ask whether a queued job's message should be sent again, and note that it is."""
    return Call(scripts.MARK_SENT, job_id, (after_ms,))


def cancel(job_id: str) -> Call:
    """Cancel a queued job, ask the worker of a running one, leave a finished one alone."""
    return Call(scripts.CANCEL, job_id, (encode_event(JobCanceled()),))


def end_early(job_id: str) -> Call:
    """Let a job end with the best that it has found; leave a finished one alone."""
    return Call(scripts.END_EARLY, job_id)


def delete(job_id: str, tenant: str) -> Call:
    """Let nothing stay of a job, and tell those who follow one that has not ended."""
    keys = (scripts.index_key(tenant), scripts.known_key(tenant, job_id))
    return Call(scripts.DELETE, job_id, (encode_event(JobDeleted()),), keys)


def expire(job_id: str) -> Call:
    """As `delete`, for a job whose time is over; one that has got more time since stays."""
    return Call(scripts.EXPIRE, job_id, (encode_event(JobExpired()),))


def _flat(fields: Mapping[str, str]) -> Iterable[str]:
    return (part for pair in fields.items() for part in pair)
