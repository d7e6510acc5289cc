"""Keys in Redis, and every change of a job's state as a Lua script: it happens whole or not at all.

    inversion:job:{id}      hash: the record, a JSON value in each field, and fields of our own
        _fence     fencing token: how often the job has been claimed; only its newest holder may write
        _cancel    there when somebody asked a running job to be canceled
        _finish    there when somebody asked the job to end with the best that it has found
        _order     place in the line of queued jobs; kept when a job is handed back: when it came (us, Redis's
                   clock), and later by HEAD_START_S for each priority above its own
        _came_ms   when it came
        _sent_ms   when its message was last given to the broker
        _webhook, _hook   see outbox.py
    inversion:events:{id}   stream: what happened, in order
    inversion:queued        sorted set: queued jobs by _order
    inversion:running       sorted set: running jobs by the time their lease ends (ms, Redis's clock)
    inversion:expiry        sorted set: every job by the time it is deleted (s)
    inversion:line          hash: the last _order of each Priority.rank, so that equals keep their order
    inversion:index:{tenant}         sorted set: the tenant's jobs by when they were made (ms); gone ones are removed
                                     when somebody lists them
    inversion:known:{tenant}:{id}    a tombstone, there from the beginning: it outlives the job and holds nothing
    inversion:usage:{tenant}:{day}   hash: counts of one day (days since 1970, UTC); see `count` below
    inversion:batch:{id}             a batch, JSON
    inversion:once:{tenant}:{key}    hash: an Idempotency-Key; see once.py
    inversion:webhooks      sorted set: jobs with something to tell their webhook; see outbox.py
    inversion:totals        hash: jobs by what became of them; see meters.py
    inversion:workers       set of worker ids; inversion:worker:{id} is an announcement that expires

Leases go by Redis's own clock, so hosts need not agree on the time to the second.
"""

from __future__ import annotations

from dataclasses import dataclass

from inversion_worker.contract import HEAD_START_S

QUEUED = "inversion:queued"
RUNNING = "inversion:running"
EXPIRY = "inversion:expiry"
LINE = "inversion:line"
WORKERS = "inversion:workers"
WEBHOOKS = "inversion:webhooks"
TOTALS = "inversion:totals"
USAGE_DAYS = 400
"""How long the counts of a day are kept."""


def job_key(job_id: str) -> str:
    return f"inversion:job:{job_id}"


def events_key(job_id: str) -> str:
    return f"inversion:events:{job_id}"


def index_key(tenant: str) -> str:
    return f"inversion:index:{tenant}"


def known_key(tenant: str, job_id: str) -> str:
    return f"inversion:known:{tenant}:{job_id}"


def usage_key(tenant: str, day: int) -> str:
    return f"inversion:usage:{tenant}:{day}"


def batch_key(batch_id: str) -> str:
    return f"inversion:batch:{batch_id}"


def meters_key(worker_id: str) -> str:
    return f"inversion:meters:{worker_id}"


def worker_key(worker_id: str) -> str:
    return f"inversion:worker:{worker_id}"


@dataclass(frozen=True)
class Call:
    """One script with its arguments: the asynchronous client and the worker run the same ones."""

    body: str
    job_id: str
    args: tuple[str | int, ...] = ()
    more_keys: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole script."""
        return _PRELUDE + self.body

    @property
    def keys(self) -> tuple[str, ...]:
        """KEYS: the same for every script, then what is the script's own."""
        return (job_key(self.job_id), events_key(self.job_id), QUEUED, RUNNING, LINE, *self.more_keys)

    @property
    def argv(self) -> tuple[str | int, ...]:
        """ARGV: the job's id, then what is the script's own."""
        return (self.job_id, *self.args)


_PRELUDE = (
    f"local usage_s, head_start_us = {USAGE_DAYS * 86_400}, {HEAD_START_S * 1_000_000}"
    + """
local job, events, queued, running, line = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id = ARGV[1]
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function is(status) return redis.call('HGET', job, 'status') == '"' .. status .. '"' end
local function say(event)
  redis.call('XADD', events, '*', 'event', event)
  if redis.call('HEXISTS', job, '_webhook') == 1 then
    redis.call('ZADD', 'inversion:webhooks', 'NX', now_ms(), id)
  end
end
local function set_fields(first)
  for i = first, #ARGV, 2 do redis.call('HSET', job, ARGV[i], ARGV[i + 1]) end
end
local function holds(fence) return is('running') and redis.call('HGET', job, '_fence') == fence end
local function next_order(rank)
  local time = redis.call('TIME')
  local order = time[1] * 1e6 + time[2] + rank * head_start_us
  local last = tonumber(redis.call('HGET', line, rank) or 0)
  if order <= last then order = last + 1 end
  redis.call('HSET', line, rank, string.format('%.0f', order))
  return string.format('%.0f', order)
end
local function count(what)
  local tenant = redis.call('HGET', job, 'tenant')
  local day = math.floor(redis.call('TIME')[1] / 86400)
  local usage = 'inversion:usage:' .. (tenant and cjson.decode(tenant) or '') .. ':' .. day
  redis.call('HINCRBY', usage, what, 1)
  local seconds = redis.call('HGET', job, 'seconds')
  if what ~= 'submitted' and seconds and seconds ~= 'null' then
    redis.call('HINCRBYFLOAT', usage, 'seconds', seconds)
  end
  redis.call('EXPIRE', usage, usage_s)
  redis.call('HINCRBY', 'inversion:totals', what, 1)
end
local function finish(status, finished_at, event)
  redis.call('HSET', job, 'status', '"' .. status .. '"', 'finished_at', finished_at)
  redis.call('HDEL', job, '_cancel', '_finish')
  redis.call('ZREM', queued, id)
  redis.call('ZREM', running, id)
  count(status)
  if status == 'failed' then
    redis.call('HINCRBY', 'inversion:totals', 'failed:' .. cjson.decode(event).error.type, 1)
  end
  say(event)
end
local function queue_again(sent_ms, event)
  redis.call('HSET', job, 'status', '"queued"', '_sent_ms', sent_ms)
  redis.call('ZREM', running, id)
  redis.call('ZADD', queued, redis.call('HGET', job, '_order'), id)
  say(event)
end
"""
)

# KEYS: + the tenant's index, the tombstone, and perhaps the Idempotency-Key.
# ARGV: id, expires at (ms), event, made at (ms), tombstone ends (ms), rank of the priority, token of the
# Idempotency-Key or '', then field and value in turn. Returns 0, and does nothing, when that key is another's.
SUBMIT = """
if redis.call('EXISTS', job) == 1 then return 1 end
if ARGV[7] ~= '' and redis.call('HGET', KEYS[8], 'token') ~= ARGV[7] then return 0 end
local order = next_order(ARGV[6])
redis.call('HSET', job, '_fence', 0, '_order', order, '_came_ms', now_ms(), '_sent_ms', now_ms())
set_fields(8)
if type(cjson.decode(redis.call('HGET', job, 'options')).webhook) == 'string' then
  redis.call('HSET', job, '_webhook', 1)
end
say(ARGV[3])
redis.call('PEXPIREAT', job, ARGV[2])
redis.call('PEXPIREAT', events, ARGV[2])
redis.call('ZADD', queued, order, id)
redis.call('ZADD', KEYS[6], ARGV[4], id)
if redis.call('PEXPIRETIME', KEYS[6]) < tonumber(ARGV[2]) then redis.call('PEXPIREAT', KEYS[6], ARGV[2]) end
redis.call('SET', KEYS[7], '', 'PXAT', ARGV[5])
count('submitted')
return 1
"""

# ARGV: id, lease (ms), now. Returns the fencing token; 0 for a job that is gone, running or finished.
CLAIM = """
if not is('queued') then
  redis.call('ZREM', queued, id)
  return 0
end
redis.call('HSET', job, 'status', '"running"')
redis.call('HINCRBY', job, 'attempts', 1)
if redis.call('HGET', job, 'started_at') == 'null' then redis.call('HSET', job, 'started_at', ARGV[3]) end
redis.call('ZREM', queued, id)
redis.call('ZADD', running, now_ms() + ARGV[2], id)
return redis.call('HINCRBY', job, '_fence', 1)
"""

# ARGV: id, fence, lease (ms), event or '', fields. Returns -1 for a lost lease, else what was asked for (see Asked).
UPDATE = """
if not holds(ARGV[2]) then return -1 end
set_fields(5)
if ARGV[4] ~= '' then say(ARGV[4]) end
redis.call('ZADD', running, now_ms() + ARGV[3], id)
if redis.call('HEXISTS', job, '_cancel') == 1 then return 1 end
return 2 * redis.call('HEXISTS', job, '_finish')
"""

# ARGV: id, fence, final status, now, event, fields. Returns -1 for a lost lease.
FINISH = """
if not holds(ARGV[2]) then return -1 end
set_fields(6)
finish(ARGV[3], ARGV[4], ARGV[5])
return 0
"""

# ARGV: id, fence, now, event of queued, event of canceled. The attempt is not counted.
HAND_BACK = """
if not holds(ARGV[2]) then return -1 end
redis.call('HINCRBY', job, 'attempts', -1)
if redis.call('HEXISTS', job, '_cancel') == 1 then
  finish('canceled', ARGV[3], ARGV[5])
else
  queue_again(now_ms(), ARGV[4])
end
return 0
"""

# ARGV: id, attempts allowed, now, events of queued, canceled and failed, error. Returns what became of it.
RECLAIM = """
local lease_ends = redis.call('ZSCORE', running, id)
if not lease_ends or tonumber(lease_ends) > now_ms() then return 'live' end
if not is('running') then
  redis.call('ZREM', running, id)
  return 'gone'
end
if redis.call('HEXISTS', job, '_cancel') == 1 then
  finish('canceled', ARGV[3], ARGV[5])
  return 'canceled'
end
if tonumber(redis.call('HGET', job, 'attempts')) >= tonumber(ARGV[2]) then
  redis.call('HSET', job, 'error', ARGV[7])
  finish('failed', ARGV[3], ARGV[6])
  return 'failed'
end
queue_again(0, ARGV[4])
return 'queued'
"""

# ARGV: id, age (ms). Returns 1, and notes it as sent now, when the job's message was sent that long ago.
MARK_SENT = """
if not is('queued') then
  redis.call('ZREM', queued, id)
  return 0
end
if now_ms() - redis.call('HGET', job, '_sent_ms') < tonumber(ARGV[2]) then return 0 end
redis.call('HSET', job, '_sent_ms', now_ms())
return 1
"""

# ARGV: id, now, event. Returns 1 when the job is now canceled, 2 when its worker was asked, else 0.
CANCEL = """
if is('queued') then
  finish('canceled', ARGV[2], ARGV[3])
  return 1
end
if not is('running') then return 0 end
redis.call('HSET', job, '_cancel', 1)
return 2
"""

# ARGV: id. Returns 1 when the job will end with the best that it finds, 0 for one that has ended or is gone.
END_EARLY = """
if not is('queued') and not is('running') then return 0 end
redis.call('HSET', job, '_finish', 1)
return 1
"""
