"""A tenant's jobs, newest first, page by page.

A page is found by walking down the tenant's index from the cursor and reading each record, so that what is
listed is what there is; ids whose record is gone are removed from the index on the way.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from inversion_worker import scripts, transitions
from inversion_worker.contract import JobRecord, JobStatus

_CHUNK = 100
_MOST_LOOKED_AT = 2000
"""Records that one page may cost: with a rare filter it may hold fewer than asked for, even none, and go on."""
_CURSOR = re.compile(r"(\d{1,15}):([A-Za-z0-9_-]{16,64})")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which jobs are wanted; None wants all."""

    status: JobStatus | None = None
    pack: str | None = None
    """Name of the pack that was used, or asked for while none has been used."""
    created_after: datetime | None = None
    created_before: datetime | None = None

    def want(self, record: JobRecord) -> bool:
        if self.status is not None and record.status is not self.status:
            return False
        if self.pack is not None and (record.pack_name or record.options.pack) != self.pack:
            return False
        if self.created_after is not None and record.created_at <= self.created_after:
            return False
        return self.created_before is None or record.created_at < self.created_before


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some jobs, and where the next ones begin."""

    records: list[JobRecord]
    cursor: str | None
    """None at the end."""


@dataclass(frozen=True, order=True)
class Place:
    """A job's place in its tenant's index."""

    made_ms: int
    job_id: str

    def encode(self) -> str:
        """A cursor: opaque to whoever gets it."""
        return base64.urlsafe_b64encode(f"{self.made_ms}:{self.job_id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, cursor: str) -> Place:
        """Raises: ValueError for what is no cursor."""
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        except (binascii.Error, ValueError) as error:
            raise ValueError("it is no cursor that was given out") from error
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise ValueError("it is no cursor that was given out")
        return cls(int(found[1]), found[2])


async def page(redis: Redis, tenant: str, filters: Filters, after: Place | None, limit: int) -> Page:
    """At most `limit` jobs, those behind `after` and newest first."""
    found: list[tuple[Place, JobRecord]] = []
    looked_at, ended = 0, False
    while not ended and looked_at < _MOST_LOOKED_AT:
        places, ended = await _places(redis, tenant, filters, after)
        looked_at += len(places)
        for place, record in zip(places, await _records(redis, tenant, places), strict=True):
            after = place
            if record is not None and filters.want(record):
                found.append((place, record))
            if len(found) > limit:  # one more than asked for: the page is not the last
                return Page(records=[record for _, record in found[:limit]], cursor=found[limit - 1][0].encode())
    return Page(records=[record for _, record in found], cursor=None if ended or after is None else after.encode())


async def _places(redis: Redis, tenant: str, filters: Filters, after: Place | None) -> tuple[list[Place], bool]:
    """The next places behind `after`, and whether they are the last ones.

    Of one millisecond the ids stand in falling order: so Redis has them, and so `Place` compares.
    """
    newest, oldest = _bounds(filters, after)
    offset = 0
    while True:
        entries: Any = await redis.zrange(
            scripts.index_key(tenant), newest, oldest,
            desc=True, byscore=True, withscores=True, offset=offset, num=_CHUNK,
        )  # fmt: skip
        places = [Place(int(score), job_id) for job_id, score in entries]
        behind = [place for place in places if after is None or place < after]
        ended = len(places) < _CHUNK
        if behind or ended:
            return behind, ended
        offset += _CHUNK


def _bounds(filters: Filters, after: Place | None) -> tuple[Any, Any]:
    """Highest and lowest score that can be wanted; `Filters.want` is exact within a millisecond."""
    newest = [after.made_ms] if after is not None else []
    newest += [transitions.unix_ms(filters.created_before)] if filters.created_before is not None else []
    oldest = transitions.unix_ms(filters.created_after) if filters.created_after is not None else "-inf"
    return min(newest) if newest else "+inf", oldest


async def _records(redis: Redis, tenant: str, places: list[Place]) -> list[JobRecord | None]:
    found = await records(redis, [place.job_id for place in places])
    if gone := [place.job_id for place, record in zip(places, found, strict=True) if record is None]:
        await redis.zrem(scripts.index_key(tenant), *gone)
    return found


async def records(redis: Redis, job_ids: Sequence[str]) -> list[JobRecord | None]:
    """The records of these jobs, None for one that is gone."""
    if not job_ids:
        return []
    async with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hgetall(scripts.job_key(job_id))
        stored = await pipe.execute()
    return [transitions.decode_record(fields) for fields in stored]
