"""Is there room for another job? Counted in Redis, so that any number of API processes keep one limit together.

    inversion:admitting        sorted set: ids that were let in and are not queued yet, by when (ms)
    inversion:active:{tenant}  sorted set: ids of jobs that may not have ended; by when they were let in (ms),
                               and 0 from the moment they are queued

Nobody has to report the end of a job: who asks for room next looks which of them still live.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis

from inversion_worker import scripts
from inversion_worker.errors import QueueFull, TooManyJobs

ADMITTING = "inversion:admitting"
_GRACE_MS = 120_000
"""A job that was let in so long ago and is still not there never will be: its process died."""
_KEPT_MS = 8 * 24 * 3600 * 1000

# KEYS: queued, admitting, active. ARGV: most queued, most active, grace (ms), kept (ms), ids. Without ids it only asks.
_ADMIT = """
local queued, admitting, active = KEYS[1], KEYS[2], KEYS[3]
local most_queued, most_active, grace_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local asked = math.max(1, #ARGV - 4)
redis.call('ZREMRANGEBYSCORE', admitting, '-inf', now - grace_ms)
if most_queued > 0 and redis.call('ZCARD', queued) + redis.call('ZCARD', admitting) + asked > most_queued then
  return 'queue'
end
if most_active > 0 then
  local members = redis.call('ZRANGE', active, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local status = redis.call('HGET', 'inversion:job:' .. members[i], 'status')
    local coming = not status and tonumber(members[i + 1]) > now - grace_ms
    if status ~= '"queued"' and status ~= '"running"' and not coming then
      redis.call('ZREM', active, members[i])
    end
  end
  if redis.call('ZCARD', active) + asked > most_active then return 'tenant' end
end
for i = 5, #ARGV do
  redis.call('ZADD', admitting, now, ARGV[i])
  if most_active > 0 then redis.call('ZADD', active, now, ARGV[i]) end
end
if most_active > 0 then redis.call('PEXPIRE', active, ARGV[4]) end
return 'room'
"""


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many jobs there may be. 0 is no limit."""

    most_queued: int = 0
    """Jobs that wait, of all tenants."""
    most_active: int = 0
    """Jobs of one tenant that wait or run. It does not hold where no key is asked for: everybody is one tenant."""


class Admission:
    """Raises from every method: RedisError."""

    def __init__(self, redis: Redis, room: Room) -> None:
        self._redis = redis
        self._room = room

    async def check(self, tenant: str) -> None:
        """Raise QueueFull or TooManyJobs where one more job would be refused now; nothing is held."""
        await self._ask(tenant, ())

    @asynccontextmanager
    async def admitted(self, tenant: str, job_ids: Sequence[str]) -> AsyncIterator[None]:
        """Hold room for these jobs while the block queues them; all of them or none.

        Raises: QueueFull, TooManyJobs.
        """
        await self._ask(tenant, job_ids)
        active = _active(tenant)
        try:
            yield
        except BaseException:
            await self._redis.zrem(active, *job_ids)
            raise
        else:
            await self._redis.zadd(active, dict.fromkeys(job_ids, 0), xx=True)
        finally:
            await self._redis.zrem(ADMITTING, *job_ids)

    async def _ask(self, tenant: str, job_ids: Sequence[str]) -> None:
        most_active = self._room.most_active if tenant else 0
        if not self._room.most_queued and not most_active:
            return
        head = (self._room.most_queued, most_active, _GRACE_MS, _KEPT_MS)
        keys = (scripts.QUEUED, ADMITTING, _active(tenant))
        answer = cast(str, await self._redis.eval(_ADMIT, len(keys), *keys, *head, *job_ids))
        if answer == "queue":
            raise QueueFull(f"At most {self._room.most_queued} jobs wait at a time.")
        if answer == "tenant":
            raise TooManyJobs(f"At most {most_active} of a tenant's jobs wait or run at a time.")


def _active(tenant: str) -> str:
    return f"inversion:active:{tenant}"
