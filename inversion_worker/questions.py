"""Short questions in Redis: the keys, the scripts, and the form of a value. Both sides of the seam use it.

    inversion:answering:{kind}   sorted set: workers that answer this kind, by until when that holds (ms)
    inversion:asked:{kind}       list: ids of questions that wait, oldest first
    inversion:question:{id}      the question; it expires at its deadline, and is gone once a worker has taken it
    inversion:reply:{id}         list of one: the reply; it expires at the same deadline
    inversion:dropped:{id}       there when nobody wants the answer any more, although a worker may be at it
    inversion:session:{name}     hash: of questions of which the newest alone counts
        turn   number of the newest
        asked  id of the one that is being asked

A kind may have topics, such as a pack: `render:PACK` has a list of its own, and workers with that topic answer it.

None of it is written to an append-only file or sent to a replica (REPL_NONE): it is nobody's business after a moment.
All times are by Redis's own clock. Whoever takes an id whose question is gone leaves it at that: nobody waits for the
answer any more. A worker that dies with a question loses it, and whoever asked is told so when the time is over.
"""

from __future__ import annotations

from pydantic import BaseModel
from redis.client import NEVER_DECODE

AS_BYTES = {NEVER_DECODE: True}
"""To redis.execute_command: the answer holds a picture, and is no text."""
INLINE_BYTES = 1024 * 1024
"""Most bytes that go with a question or a reply through Redis; more go through the artifact store."""
SWEPT_AFTER_S = 60.0
"""When a sweep takes the artifact of a question or a reply that nobody has deleted."""
_KEPT_MS = 60_000
"""How long ids wait of themselves after the last question; longer than any of them may take."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS: answering, asked, question, and perhaps a session. ARGV: id, time to answer (ms), most that wait, the question,
# and the turn in the session.
ASK = (
    _NOW
    + f"""
if KEYS[4] and redis.call('HGET', KEYS[4], 'turn') ~= ARGV[5] then return 'superseded' end
if redis.call('ZCOUNT', KEYS[1], now, '+inf') == 0 then return 'nobody' end
if redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[3]) then return 'full' end
redis.set_repl(redis.REPL_NONE)
redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], {_KEPT_MS})
if KEYS[4] then redis.call('HSET', KEYS[4], 'asked', ARGV[1]) end
return 'asked'
"""
)

# KEYS: session. ARGV: the reply to a question that is dropped. Returns the new turn.
BEGIN = f"""
redis.set_repl(redis.REPL_NONE)
local older = redis.call('HGET', KEYS[1], 'asked')
if older then
  redis.call('DEL', 'inversion:question:' .. older)
  redis.call('RPUSH', 'inversion:reply:' .. older, ARGV[1])
  redis.call('PEXPIRE', 'inversion:reply:' .. older, {_KEPT_MS})
  redis.call('SET', 'inversion:dropped:' .. older, '', 'PX', {_KEPT_MS})
  redis.call('HDEL', KEYS[1], 'asked')
end
local turn = redis.call('HINCRBY', KEYS[1], 'turn', 1)
redis.call('PEXPIRE', KEYS[1], {_KEPT_MS})
return tostring(turn)
"""

# KEYS: session. ARGV: id. The question is over, and there is nothing to drop.
END = """
redis.set_repl(redis.REPL_NONE)
if redis.call('HGET', KEYS[1], 'asked') == ARGV[1] then redis.call('HDEL', KEYS[1], 'asked') end
"""

# KEYS: expiry (see scripts.py). ARGV: id, after how long a sweep takes its artifacts (s).
HOLD = _NOW + "redis.call('ZADD', KEYS[1], now / 1000 + ARGV[2], ARGV[1])"

# KEYS: question. Returns the question, and how long it may take (ms); nothing where nobody waits any more.
TAKE = """
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms <= 0 then return nil end
return {redis.call('GETDEL', KEYS[1]), left_ms}
"""

# KEYS: reply, dropped. ARGV: the reply, for how long it is kept (ms). Nothing is said where nobody wants it any more.
REPLY = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.set_repl(redis.REPL_NONE)
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS: answering, of each kind. ARGV: worker id, for how long that holds (ms).
ANNOUNCE = (
    _NOW
    + """
for _, answering in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', answering, '-inf', now)
  redis.call('ZADD', answering, now + ARGV[2], ARGV[1])
end
"""
)


def answering_key(kind: str) -> str:
    return f"inversion:answering:{kind}"


def asked_key(kind: str) -> str:
    return f"inversion:asked:{kind}"


def question_key(question_id: str) -> str:
    return f"inversion:question:{question_id}"


def reply_key(question_id: str) -> str:
    return f"inversion:reply:{question_id}"


def dropped_key(question_id: str) -> str:
    return f"inversion:dropped:{question_id}"


def session_key(name: str) -> str:
    return f"inversion:session:{name}"


def list_of(kind: str, topic: str = "") -> str:
    """What a list of questions is called: the kind, and the topic where the kind has topics."""
    return f"{kind}:{topic}" if topic else kind


def pack(head: BaseModel, body: bytes) -> bytes:
    """A question or a reply as Redis holds it."""
    return head.model_dump_json(exclude_defaults=True).encode() + b"\n" + body


def unpack(value: bytes) -> tuple[bytes, bytes]:
    """The head, as JSON, and the body."""
    head, _, body = value.partition(b"\n")
    return head, body
