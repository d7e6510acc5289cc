"""At the door: every request below is turned away here, or goes on with its caller in `request.state.caller`.

What is not named PUBLIC needs a key wherever keys are asked for, so a route that is added is guarded by default.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from inversion_app.browsers import is_foreign_page, is_known_host
from inversion_app.caller import Caller, bearer_of, cookie_token, is_local_token, local_cookie
from inversion_app.errors import ProblemError, problem_response
from inversion_app.keys import Key, Scope
from inversion_app.limits import Policy, Verdict, address_name
from inversion_app.outages import OUTAGES, unavailable
from inversion_app.settings import AppSettings
from inversion_app.stores import Stores

PUBLIC = frozenset({"/", "/favicon.ico", "/docs", "/openapi.json", "/problems", "/livez", "/readyz"})
"""Says nothing of anybody's inversions, and starts none."""
PUBLIC_BELOW = ("/static/", "/docs/assets/", "/problems/")
_READS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware. It stands within Envelope, so that its refusals too have an id and a line in the log."""

    def __init__(self, app: ASGIApp, settings: AppSettings) -> None:
        self.app = app
        self._settings = settings
        token = settings.local_token if settings.auth == "auto" else None
        self._local_token = token.get_secret_value() if token else None
        limited = settings.rate_per_s > 0
        self._policy = Policy(per_s=settings.rate_per_s, burst=settings.rate_burst) if limited else None
        self._guesses = Guesses(settings)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_public(scope["path"]):
            await self.app(scope, receive, send)
            return
        stores: Stores = scope["app"].state.stores
        told: dict[str, str] = {}
        send = _adding(told, send)
        try:
            caller = await self._identify(scope, stores)
            await self._count(caller, stores, told)
        except ProblemError as error:
            await problem_response(error, scope["path"])(scope, receive, send)
            return
        except OUTAGES as error:
            await problem_response(unavailable(error), scope["path"])(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self.app(scope, receive, send)

    async def _identify(self, scope: AsgiScope, stores: Stores) -> Caller:
        client = scope.get("client")
        address = client[0] if client else ""
        headers = Headers(scope=scope)
        bearer = bearer_of(headers)
        if bearer is None:
            self._check_page(scope["method"], headers)
        if self._settings.auth == "off":
            self._check_host(headers)
            return Caller(address=address)
        if is_local_token(bearer or cookie_token(headers, local_cookie(scope)), self._local_token):
            return Caller(address=address, is_local=True)
        key = await self._key(bearer or cookie_token(headers), address, stores)
        needed = scope_needed(scope["method"], scope["path"])
        if needed not in key.scopes:
            raise ProblemError(
                "scope-missing",
                f"The scope `{needed}` is needed.",
                _challenge(error="insufficient_scope", scope=needed),
            )
        return Caller(tenant=key.tenant, key_id=key.id, scopes=key.scopes, address=address)

    def _check_page(self, method: str, headers: Headers) -> None:
        """Refuse what a page of another site would have done in the name of whoever looks at it.

        A header with a key is sent on purpose, cookies are not, and an open service needs neither.
        """
        if method not in _READS and is_foreign_page(headers, self._settings.cors_origins):
            raise ProblemError("cross-site")

    def _check_host(self, headers: Headers) -> None:
        if not is_known_host(headers, self._settings.allowed_hosts):
            raise ProblemError("host-unknown")

    async def _count(self, caller: Caller, stores: Stores, told: dict[str, str]) -> None:
        """Take a token of the caller's bucket; `told` gets the fields for the answer, whatever it will be."""
        name = caller.key_id or (address_name(caller.address) if self._settings.rate_limit_addresses else "")
        if not name or self._policy is None:
            return
        verdict = await stores.buckets.take(name, self._policy)
        told.update(verdict.headers)
        if not verdict.allowed:
            raise ProblemError("rate-limited", headers={"Retry-After": str(verdict.retry_after_s)})

    async def _key(self, token: str | None, address: str, stores: Stores) -> Key:
        if not token:
            raise ProblemError("key-missing", headers=_challenge())
        if not stores.authenticator.has_seen(token):
            await self._guesses.check(address, stores)
        key = await stores.authenticator.key(token)
        if key is None:
            await self._guesses.count(address, stores)
            raise ProblemError("key-invalid", headers=_challenge(error="invalid_token"))
        return key


class Guesses:
    """Limits how many keys that are not valid an address may try.

    Beyond that no key from there is looked at that this process has not seen before; who works already goes on.
    """

    def __init__(self, settings: AppSettings) -> None:
        per_s, burst = settings.wrong_keys_per_s, settings.wrong_keys_burst
        self._policy = Policy(name="wrong-keys", per_s=per_s, burst=burst) if per_s > 0 else None

    async def check(self, address: str, stores: Stores) -> None:
        """Raise ProblemError where the address has tried too many."""
        if self._policy is not None:
            _refuse_unless_allowed(await stores.buckets.look(_guess_name(address), self._policy))

    async def count(self, address: str, stores: Stores) -> None:
        """Note one that was not valid. Raises: as `check`; guesses at the same moment may all have passed that."""
        if self._policy is not None:
            _refuse_unless_allowed(await stores.buckets.take(_guess_name(address), self._policy))


def _guess_name(address: str) -> str:
    return f"wrong-keys:{address_name(address)}"


def _refuse_unless_allowed(verdict: Verdict) -> None:
    if not verdict.allowed:
        headers = {"Retry-After": str(verdict.retry_after_s), **verdict.headers}
        raise ProblemError("rate-limited", "Too many keys from your address were not valid.", headers)


def _adding(told: dict[str, str], send: Send) -> Send:
    """`send`, with these header fields on the answer."""

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in told.items():
                headers[name] = value
        await send(message)

    return send_with


def is_public(path: str) -> bool:
    """Whether anybody may ask for this path."""
    return path in PUBLIC or path.startswith(PUBLIC_BELOW)


def scope_needed(method: str, path: str) -> Scope:
    """What a key must open for this request."""
    if path == "/metrics":
        return Scope.ADMIN
    return Scope.READ if method in _READS else Scope.WRITE


def _challenge(**parts: str) -> dict[str, str]:
    """What RFC 6750, section 3, has a server say with a refusal."""
    said = ", ".join(f'{name}="{value}"' for name, value in {"realm": "inversion", **parts}.items())
    return {"WWW-Authenticate": f"Bearer {said}"}
