"""Who is calling: which key came with a request, whether one is needed, and what it opens.

    INVERSION_AUTH=on     every request needs a key
    INVERSION_AUTH=off    none does, and whoever reaches the address may do everything
    INVERSION_AUTH=auto   none is needed by a program on this machine that asks for this machine by name;
                          everybody else needs one. That is the default.

`auto` looks at the connection and at `Host`: a proxy in front, or a page elsewhere that had a name of its own
resolved to 127.0.0.1, is not this machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.types import Scope as AsgiScope

from inversion_app.keys import Key, Scope, id_of

COOKIE = "inversion_key"
"""Where the page keeps the key: an address in <img> or EventSource cannot send a header."""
_COOKIE = re.compile(rf"(?:^|;) *{COOKIE}=([A-Za-z0-9_.-]{{1,200}}) *(?:;|$)")
"""http.cookies would take seconds for a field of quoted backslashes (CVE-2024-7592), and a key needs no quotes."""
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_CACHED_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class Caller:
    """On whose behalf a request is made."""

    tenant: str = ""
    """Empty where no key is asked for: everybody is the same tenant then."""
    key_id: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
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


def token_of(headers: Headers) -> str | None:
    """The key that a request brings: as a Bearer token, or in the page's cookie."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return cookie_token(headers)


def cookie_token(headers: Headers) -> str | None:
    """The key in the page's cookie. A browser sends it on its own, so it counts on this service's own pages alone."""
    if not _is_same_origin(headers):
        return None
    found = _COOKIE.search(headers.get("cookie", ""))
    return found[1] if found is not None else None


def _is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of this service; the cookie is SameSite besides."""
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def is_on_this_machine(scope: AsgiScope) -> bool:
    """Whether the request was made to a loopback address, from one, under a name of this machine, by no proxy."""
    headers = Headers(scope=scope)
    if any(name in headers for name in _FORWARDED):
        return False
    ends = (scope.get("server"), scope.get("client"))
    if not all(end is not None and is_loopback(end[0]) for end in ends):
        return False
    return is_loopback(_host_name(headers.get("host", "")))


def is_loopback(host: str) -> bool:
    """Whether this is 127.0.0.0/8, ::1, or a name that means them by definition (RFC 6761)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _host_name(host: str) -> str:
    """The Host field without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
