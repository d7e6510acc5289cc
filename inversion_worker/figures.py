"""What the whole service does, as one look at Redis tells; inversion_app/routes/metrics.py shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from inversion_worker import scripts
from inversion_worker.contract import WorkerFigures

_LOOKED_AT = 2000
# KEYS: queued. ARGV: how many to look at. Returns how long the one that came first has waited (ms): a priority may
# have put others before it. Whoever has waited long is near the head in any case.
_OLDEST = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local longest = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)) do
  local came = redis.call('HGET', 'inversion:job:' .. id, '_came_ms')
  if came then longest = math.max(longest, now - came) end
end
return longest
"""


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
    """Jobs by what became of them; see inversion_worker/meters.py."""
    workers: Sequence[WorkerFigures]


async def read(redis: Redis) -> Figures:
    """Raises: redis.exceptions.RedisError."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.zcard(scripts.QUEUED)
        pipe.zcard(scripts.RUNNING)
        pipe.zcard(scripts.WEBHOOKS)
        pipe.hgetall(scripts.TOTALS)
        pipe.smembers(scripts.WORKERS)
        pipe.eval(_OLDEST, 1, scripts.QUEUED, _LOOKED_AT)
        queued, running, webhooks, totals, workers, oldest_ms = await pipe.execute()
    return Figures(
        queued=queued,
        running=running,
        oldest_queued_s=oldest_ms / 1000,
        webhooks=webhooks,
        totals={name: int(value) for name, value in totals.items()},
        workers=await _workers(redis, sorted(workers)),
    )


async def _workers(redis: Redis, ids: Sequence[str]) -> list[WorkerFigures]:
    texts = await redis.mget([scripts.meters_key(worker_id) for worker_id in ids]) if ids else []
    return [WorkerFigures.model_validate_json(text) for text in texts if text is not None]
