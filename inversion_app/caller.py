"""Who is calling: which key came with a request, whether one is needed, and what it opens.

    INVERSION_AUTH=on     every request needs an API key
    INVERSION_AUTH=auto   every request needs an API key, or the token that `make serve` made for this machine's
                          user (INVERSION_LOCAL_TOKEN). That is the default.
    INVERSION_AUTH=off    none does, and whoever reaches the address may do everything

No address proves that a caller is on this machine: to the service, a proxy beside it that the whole internet reaches
looks as `curl` does. The token does, since it lies in a file that only this user reads.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.types import Scope as AsgiScope

from inversion_app.browsers import is_foreign_page
from inversion_app.keys import Key, Scope, id_of

COOKIE = "inversion_key"
"""Where the page keeps the key: an address in <img> or EventSource cannot send a header."""
_LOCAL_COOKIE = "inversion_local_{port}"
"""The same for the token of `make serve`. Cookies go by the host alone, and several services can run on this one."""
_COOKIES = re.compile(r"(?:^|;) *(inversion_[a-z0-9_]+)=([A-Za-z0-9_.-]{1,200}) *(?=;|$)")
"""http.cookies would take seconds for a field of quoted backslashes (CVE-2024-7592), and a key needs no quotes."""
_CACHED_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class Caller:
    """On whose behalf a request is made."""

    tenant: str = ""
    """Empty where no key is asked for: everybody is the same tenant then."""
    key_id: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
    is_local: bool = False
    """Whether the token of `make serve` came with the request."""
    address: str = ""
    """IP address of the other end of the connection."""


class Authenticator:
    """Keys by their token, remembered for a moment so that polling asks Redis now and then alone."""

    def __init__(
        self,
        find: Callable[[str], Awaitable[Key | None]],
        note_use: Callable[[str], Awaitable[None]],
        remember_s: float,
    ) -> None:
        """`remember_s` is how long a revoked key may still open the door."""
        self._find = find
        self._note_use = note_use
        self._remember_s = remember_s
        self._known: dict[str, tuple[float, Key]] = {}

    async def key(self, token: str) -> Key | None:
        """The key that `token` is, or None. Raises: RedisError when that cannot be found out."""
        key_id = id_of(token)
        key = await self._by_id(key_id) if key_id is not None else None
        return key if key is not None and key.opens(token) else None

    def has_seen(self, token: str) -> bool:
        """Whether `token` was a key when it came last, so that the caller is no guesser; it may be revoked since."""
        _, known = self._known.get(id_of(token) or "", (0.0, None))
        return known is not None and known.opens(token)

    async def _by_id(self, key_id: str) -> Key | None:
        until_s, known = self._known.get(key_id, (0.0, None))
        if known is not None and monotonic() < until_s:
            return known
        found = await self._find(key_id)
        self._known.pop(key_id, None)
        if found is not None:  # what is not there is not remembered: guesses would fill the memory
            if len(self._known) >= _CACHED_MOST:
                self._known.clear()
            self._known[key_id] = (monotonic() + self._remember_s, found)
            with suppress(RedisError):  # a full server takes no note, and is no reason to turn anybody away
                await self._note_use(key_id)
        return found


def bearer_of(headers: Headers) -> str | None:
    """The key or token that a program sends with its request; None where there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def cookie_token(headers: Headers, name: str = COOKIE) -> str | None:
    """What is in the page's cookie. A browser sends it on its own, so it counts on this service's own pages alone."""
    if is_foreign_page(headers):
        return None
    found = (match[2] for match in _COOKIES.finditer(headers.get("cookie", "")) if match[1] == name)
    return next(found, None)


def local_cookie(scope: AsgiScope) -> str:
    """The name of the cookie for this service's token."""
    _, port = scope.get("server") or ("", None)
    return _LOCAL_COOKIE.format(port=port or 0)  # none on a unix socket


def is_local_token(given: str | None, token: str | None) -> bool:
    """Whether this is the token; takes the same time for every wrong one."""
    return bool(given and token) and hmac.compare_digest(str(given).encode(), str(token).encode())
