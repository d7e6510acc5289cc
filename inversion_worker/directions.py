"""A tenant's own editing directions: made, listed and deleted. Their steps lie in the artifact store.

    inversion:direction:{id}        a DirectionRecord, JSON; a sweep deletes it with its file when its time is over
    inversion:directions:{tenant}   hash: weights/name -> id. Weights are the pack's digest, or its name without one

A direction is computed from faces, or sent, by a tenant: it is the tenant's data, as photos are. As of a job, the
expiry is written first and removed last, so that a sweep finds whatever a crash leaves behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

from redis.asyncio import Redis

from inversion_worker import scripts
from inversion_worker.artifacts import ArtifactStore
from inversion_worker.clock import server_time
from inversion_worker.contract import MAX_DIRECTIONS, ArtifactKey, DirectionRecord
from inversion_worker.errors import DirectionExists, TooManyDirections
from inversion_worker.scripts import SPARE_MS, direction_key, directions_key
from inversion_worker.transitions import unix_ms

_ACCEPT_S = 3600.0
"""A file whose direction was not entered so much later was left by a crash."""

# KEYS: directions of the tenant, the direction, expiry. ARGV: id, weights/name, record, when its time is over (ms),
# for how long it is kept beyond that (ms), most directions.
_ADD = """
local there = redis.call('HGET', KEYS[1], ARGV[2])
if there and redis.call('EXISTS', 'inversion:direction:' .. there) == 1 then return 'exists' end
if not there and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then return 'full' end
local until_ms = ARGV[4] + ARGV[5]
redis.call('SET', KEYS[2], ARGV[3], 'PXAT', string.format('%.0f', until_ms))
redis.call('HSET', KEYS[1], ARGV[2], ARGV[1])
if redis.call('PEXPIRETIME', KEYS[1]) < until_ms then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', until_ms))
end
redis.call('ZADD', KEYS[3], ARGV[4] / 1000, ARGV[1])
return 'added'
"""

# KEYS: directions of the tenant, the direction, expiry. ARGV: id, weights/name. Returns whether there was one. Its file
# is then due.
_DELETE = """
if redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[3], redis.call('TIME')[1], ARGV[1])
return 1
"""


class Directions:
    """Raises from every method: redis.exceptions.RedisError."""

    def __init__(self, redis: Redis, artifacts: ArtifactStore, delete_files: Callable[[str], Awaitable[None]]) -> None:
        """`delete_files` deletes what lies under an id, and then its expiry."""
        self._redis = redis
        self._artifacts = artifacts
        self._delete_files = delete_files

    async def all(self, tenant: str) -> list[DirectionRecord]:
        """Those of a tenant, of every pack, oldest first."""
        ids = cast(dict[str, str], await self._redis.hgetall(directions_key(tenant)))
        if not ids:
            return []
        texts = await self._redis.mget([direction_key(each) for each in ids.values()])
        records = [DirectionRecord.model_validate_json(text) for text in texts if text is not None]
        now = await server_time(self._redis)
        return sorted([each for each in records if each.expires_at > now], key=lambda each: (each.created_at, each.id))

    async def add(self, record: DirectionRecord, step: bytes, ttl_s: float) -> DirectionRecord:
        """Keep a direction for so long. Its times are set here.

        Args:
            step: npy, float32, (L, D): what a strength of 1 adds to a code.
        Raises: DirectionExists, TooManyDirections, StorageFull; then nothing is left.
        """
        now = await server_time(self._redis)
        record = record.model_copy(update={"created_at": now, "expires_at": now + timedelta(seconds=ttl_s)})
        await self._redis.zadd(scripts.EXPIRY, {record.id: now.timestamp() + _ACCEPT_S})
        try:
            await asyncio.to_thread(self._artifacts.write, ArtifactKey.direction(record.id), step)
            await self._enter(record)
        except BaseException:
            await asyncio.shield(self._delete_files(record.id))
            raise
        return record

    async def _enter(self, record: DirectionRecord) -> None:
        keys = (directions_key(record.tenant), direction_key(record.id), scripts.EXPIRY)
        until_ms = unix_ms(record.expires_at)
        answer: Any = await self._redis.eval(
            _ADD, len(keys), *keys, record.id, _field(record), record.model_dump_json(), until_ms, SPARE_MS,
            MAX_DIRECTIONS,
        )  # fmt: skip
        if answer == "exists":
            raise DirectionExists
        if answer == "full":
            raise TooManyDirections

    async def delete(self, record: DirectionRecord) -> bool:
        """Delete a direction and its file. Says whether it was there."""
        keys = (directions_key(record.tenant), direction_key(record.id), scripts.EXPIRY)
        existed: Any = await self._redis.eval(_DELETE, len(keys), *keys, record.id, _field(record))
        if existed:
            await self._delete_files(record.id)
        return bool(existed)


def _field(record: DirectionRecord) -> str:
    return f"{record.digest or record.pack}/{record.name}"
