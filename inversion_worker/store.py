"""Job records as the worker writes them. Every write carries the lease's fencing token."""

from __future__ import annotations

from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from inversion_worker import scripts, transitions
from inversion_worker.broker import QUEUE
from inversion_worker.connection import connect
from inversion_worker.contract import JobEvent, JobRecord, JobStatus, WorkerFigures, WorkerInfo
from inversion_worker.errors import LeaseLost
from inversion_worker.owner import Owner
from inversion_worker.scripts import Call
from inversion_worker.transitions import Asked, Lease

_LOST_AT_ONCE = 100
_HEAD_OF_LINE = 16


class JobStore:
    """The worker's side of Redis; its methods may be called from any thread.

    Raises from every method: redis.exceptions.RedisError.
    """

    def __init__(self, redis: Redis, lease_ttl_s: float) -> None:
        self._redis = redis
        self._lease_ms = int(lease_ttl_s * 1000)

    @classmethod
    def from_url(cls, redis_url: str, lease_ttl_s: float) -> JobStore:
        return cls(connect(redis_url), lease_ttl_s)

    def claim(self, job_id: str) -> tuple[Lease, JobRecord] | None:
        """Start a queued job; None for one that is gone, running or finished."""
        fence = int(self._run(transitions.claim(job_id, self._lease_ms)))
        record = self.get(job_id)
        return (Lease(job_id, fence), record) if fence and record else None

    def claim_next(self) -> tuple[Lease, JobRecord] | None:
        """Start the first job in line; None when nobody waits."""
        while head := cast(list[str], self._redis.zrange(scripts.QUEUED, 0, 0)):
            if claimed := self.claim(head[0]):  # else another worker was faster, or it is gone: it is out of the line
                return claimed
        return None

    def get(self, job_id: str) -> JobRecord | None:
        stored = cast(dict[str, str], self._redis.hgetall(scripts.job_key(job_id)))
        return transitions.decode_record(stored)

    def exists(self, job_id: str) -> bool:
        return bool(self._redis.exists(scripts.job_key(job_id)))

    def update(self, lease: Lease, event: JobEvent | None = None, **fields: Any) -> Asked:
        """Write fields of the record, say an event, renew the lease; says what somebody wants of the job.

        Raises: LeaseLost, and then nothing was written.
        """
        answer = int(self._run(transitions.update(lease, self._lease_ms, event, fields)))
        if answer < 0:
            raise LeaseLost(lease.job_id)
        return Asked(answer)

    def finish(self, lease: Lease, status: JobStatus, event: JobEvent, **fields: Any) -> None:
        """End the job. Raises: LeaseLost, and then nothing was written."""
        if int(self._run(transitions.finish(lease, status, event, fields))) < 0:
            raise LeaseLost(lease.job_id)

    def hand_back(self, lease: Lease) -> None:
        """Back to queued without counting the attempt. Raises: LeaseLost."""
        if int(self._run(transitions.hand_back(lease))) < 0:
            raise LeaseLost(lease.job_id)

    def reclaim_lost(self) -> dict[str, str]:
        """Take the jobs of silent workers from them: what became of each id (see scripts.RECLAIM)."""
        lost = self._redis.zrange(scripts.RUNNING, "-inf", self._now_ms(), byscore=True, offset=0, num=_LOST_AT_ONCE)
        return {job_id: str(self._run(transitions.reclaim(job_id))) for job_id in cast(list[str], lost)}

    def unsent(self, soon_ms: int, late_ms: int) -> list[str]:
        """Jobs at the head of the line whose message must be sent again; each is named to one caller.

        While the broker holds no message at all, one sent `soon_ms` ago is lost. Otherwise it may merely
        be waiting behind others, and is given `late_ms`.
        """
        waiting = self._redis.llen(QUEUE)
        head = cast(list[str], self._redis.zrange(scripts.QUEUED, 0, _HEAD_OF_LINE - 1))
        after_ms = late_ms if waiting else soon_ms
        return [job_id for job_id in head if int(self._run(transitions.mark_sent(job_id, after_ms)))]

    def announce(self, info: WorkerInfo, ttl_s: float) -> None:
        """Be seen as a live worker for `ttl_s`."""
        with self._redis.pipeline() as pipe:
            pipe.set(scripts.worker_key(info.id), info.model_dump_json(), px=int(ttl_s * 1000))
            pipe.sadd(scripts.WORKERS, info.id)
            pipe.execute()

    def publish(self, figures: WorkerFigures, ttl_s: float) -> None:
        """Show what this worker has counted for `ttl_s`."""
        self._redis.set(scripts.meters_key(figures.worker), figures.model_dump_json(), px=int(ttl_s * 1000))

    def withdraw(self, worker_id: str) -> None:
        """Be seen no longer."""
        self._redis.delete(scripts.worker_key(worker_id), scripts.meters_key(worker_id))
        self._redis.srem(scripts.WORKERS, worker_id)

    def answers(self) -> bool:
        """Whether Redis can be reached; raises nothing."""
        try:
            return bool(self._redis.ping())
        except RedisError:
            return False

    def owner(self) -> Owner:
        """Whose files this worker's are."""
        return Owner(self._redis)

    def close(self) -> None:
        self._redis.close()

    def _now_ms(self) -> int:
        seconds, microseconds = self._redis.time()
        return seconds * 1000 + microseconds // 1000

    def _run(self, call: Call) -> Any:
        return self._redis.eval(call.text, len(call.keys), *call.keys, *call.argv)
