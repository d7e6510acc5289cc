"""Idempotency-Key: the first request under a key is done, the same one again is answered with what it made.

    (nothing) -- begin --> held by a token -- finish --> the id of what was made, for KEPT_MS
                                |                                        |
                                |                                        +-- forget: it is gone --> (nothing)
                                +-- release, or HELD_MS without an end --> (nothing)

A key belongs to a tenant. What a request asks for is its `fingerprint`; another one under the same key is
refused. `finish` is not a script of its own: it happens in the transaction that makes the job.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from inversion_worker.errors import OnceBusy, OnceReused

HELD_MS = 5 * 60 * 1000
"""A request that has not been accepted after that long was lost with its process."""
KEPT_MS = 24 * 3600 * 1000
"""How long the same request is answered with the same job."""

# ARGV: fingerprint, token, held for (ms). Returns what has become of the key, and the id of what was made.
_BEGIN = """
local found = redis.call('HMGET', KEYS[1], 'fingerprint', 'token', 'answer')
if not found[1] then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'token', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'ours', ''}
end
if found[1] ~= ARGV[1] then return {'reused', ''} end
if found[3] then return {'done', found[3]} end
if found[2] == ARGV[2] then return {'ours', ''} end
return {'busy', ''}
"""
# ARGV: token, id of what was made, kept for (ms)
FINISH = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
# ARGV: token
_RELEASE = """
local found = redis.call('HMGET', KEYS[1], 'token', 'answer')
if found[1] == ARGV[1] and not found[2] then redis.call('DEL', KEYS[1]) end
"""
# ARGV: id of what was made
_FORGET = """
if redis.call('HGET', KEYS[1], 'answer') == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to be the one request under a key."""

    key: str
    """Of Redis."""
    token: str


async def begin(redis: Redis, tenant: str, key: str, fingerprint: str) -> Claim | str:
    """Take the key, or learn the id of what the same request has made before.

    Raises: OnceBusy, OnceReused.
    """
    claim = Claim(key=_name(tenant, key), token=uuid.uuid4().hex)
    answer: Any = await redis.eval(_BEGIN, 1, claim.key, fingerprint, claim.token, HELD_MS)
    state, made = answer
    if state == "reused":
        raise OnceReused
    if state == "busy":
        raise OnceBusy
    return claim if state == "ours" else str(made)


async def release(redis: Redis, claim: Claim) -> None:
    """Give the key back: nothing was made. Harmless when something was."""
    await redis.eval(_RELEASE, 1, claim.key, claim.token)


async def forget(redis: Redis, tenant: str, key: str, made: str) -> None:
    """Free a key whose answer is gone; harmless when it has another answer by now."""
    await redis.eval(_FORGET, 1, _name(tenant, key), made)


def _name(tenant: str, key: str) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()  # a key may hold anything and be long
    return f"inversion:once:{tenant}:{digest}"
