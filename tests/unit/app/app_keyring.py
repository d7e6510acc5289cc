"""Keys and buckets of a test, in the place of Redis."""

from __future__ import annotations

from datetime import UTC, datetime

from inversion_app.caller import Authenticator
from inversion_app.keys import Key, Scope, digest_of, make_token
from inversion_app.limits import Buckets, Policy, Verdict
from inversion_app.stores import Stores


class Ring:
    """The keys of a test."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.asked = 0
        self.used: list[str] = []
        self.outage: Exception | None = None

    def make(self, tenant: str, *scopes: Scope) -> str:
        token, key_id = make_token()
        self.keys[key_id] = Key(
            id=key_id,
            digest=digest_of(token),
            name="test",
            tenant=tenant,
            scopes=frozenset(scopes or (Scope.READ, Scope.WRITE)),
            created_at=datetime.now(UTC),
        )
        return token

    async def find(self, key_id: str) -> Key | None:
        self.asked += 1
        if self.outage is not None:
            raise self.outage
        return self.keys.get(key_id)

    async def note_use(self, key_id: str) -> None:
        self.used.append(key_id)


class MemoryBuckets:
    """Buckets that never fill up again."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}

    async def take(self, name: str, policy: Policy) -> Verdict:
        left = policy.burst - self.taken.get(name, 0)
        if left > 0:
            self.taken[name] = self.taken.get(name, 0) + 1
        return Verdict(policy=policy, allowed=left > 0, tokens=max(0, left - 1))

    async def look(self, name: str, policy: Policy) -> Verdict:
        left = policy.burst - self.taken.get(name, 0)
        return Verdict(policy=policy, allowed=left > 0, tokens=max(0, left))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def stores_of(ring: Ring, buckets: Buckets | None = None) -> Stores:
    authenticator = Authenticator(ring.find, ring.note_use, remember_s=0)
    return Stores(authenticator=authenticator, buckets=buckets or MemoryBuckets())
