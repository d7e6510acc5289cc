"""What a tenant has used, day by day. Jobs are counted in the scripts that change their state."""

from __future__ import annotations

from datetime import date, timedelta
from typing import cast

from redis.asyncio import Redis

from inversion_worker import scripts
from inversion_worker.clock import server_time
from inversion_worker.contract import UsageDay

_EPOCH = date(1970, 1, 1)

# ARGV: tenant, what, for how long it is kept (s). The day is by Redis's clock, as in scripts.py.
_COUNT = """
local usage = 'inversion:usage:' .. ARGV[1] .. ':' .. math.floor(redis.call('TIME')[1] / 86400)
redis.call('HINCRBY', usage, ARGV[2], 1)
redis.call('EXPIRE', usage, ARGV[3])
"""


async def count(redis: Redis, tenant: str, what: str) -> None:
    """Count one of what is no job."""
    await redis.eval(_COUNT, 0, tenant, what, scripts.USAGE_DAYS * 86_400)


async def usage(redis: Redis, tenant: str, days: int) -> list[UsageDay]:
    """The last `days` days until today, oldest first; today is by Redis's clock."""
    today = (await server_time(redis)).date()
    dates = [today - timedelta(days=back) for back in reversed(range(days))]
    async with redis.pipeline(transaction=False) as pipe:
        for day in dates:
            pipe.hgetall(scripts.usage_key(tenant, (day - _EPOCH).days))
        found = await pipe.execute()
    return [_day(day, cast(dict[str, str], counts)) for day, counts in zip(dates, found, strict=True)]


def _day(day: date, counts: dict[str, str]) -> UsageDay:
    known = {name: float(text) for name, text in counts.items() if name in UsageDay.model_fields}
    seconds = round(known.pop("seconds", 0.0), 3)
    return UsageDay(date=day, seconds=seconds, **{name: int(count) for name, count in known.items()})
