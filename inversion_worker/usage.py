"""What a tenant has used, day by day. The counting happens in the scripts that change a job's state."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import cast

from redis.asyncio import Redis

from inversion_worker import scripts
from inversion_worker.contract import UsageDay

_EPOCH = date(1970, 1, 1)


async def usage(redis: Redis, tenant: str, days: int) -> list[UsageDay]:
    """The last `days` days until today, oldest first; today is by this host's clock."""
    today = datetime.now(UTC).date()
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
