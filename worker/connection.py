"""How both sides of the seam connect to Redis."""

from __future__ import annotations

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

TIMEOUT_S = 5.0
RETRIES = 3
"""Tries after the first: a connection that died in the pool is no error yet. Every script may run twice."""
_BACKOFF = ExponentialBackoff(cap=0.5, base=0.05)


def connect(url: str) -> Redis:
    """For threads. Nothing is connected before the first command."""
    return Redis.from_url(url, decode_responses=True, socket_timeout=TIMEOUT_S, retry=Retry(_BACKOFF, RETRIES))


def connect_async(url: str) -> AsyncRedis:
    """For one event loop. Nothing is connected before the first command."""
    return AsyncRedis.from_url(
        url, decode_responses=True, socket_timeout=TIMEOUT_S, retry=AsyncRetry(_BACKOFF, RETRIES)
    )
