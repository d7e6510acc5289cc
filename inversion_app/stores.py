"""What the HTTP service itself keeps in Redis, beside the jobs: put together here, handed in by tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from inversion_app.caller import Authenticator
from inversion_app.keys import KeyStore
from inversion_app.limits import Buckets, RedisBuckets
from inversion_app.settings import AppSettings
from inversion_worker.client import Outbox, connect_async


async def _nothing() -> None:
    """For stores that hold no connection."""


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Made inside the event loop that will use it; nothing is connected before it is needed."""

    authenticator: Authenticator
    buckets: Buckets
    secrets: Callable[[str], Awaitable[Sequence[str]]] | None = None
    """Webhook secrets of a tenant."""
    outbox: Outbox | None = None
    """None where no webhook is called."""
    close: Callable[[], Awaitable[None]] = _nothing

    @classmethod
    def from_settings(cls, settings: AppSettings) -> Stores:
        redis = connect_async(settings.redis_url)
        keys = KeyStore(redis)
        return cls(
            authenticator=Authenticator(keys.find, keys.note_use, settings.key_cache_s),
            buckets=RedisBuckets(redis),
            secrets=keys.webhook_secrets,
            outbox=Outbox(redis),
            close=redis.aclose,
        )
