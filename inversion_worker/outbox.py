"""Which jobs have something to tell their webhook. The events themselves stay in the job's own stream.

    inversion:webhooks     sorted set: jobs with an event that may be unsent, by when to look at them next (ms)
    inversion:job:{id}     two further fields of our own
        _webhook      there when the job has a webhook: `say` in scripts.py then notes each event here, in the
                      same step, so neither can be lost without the other
        _hook         JSON: id of the last event that is dealt with, and how often the next one has failed

    inversion:farewell:{id}  hash: of a job that went before its end, what it takes to tell its webhook so: a few fields
                      of the record, `_event` and `_event_id`. Gone when it is told, or after FAREWELL_MS.

Any process may deliver: it claims a job for a while, and if it dies meanwhile another one does it again.
So every message is sent at least once, and may come twice under the same id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis

from inversion_worker import scripts, transitions
from inversion_worker.contract import JobEvent, JobRecord
from inversion_worker.scripts import WEBHOOKS, Call

# KEYS: webhooks. ARGV: how many, for how long (ms). Returns ids that no other process gets meanwhile.
_CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[2], id) end
return due
"""

# ARGV: id, JSON of _hook, when to look again (ms from now)
_SETTLE = """
local at = redis.call('EXISTS', job) == 1 and job or KEYS[6]
if redis.call('EXISTS', at) == 0 then
  redis.call('ZREM', 'inversion:webhooks', id)
  return
end
redis.call('HSET', at, '_hook', ARGV[2])
redis.call('ZADD', 'inversion:webhooks', now_ms() + ARGV[3], id)
"""

# ARGV: id, JSON of _hook, id of the last event seen. An event that was said since then is looked at at once.
_REST = """
redis.call('ZREM', 'inversion:webhooks', id)
if redis.call('EXISTS', job) == 0 then
  if redis.call('HGET', KEYS[6], '_event_id') == ARGV[3] then redis.call('DEL', KEYS[6])
  elseif redis.call('EXISTS', KEYS[6]) == 1 then redis.call('ZADD', 'inversion:webhooks', now_ms(), id) end
  return
end
redis.call('HSET', job, '_hook', ARGV[2])
if #redis.call('XRANGE', events, '(' .. ARGV[3], '+', 'COUNT', 1) > 0 then
  redis.call('ZADD', 'inversion:webhooks', now_ms(), id)
end
"""

# ARGV: id
_FORGET = """
redis.call('ZREM', 'inversion:webhooks', id)
redis.call('HDEL', job, '_webhook')
redis.call('DEL', KEYS[6])
"""


_FIRST = '["0", 0]'
"""`_hook` of a job that has told nothing yet."""


@dataclass(frozen=True, kw_only=True)
class Unsent:
    """What one job may have to tell."""

    record: JobRecord
    """As it was when the last of these events was said, or later."""
    after: str
    """Id of the last event that is dealt with; 0 at first."""
    tries: int
    """How often the first message after that has failed."""
    events: Sequence[tuple[str, JobEvent]]
    """All events after that, in order."""
    now_s: int = 0
    """Seconds since 1970, by Redis's clock."""


class Outbox:
    """Raises from every method: redis.exceptions.RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def claim(self, most: int, for_s: float) -> list[str]:
        """Jobs to look at now; each is given to one caller, and to another one when `for_s` is over."""
        found = await self._redis.eval(_CLAIM, 1, WEBHOOKS, most, int(for_s * 1000))
        return cast(list[str], found)

    async def unsent(self, job_id: str) -> Unsent | None:
        """What the job has to tell; None when it is gone."""
        hook = cast(str | None, await self._redis.hget(scripts.job_key(job_id), "_hook"))
        after, tries = json.loads(hook or _FIRST)
        async with self._redis.pipeline(transaction=True) as pipe:  # the record is that of the last of these events
            pipe.time()
            pipe.hgetall(scripts.job_key(job_id))
            pipe.xrange(scripts.events_key(job_id), min=f"({after}")
            pipe.hgetall(scripts.farewell_key(job_id))
            (now_s, _), stored, entries, farewell = await pipe.execute()
        events = [(event_id, transitions.decode_event(fields["event"])) for event_id, fields in entries]
        if not stored and farewell:
            stored = farewell
            after, tries = json.loads(farewell.get("_hook", _FIRST))
            events = [_farewell(farewell)] if farewell["_event_id"] != after else []
        record = transitions.decode_record(stored)
        if record is None:
            return None
        return Unsent(record=record, after=after, tries=tries, events=events, now_s=now_s)

    async def settle(self, job_id: str, after: str, tries: int, again_s: float) -> None:
        """Note how far the job is, and look at it again in `again_s`."""
        await self._run(_call(_SETTLE, job_id, json.dumps([after, tries]), int(again_s * 1000)))

    async def rest(self, job_id: str, after: str) -> None:
        """Note that everything up to `after` is dealt with; the next event brings the job back."""
        await self._run(_call(_REST, job_id, json.dumps([after, 0]), after))

    async def forget(self, job_id: str) -> None:
        """Never look at the job again, whatever it has to tell."""
        await self._run(_call(_FORGET, job_id))

    async def _run(self, call: Call) -> Any:
        return await self._redis.eval(call.text, len(call.keys), *call.keys, *call.argv)


def _farewell(stored: dict[str, str]) -> tuple[str, JobEvent]:
    return stored["_event_id"], transitions.decode_event(stored["_event"])


def _call(body: str, job_id: str, *args: str | int) -> Call:
    """KEYS: + the job's farewell."""
    return Call(body, job_id, args, (scripts.farewell_key(job_id),))
