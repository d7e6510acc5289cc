"""API keys: what one is, how one is made, and where they are kept.

    inversion:keys          set of key ids
    inversion:key:{id}      hash: digest, name, tenant, scopes, created_at
    inversion:keys-used     hash: id -> when it was last seen, to a few seconds
    inversion:tenant:{name} hash: webhook_secrets, the newest first, as a JSON list

A key is `inv_{id}_{secret}` with a secret of 256 random bits. Redis holds its SHA-256 alone: nothing slower is
needed against guessing where there is nothing to guess from, and a check of each request stays cheap.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from redis.asyncio import Redis

from inversion_app.signing import make_secret
from inversion_worker.client import server_time

KEYS = "inversion:keys"
USED = "inversion:keys-used"
TENANT_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
MAX_NAME = 100
MAX_SECRETS = 2
"""A new webhook secret and the one before: receivers can change over without losing a message."""
_TOKEN = re.compile(r"inv_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Scope(StrEnum):
    """What a key may do. None includes another."""

    READ = "read"
    """Look at what its tenant has: every GET."""
    WRITE = "write"
    """Submit, cancel, delete: everything else."""
    ADMIN = "admin"
    """See the whole service's figures. Nobody's pictures."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key, without its secret."""

    id: str
    digest: str
    """SHA-256 of the whole key, hexadecimal."""
    name: str
    """For people: who or what uses it."""
    tenant: str
    """Whose inversions it sees. Several keys may share one."""
    scopes: frozenset[Scope]
    created_at: datetime
    used_at: datetime | None = None
    """None while it has not been used."""

    def __post_init__(self) -> None:
        if not re.fullmatch(TENANT_PATTERN, self.tenant):
            raise ValueError("A tenant's name has 1 to 64 of: letters, digits, dot, hyphen, underscore.")
        if not 1 <= len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise ValueError(f"A key's name has 1 to {MAX_NAME} printable characters.")
        if not self.scopes:
            raise ValueError("A key without a scope opens nothing: give read, write or admin.")

    def opens(self, token: str) -> bool:
        """Whether `token` is this key; takes the same time for every wrong one."""
        return hmac.compare_digest(self.digest, digest_of(token))


def make_token() -> tuple[str, str]:
    """A new key and its id."""
    key_id = secrets.token_hex(6)
    return f"inv_{key_id}_{secrets.token_urlsafe(32)}", key_id


def id_of(token: str) -> str | None:
    """The id in a key; None where it has not the form of one."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def digest_of(token: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(token.encode()).hexdigest()


class KeyStore:
    """The keys in Redis. Raises from every method: redis.exceptions.RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def create(self, name: str, tenant: str | None, scopes: Iterable[Scope]) -> tuple[Key, str]:
        """Make a key; the second value is the key itself, which cannot be had again.

        Without `tenant` it gets one of its own. Raises: ValueError for a name that will not do.
        """
        token, key_id = make_token()
        key = Key(
            id=key_id,
            digest=digest_of(token),
            name=name,
            tenant=tenant or f"t-{key_id}",
            scopes=frozenset(scopes),
            created_at=await server_time(self._redis),
        )
        async with self._redis.pipeline() as pipe:
            pipe.hset(_key(key_id), mapping=_encode(key))
            pipe.hsetnx(_tenant(key.tenant), "webhook_secrets", json.dumps([make_secret()]))
            pipe.sadd(KEYS, key_id)
            await pipe.execute()
        return key, token

    async def find(self, key_id: str) -> Key | None:
        """The key of that id; None when there is none, or no longer."""
        stored = cast(dict[str, str], await self._redis.hgetall(_key(key_id)))
        return _decode(key_id, stored, None) if stored else None

    async def every(self) -> list[Key]:
        """All keys, the oldest first."""
        ids = cast(set[str], await self._redis.smembers(KEYS))
        used = cast(dict[str, str], await self._redis.hgetall(USED))
        stored = {key_id: cast(dict[str, str], await self._redis.hgetall(_key(key_id))) for key_id in ids}
        keys = [_decode(key_id, fields, used.get(key_id)) for key_id, fields in stored.items() if fields]
        return sorted(keys, key=lambda key: key.created_at)

    async def revoke(self, key_id: str) -> bool:
        """Make a key worthless; says whether there was one. Its tenant's inversions stay until they expire."""
        async with self._redis.pipeline() as pipe:
            pipe.delete(_key(key_id))
            pipe.srem(KEYS, key_id)
            pipe.hdel(USED, key_id)
            return bool((await pipe.execute())[0])

    async def note_use(self, key_id: str) -> None:
        """Remember that the key was used now."""
        now = await server_time(self._redis)
        await self._redis.hset(USED, key_id, now.isoformat(timespec="seconds"))

    async def webhook_secrets(self, tenant: str) -> list[str]:
        """Secrets that sign what is sent for a tenant, the newest first; empty for one that has no key."""
        text = cast(str | None, await self._redis.hget(_tenant(tenant), "webhook_secrets"))
        return cast(list[str], json.loads(text)) if text else []

    async def rotate_webhook_secret(self, tenant: str) -> list[str]:
        """Put a new secret before the one in use; both sign until the next time."""
        found = [make_secret(), *await self.webhook_secrets(tenant)][:MAX_SECRETS]
        await self._redis.hset(_tenant(tenant), "webhook_secrets", json.dumps(found))
        return found


def _key(key_id: str) -> str:
    return f"inversion:key:{key_id}"


def _tenant(tenant: str) -> str:
    return f"inversion:tenant:{tenant}"


def _encode(key: Key) -> dict[Any, Any]:
    return {
        "digest": key.digest,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": " ".join(sorted(key.scopes)),
        "created_at": key.created_at.isoformat(),
    }


def _decode(key_id: str, stored: dict[str, str], used_at: str | None) -> Key:
    return Key(
        id=key_id,
        digest=stored["digest"],
        name=stored["name"],
        tenant=stored["tenant"],
        scopes=frozenset(Scope(scope) for scope in stored["scopes"].split()),
        created_at=datetime.fromisoformat(stored["created_at"]),
        used_at=datetime.fromisoformat(used_at) if used_at else None,
    )
