"""How often a caller may ask: a token bucket in Redis, one for each key or address, and what its header fields say.

A bucket holds `burst` tokens at most and gains `per_s` of them a second; a request takes one, or is turned away.
One script reads and writes it, so any number of API processes share it.

Header fields: draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, cast

from redis.asyncio import Redis

# KEYS: the bucket. ARGV: tokens a second, most tokens, how many to take: 1, or 0 to look. Returns whether there was
# one, and how many are left.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local per_s, burst, asked = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = burst
if kept[1] then tokens = math.min(burst, kept[1] + math.max(0, now - kept[2]) * per_s) end
local is_there = tokens >= 1
if asked == 0 then return {is_there and 1 or 0, string.format('%.6f', tokens)} end
if is_there then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / per_s * 1000) + 1000)
return {is_there and 1 or 0, string.format('%.6f', tokens)}
"""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What every caller is given."""

    per_s: float
    """Requests a second, in the long run."""
    burst: int
    """Requests at once."""
    name: str = "requests"
    """As the header fields call it."""

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError("A rate limit lets at least one request through, and more as time goes by.")

    @property
    def window_s(self) -> int:
        """Seconds in which an empty bucket is full again."""
        return math.ceil(self.burst / self.per_s)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a bucket said to one request, or to one look."""

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
            "RateLimit-Policy": f'"{self.policy.name}";q={self.policy.burst};w={self.policy.window_s}',
            "RateLimit": f'"{self.policy.name}";r={int(self.tokens)};t={full_s}',
        }


class Buckets(Protocol):
    """Where tokens are taken from."""

    async def take(self, name: str, policy: Policy) -> Verdict:
        """Take one token of the caller called `name`. Raises: redis.exceptions.RedisError."""

    async def look(self, name: str, policy: Policy) -> Verdict:
        """What taking one would say, without taking it. Raises: as `take`."""


class RedisBuckets:
    """Buckets that all API processes share."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.register_script(_TAKE)

    async def take(self, name: str, policy: Policy) -> Verdict:
        return await self._ask(name, policy, 1)

    async def look(self, name: str, policy: Policy) -> Verdict:
        return await self._ask(name, policy, 0)

    async def _ask(self, name: str, policy: Policy, tokens: int) -> Verdict:
        answer = self._script(keys=[f"inversion:rate:{name}"], args=[policy.per_s, policy.burst, tokens])
        is_there, left = await cast(Awaitable[tuple[int, str]], answer)
        return Verdict(policy=policy, allowed=bool(is_there), tokens=float(left))


def address_name(address: str) -> str:
    """The bucket of an IP address; of IPv6 that of its /64, since whoever has one address there has them all."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"address:{address}"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return f"address:{ipaddress.ip_network((found, 64), strict=False)}"
    return f"address:{getattr(found, 'ipv4_mapped', None) or found}"
