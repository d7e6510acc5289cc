"""How both sides of the seam connect to Redis."""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

TIMEOUT_S = 5.0
MOST_CONNECTIONS = 16
RETRIES = 3
"""Tries after the first: a connection that died in the pool is no error yet. Every script may run twice."""
_BACKOFF = ExponentialBackoff(cap=0.5, base=0.05)
_UNNAMED: dict[str, Any] = {"driver_info": None}
"""No CLIENT SETINFO: redis-py would look its own version up on the disk for each connection, which takes longer than
connecting, and every listener of an event stream is a connection."""


def connect(url: str) -> Redis:
    """For threads. Nothing is connected before the first command."""
    return Redis.from_url(
        url, decode_responses=True, socket_timeout=TIMEOUT_S, retry=Retry(_BACKOFF, RETRIES), **_UNNAMED
    )


def connect_async(url: str) -> AsyncRedis:
    """For short commands in one event loop. Nothing is connected before the first one.

    A burst waits for one of a few connections: opening one for each request takes longer than all the commands.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MOST_CONNECTIONS,
        timeout=TIMEOUT_S,
        decode_responses=True,
        socket_timeout=TIMEOUT_S,
        retry=AsyncRetry(_BACKOFF, RETRIES),
        **_UNNAMED,
    )
    return AsyncRedis.from_pool(pool)


def connect_streams(url: str) -> AsyncRedis:
    """For commands that block: as many connections as there are listeners."""
    return AsyncRedis.from_url(
        url, decode_responses=True, socket_timeout=TIMEOUT_S, retry=AsyncRetry(_BACKOFF, RETRIES), **_UNNAMED
    )
