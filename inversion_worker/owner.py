"""Whose files: services that share an artifact store keep to a folder of their own each.

    inversion:owner   hash: `id`, random, made once and as old as the server's data; `marked`, once the folder was made

A server that has lost its data has no id, and gets a new one, so a new folder. What lies in the old one is no longer
its own: it may be another service's, and nothing of it is deleted.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

OWNER = "inversion:owner"
_REMEMBERED_S = 5.0
# KEYS: owner. ARGV: an id for one that has none.
_CLAIM = """
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
return redis.call('HGET', KEYS[1], 'id')
"""


class Owner:
    """The id of the server's data; may be used from any thread. Raises: RedisError while it has never been told."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._id: str | None = None
        self._told_s = 0.0

    def id(self) -> str:
        """The id by now: that of a moment ago is remembered, and while the server is away the last one."""
        if self._id is None or time.monotonic() - self._told_s > _REMEMBERED_S:
            try:
                self._learn(cast(str, self._redis.eval(_CLAIM, 1, OWNER, uuid.uuid4().hex)))
            except RedisError:
                if self._id is None:
                    raise
        assert self._id is not None
        return self._id

    def note_marked(self) -> bool:
        """Remember that the folder has its mark; says whether it had one before."""
        return not self._redis.hset(OWNER, "marked", "1")

    def close(self) -> None:
        self._redis.close()

    def _learn(self, told: str) -> None:
        if self._id not in (None, told):
            log.error(
                "the server has lost its data: files of owner=%s stay where they are, the new owner=%s", self._id, told
            )
        self._id, self._told_s = told, time.monotonic()
