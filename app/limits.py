"""How often a caller may ask: a token bucket in Redis, one for each key, and what its header fields say.

A bucket holds `burst` tokens at most and gains `per_s` of them a second; a request takes one, or is turned away.
One script reads and writes it, so any number of API processes share it.

Header fields: draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, cast

from redis.asyncio import Redis

_POLICY = "requests"
# KEYS: the bucket. ARGV: tokens a second, most tokens. Returns whether one was taken, and how many are left.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local per_s, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = burst
if kept[1] then tokens = math.min(burst, kept[1] + math.max(0, now - kept[2]) * per_s) end
local taken = tokens >= 1
if taken then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / per_s * 1000) + 1000)
return {taken and 1 or 0, string.format('%.6f', tokens)}
"""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What every caller is given."""

    per_s: float
    """Requests a second, in the long run."""
    burst: int
    """Requests at once."""

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError("A rate limit lets at least one request through, and more as time goes by.")

    @property
    def window_s(self) -> int:
        """Seconds in which an empty bucket is full again."""
        return math.ceil(self.burst / self.per_s)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a bucket said to one request."""

    policy: Policy
    allowed: bool
    tokens: float
    """Left in the bucket afterwards."""

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until there is a token again."""
        return max(1, math.ceil((1 - self.tokens) / self.policy.per_s))

    @property
    def headers(self) -> dict[str, str]:
        """For the answer, whatever it is."""
        full_s = math.ceil((self.policy.burst - self.tokens) / self.policy.per_s)
        return {
            "RateLimit-Policy": f'"{_POLICY}";q={self.policy.burst};w={self.policy.window_s}',
            "RateLimit": f'"{_POLICY}";r={int(self.tokens)};t={full_s}',
        }


class Buckets(Protocol):
    """Where tokens are taken from."""

    async def take(self, name: str, policy: Policy) -> Verdict:
        """Take one token of the caller called `name`. Raises: redis.exceptions.RedisError."""


class RedisBuckets:
    """Buckets that all API processes share."""

    def __init__(self, redis: Redis) -> None:
        self._take = redis.register_script(_TAKE)

    async def take(self, name: str, policy: Policy) -> Verdict:
        answer = self._take(keys=[f"inversion:rate:{name}"], args=[policy.per_s, policy.burst])
        taken, tokens = await cast(Awaitable[tuple[int, str]], answer)
        return Verdict(policy=policy, allowed=bool(taken), tokens=float(tokens))
