"""The one clock: that of the Redis server. Whatever is stored, compared or told across processes goes by it.

Hosts need not agree on the time, then: one that is days off deletes nothing early, and nothing late. Scripts ask for
it within Redis; this is for the few times that Python needs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def server_time(redis: Redis) -> datetime:
    """What the server's clock shows, to the millisecond. Raises: redis.exceptions.RedisError."""
    seconds, microseconds = await redis.time()
    return _EPOCH + timedelta(seconds=seconds, milliseconds=microseconds // 1000)
