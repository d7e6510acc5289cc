"""Keys in Redis, and every change of a job's state as a Lua script: it happens whole or not at all.

    inversion:job:{id}      hash: the record, a JSON value in each field, and fields of our own
        _fence     fencing token: how often the job has been claimed; only its newest holder may write
        _cancel    there when somebody asked a running job to be canceled
        _finish    there when somebody asked the job to end with the best that it has found
        _order     place in the line of queued jobs; kept when a job is handed back: when it came (us, Redis's
                   clock), and later by HEAD_START_S for each priority above its own
        _came_ms   when it came
        _ttl_ms    how long it is kept once it has ended
        _sent_ms   when its message was last given to the broker
        _webhook, _hook   see outbox.py
    inversion:events:{id}   stream: what happened, in order
    inversion:queued        sorted set: queued jobs by _order
    inversion:running       sorted set: running jobs by the time their lease ends (ms, Redis's clock)
    inversion:expiry        sorted set: every job by the time it is deleted (s): `_ttl_ms` after its end, and until
                            then the time at which it is given up
    inversion:orphans       sorted set: folders that no job knows, by when that was first seen (ms)
    inversion:farewell:{id} hash: of a job that went before its end, what its webhook is still to be told; see outbox.py
    inversion:edits:{id}    hash: edit lists that are saved with the job; see saved.py
    inversion:direction:{id}, inversion:directions:{tenant}   directions of a tenant's own; see directions.py
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

Every time is that of Redis's own clock, so hosts need not agree on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from inversion_worker.contract import HEAD_START_S

QUEUED = "inversion:queued"
RUNNING = "inversion:running"
EXPIRY = "inversion:expiry"
ORPHANS = "inversion:orphans"
LINE = "inversion:line"
WORKERS = "inversion:workers"
WEBHOOKS = "inversion:webhooks"
TOTALS = "inversion:totals"
USAGE_DAYS = 400
"""How long the counts of a day are kept."""
TOMBSTONE_MS = 7 * 24 * 3600 * 1000
"""How long an expired job's id is still known as such."""
SPARE_MS = 10 * 60 * 1000
"""A job that has not ended is given up by a sweep, which says so; without a sweep Redis forgets it so much later."""
LAST_WORD_MS = 60 * 1000
"""How long the event stream of a job that is gone still says so."""
FAREWELL_MS = 6 * 3600 * 1000
"""How long it is tried to tell a webhook that the job is gone."""


def job_key(job_id: str) -> str:
    return f"inversion:job:{job_id}"


def events_key(job_id: str) -> str:
    return f"inversion:events:{job_id}"


def farewell_key(job_id: str) -> str:
    return f"inversion:farewell:{job_id}"


def edits_key(job_id: str) -> str:
    return f"inversion:edits:{job_id}"


def direction_key(direction_id: str) -> str:
    return f"inversion:direction:{direction_id}"


def directions_key(tenant: str) -> str:
    return f"inversion:directions:{tenant}"


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
    f"local usage_s, head_start_us = {USAGE_DAYS * 86_400}, {HEAD_START_S * 1_000_000}\n"
    f"local tombstone_ms, spare_ms = {TOMBSTONE_MS}, {SPARE_MS}\n"
    f"local last_word_ms, farewell_ms = {LAST_WORD_MS}, {FAREWELL_MS}\n"
    + """
local job, events, queued, running, line = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id = ARGV[1]
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
-- A time (us since 1970) as JSON. Redis's Lua has no os.date; the days are counted in years that begin in March.
local function iso(us)
  local seconds = math.floor(us / 1000000)
  local days = math.floor(seconds / 86400)
  local of_day = seconds - 86400 * days
  local era = math.floor((days + 719468) / 146097)
  local of_era = days + 719468 - 146097 * era
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - 365 * year - math.floor(year / 4) + math.floor(year / 100)
  local month = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  return string.format('"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ"', year + 400 * era + (month < 3 and 1 or 0), month, day,
    math.floor(of_day / 3600), math.floor(of_day / 60) % 60, of_day % 60, us - 1000000 * seconds)
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
local function tenant_of()
  local tenant = redis.call('HGET', job, 'tenant')
  return tenant and cjson.decode(tenant) or ''
end
local function count(what)
  local day = math.floor(redis.call('TIME')[1] / 86400)
  local usage = 'inversion:usage:' .. tenant_of() .. ':' .. day
  redis.call('HINCRBY', usage, what, 1)
  local seconds = redis.call('HGET', job, 'seconds')
  if what ~= 'submitted' and seconds and seconds ~= 'null' then
    redis.call('HINCRBYFLOAT', usage, 'seconds', seconds)
  end
  redis.call('EXPIRE', usage, usage_s)
  redis.call('HINCRBY', 'inversion:totals', what, 1)
end
local function keep_until(ms, more_ms)
  redis.call('HSET', job, 'expires_at', iso(1000 * ms))
  redis.call('ZADD', 'inversion:expiry', ms / 1000, id)
  redis.call('PEXPIREAT', job, ms + more_ms)
  redis.call('PEXPIREAT', events, ms + more_ms)
  redis.call('PEXPIREAT', 'inversion:edits:' .. id, ms + more_ms)
  redis.call('PEXPIREAT', 'inversion:known:' .. tenant_of() .. ':' .. id, ms + tombstone_ms)
end
local function finish(status, event)
  redis.call('HSET', job, 'status', '"' .. status .. '"', 'finished_at', iso(now_us()))
  redis.call('HDEL', job, '_cancel', '_finish')
  redis.call('ZREM', queued, id)
  redis.call('ZREM', running, id)
  count(status)
  if status == 'failed' then
    redis.call('HINCRBY', 'inversion:totals', 'failed:' .. cjson.decode(event).error.type, 1)
  end
  say(event)
  local ttl_ms = redis.call('HGET', job, '_ttl_ms')
  if ttl_ms then keep_until(now_ms() + ttl_ms, 0) end
end
local function bid_farewell(event, event_id)
  local farewell = 'inversion:farewell:' .. id
  for _, field in ipairs({'id', 'tenant', 'status', 'request_id', 'created_at', 'expires_at'}) do
    redis.call('HSET', farewell, field, redis.call('HGET', job, field))
  end
  local metadata = redis.call('HGET', job, 'metadata')
  if metadata then redis.call('HSET', farewell, 'metadata', metadata) end
  local options = cjson.decode(redis.call('HGET', job, 'options'))
  local kept = cjson.encode({webhook = options.webhook, webhook_events = options.webhook_events})
  redis.call('HSET', farewell, 'options', kept, '_event', event, '_event_id', event_id)
  redis.call('PEXPIRE', farewell, farewell_ms)
  redis.call('ZADD', 'inversion:webhooks', 'NX', now_ms(), id)
end
-- Nothing stays of the job. Those who follow one that had not ended are told so, for a moment.
local function go(event)
  if is('queued') or is('running') then
    redis.call('XTRIM', events, 'MAXLEN', 0)
    local event_id = redis.call('XADD', events, '*', 'event', event)
    redis.call('PEXPIRE', events, last_word_ms)
    if redis.call('HEXISTS', job, '_webhook') == 1 then bid_farewell(event, event_id) end
  else
    redis.call('DEL', events)
  end
  redis.call('ZREM', 'inversion:index:' .. tenant_of(), id)
  redis.call('DEL', job, 'inversion:edits:' .. id)
  redis.call('ZREM', queued, id)
  redis.call('ZREM', running, id)
  redis.call('ZADD', 'inversion:expiry', now_ms() / 1000, id)
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
# ARGV: id, given up at (ms), event, made at (ms), kept after its end for (ms), rank of the priority, token of the
# Idempotency-Key or '', then field and value in turn. Returns 0, and does nothing, when that key is another's.
SUBMIT = """
if redis.call('EXISTS', job) == 1 then return 1 end
if ARGV[7] ~= '' and redis.call('HGET', KEYS[8], 'token') ~= ARGV[7] then return 0 end
local order = next_order(ARGV[6])
redis.call('HSET', job, '_fence', 0, '_order', order, '_came_ms', now_ms(), '_sent_ms', now_ms(), '_ttl_ms', ARGV[5])
set_fields(8)
if type(cjson.decode(redis.call('HGET', job, 'options')).webhook) == 'string' then
  redis.call('HSET', job, '_webhook', 1)
end
say(ARGV[3])
redis.call('SET', KEYS[7], '')
keep_until(tonumber(ARGV[2]), spare_ms)
redis.call('ZADD', queued, order, id)
redis.call('ZADD', KEYS[6], ARGV[4], id)
local longest_ms = ARGV[2] + ARGV[5]
if redis.call('PEXPIRETIME', KEYS[6]) < longest_ms then redis.call('PEXPIREAT', KEYS[6], longest_ms) end
count('submitted')
return 1
"""

# ARGV: id, lease (ms). Returns the fencing token; 0 for a job that is gone, running or finished.
CLAIM = """
if not is('queued') then
  redis.call('ZREM', queued, id)
  return 0
end
redis.call('HSET', job, 'status', '"running"')
redis.call('HINCRBY', job, 'attempts', 1)
if redis.call('HGET', job, 'started_at') == 'null' then redis.call('HSET', job, 'started_at', iso(now_us())) end
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

# ARGV: id, fence, final status, event, fields. Returns -1 for a lost lease.
FINISH = """
if not holds(ARGV[2]) then return -1 end
set_fields(5)
finish(ARGV[3], ARGV[4])
return 0
"""

# ARGV: id, fence, event of queued, event of canceled. The attempt is not counted.
HAND_BACK = """
if not holds(ARGV[2]) then return -1 end
redis.call('HINCRBY', job, 'attempts', -1)
if redis.call('HEXISTS', job, '_cancel') == 1 then
  finish('canceled', ARGV[4])
else
  queue_again(now_ms(), ARGV[3])
end
return 0
"""

# ARGV: id, attempts allowed, events of queued, canceled and failed, error. Returns what became of it.
RECLAIM = """
local lease_ends = redis.call('ZSCORE', running, id)
if not lease_ends or tonumber(lease_ends) > now_ms() then return 'live' end
if not is('running') then
  redis.call('ZREM', running, id)
  return 'gone'
end
if redis.call('HEXISTS', job, '_cancel') == 1 then
  finish('canceled', ARGV[4])
  return 'canceled'
end
if tonumber(redis.call('HGET', job, 'attempts')) >= tonumber(ARGV[2]) then
  redis.call('HSET', job, 'error', ARGV[6])
  finish('failed', ARGV[5])
  return 'failed'
end
queue_again(0, ARGV[3])
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

# ARGV: id, event. Returns 1 when the job is now canceled, 2 when its worker was asked, else 0.
CANCEL = """
if is('queued') then
  finish('canceled', ARGV[2])
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

# KEYS: + the tenant's index, the tombstone. ARGV: id, event of deleted. Returns whether there was such a job.
DELETE = """
redis.call('ZREM', KEYS[6], id)
redis.call('DEL', KEYS[7])
if redis.call('EXISTS', job) == 0 then return 0 end
go(ARGV[2])
return 1
"""

# ARGV: id, event of expired. Returns whether the time of a job, or of a direction, is over, and its files are to go.
EXPIRE = """
local ends = redis.call('ZSCORE', 'inversion:expiry', id)
if ends and 1000 * ends > now_ms() then return 0 end
if redis.call('EXISTS', job) == 1 then go(ARGV[2]) end
local direction = redis.call('GET', 'inversion:direction:' .. id)
if direction then
  local record = cjson.decode(direction)
  local weights = record.digest ~= '' and record.digest or record.pack
  redis.call('HDEL', 'inversion:directions:' .. record.tenant, weights .. '/' .. record.name)
  redis.call('DEL', 'inversion:direction:' .. id)
end
return 1
"""

# KEYS: expiry. Returns the jobs whose time is over.
DUE = """
local time = redis.call('TIME')
return redis.call('ZRANGE', KEYS[1], '-inf', time[1] + time[2] / 1000000, 'BYSCORE')
"""

# KEYS: expiry, orphans. ARGV: age (ms), ids of folders. Returns those that no job has known for so long.
ORPHANED = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local old = {}
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) or redis.call('EXISTS', 'inversion:job:' .. ARGV[i]) == 1 then
    redis.call('ZREM', KEYS[2], ARGV[i])
  else
    redis.call('ZADD', KEYS[2], 'NX', now_ms, ARGV[i])
    if tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i])) <= now_ms - ARGV[1] then old[#old + 1] = ARGV[i] end
  end
end
redis.call('PEXPIRE', KEYS[2], 24 * ARGV[1])
return old
"""
