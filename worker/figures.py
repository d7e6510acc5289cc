"""What the whole service does, as one look at Redis tells; app/routes/metrics.py shows it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from redis.asyncio import Redis

from worker import scripts
from worker.contract import Priority, WorkerFigures


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Counts of this moment, and totals since the beginning."""

    queued: int
    running: int
    oldest_queued_s: float
    """How long the longest waiting job has waited; 0 when none waits."""
    webhooks: int
    """Jobs with something to tell their webhook."""
    totals: Mapping[str, int]
    """Jobs by what became of them; see worker/meters.py."""
    workers: Sequence[WorkerFigures]


async def read(redis: Redis) -> Figures:
    """Raises: redis.exceptions.RedisError."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.zcard(scripts.QUEUED)
        pipe.zcard(scripts.RUNNING)
        pipe.zcard(scripts.WEBHOOKS)
        pipe.hgetall(scripts.TOTALS)
        pipe.smembers(scripts.WORKERS)
        for priority in Priority:  # the line is in order of priority, and within one in order of time
            first = scripts.first_order(priority.rank)
            pipe.zrange(scripts.QUEUED, first, "+inf", byscore=True, offset=0, num=1)
        queued, running, webhooks, totals, workers, *heads = await pipe.execute()
    return Figures(
        queued=queued,
        running=running,
        oldest_queued_s=await _oldest_s(redis, [job_id for head in heads for job_id in head]),
        webhooks=webhooks,
        totals={name: int(value) for name, value in totals.items()},
        workers=await _workers(redis, sorted(workers)),
    )


async def _oldest_s(redis: Redis, job_ids: Sequence[str]) -> float:
    texts = [await redis.hget(scripts.job_key(job_id), "created_at") for job_id in set(job_ids)]
    times = [datetime.fromisoformat(json.loads(text)).timestamp() for text in texts if text is not None]
    return max(0.0, time.time() - min(times)) if times else 0.0


async def _workers(redis: Redis, ids: Sequence[str]) -> list[WorkerFigures]:
    texts = await redis.mget([scripts.meters_key(worker_id) for worker_id in ids]) if ids else []
    return [WorkerFigures.model_validate_json(text) for text in texts if text is not None]
