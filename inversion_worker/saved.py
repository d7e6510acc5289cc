"""Edit lists that are saved with a job: they go when it goes, and one of them never changes.

A value of the hash `inversion:edits:{job}` is a line with when it was saved (us since 1970, Redis's clock) and the id
of its parent, or none; then JSON with its name and its edits. Its id is a hash of parent and JSON, so that the same
saved twice is one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from redis.asyncio import Redis

from inversion_worker.contract import MAX_SAVED_BYTES, MAX_SAVED_EDITS, SavedEdit
from inversion_worker.errors import WorkerError
from inversion_worker.scripts import Call, edits_key

# KEYS: + the edit lists. ARGV: id, id of the edit list, its parent or '', the JSON, most edit lists.
SAVE = """
local edits = KEYS[6]
if redis.call('EXISTS', job) == 0 then return 'gone' end
if redis.call('HEXISTS', edits, ARGV[2]) == 1 then return 'saved' end
if ARGV[3] ~= '' and redis.call('HEXISTS', edits, ARGV[3]) == 0 then return 'parent' end
if redis.call('HLEN', edits) >= tonumber(ARGV[5]) then return 'full' end
redis.call('HSET', edits, ARGV[2], string.format('%.0f', now_us()) .. ' ' .. ARGV[3] .. '\\n' .. ARGV[4])
redis.call('PEXPIREAT', edits, redis.call('PEXPIRETIME', job))
return 'saved'
"""

# KEYS: + the edit lists. ARGV: id, id of the edit list. Returns whether it was there.
DELETE = """
local edits = KEYS[6]
local value = redis.call('HGET', edits, ARGV[2])
if not value then return 0 end
local parent = string.match(value, '^%d+ (%x*)\\n')
redis.call('HDEL', edits, ARGV[2])
local all = redis.call('HGETALL', edits)
for i = 1, #all, 2 do
  local at, of, rest = string.match(all[i + 1], '^(%d+) (%x*)(\\n.*)$')
  if of == ARGV[2] then redis.call('HSET', edits, all[i], at .. ' ' .. parent .. rest) end
end
return 1
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unsaved(WorkerError):
    """An edit list was not saved."""

    def __init__(self, why: Literal["gone", "parent", "full", "large"]) -> None:
        """The job is gone, the parent is, there are many already, or it is too large."""
        super().__init__(why)
        self.why = why


class SavedEdits:
    """Raises from every method: redis.exceptions.RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def save(self, job_id: str, name: str, edits: list[dict[str, Any]], parent: str | None) -> SavedEdit:
        """See JobClient.save_edit. Raises: Unsaved."""
        text = json.dumps({"name": name, "edits": edits}, sort_keys=True, separators=(",", ":"))
        if len(text) > MAX_SAVED_BYTES:
            raise Unsaved("large")
        edit_id = hashlib.sha256(f"{parent or ''}\n{text}".encode()).hexdigest()[:32]
        why = await self._run(SAVE, job_id, edit_id, parent or "", text, MAX_SAVED_EDITS)
        if why != "saved":
            raise Unsaved(why)
        value = await cast(Awaitable[str | None], self._redis.hget(edits_key(job_id), edit_id))
        if value is None:  # deleted since
            raise Unsaved("gone")
        return _read(edit_id, value)

    async def all(self, job_id: str) -> list[SavedEdit]:
        """In the order in which they were saved."""
        stored = await cast(Awaitable[dict[str, str]], self._redis.hgetall(edits_key(job_id)))
        found = [_read(edit_id, value) for edit_id, value in stored.items()]
        return sorted(found, key=lambda saved: (saved.created_at, saved.id))

    async def delete(self, job_id: str, edit_id: str) -> bool:
        """See JobClient.delete_edit."""
        return bool(await self._run(DELETE, job_id, edit_id))

    async def _run(self, script: str, job_id: str, *args: str | int) -> Any:
        call = Call(script, job_id, args, (edits_key(job_id),))
        return await self._redis.eval(call.text, len(call.keys), *call.keys, *call.argv)


def _read(edit_id: str, value: str) -> SavedEdit:
    head, _, text = value.partition("\n")
    saved_us, _, parent = head.partition(" ")
    at = _EPOCH + timedelta(microseconds=int(saved_us))
    return SavedEdit(id=edit_id, parent=parent or None, created_at=at, **json.loads(text))
