"""Whatever a request asks for and its address does not know is refused; nothing is left aside in silence.

One check for every route of the API, made of what the route declares: its query parameters, its header fields, and
whether it takes a body. The reference and the tests read the same declarations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from inversion_app.errors import ProblemError

_LISTS = ("accept", "prefer")
"""Header fields whose value is a list: one of several lines is one list (RFC 9110, section 5.3)."""
_CANNOT = (
    "if-match", "if-unmodified-since", "content-range",
    "x-http-method", "x-http-method-override", "x-method-override",
)  # fmt: skip
"""Header fields that make a request another one, and that nothing here honours."""
_MAX_QUERY_BYTES = 4096
_MAX_FIELD_BYTES = 1000
"""Longest header field that is read as a list or as options: that takes its time."""
_CLOSING = {"Connection": "close"}
"""The body of what is refused is not read, so the connection cannot be used again."""


async def check_asked(request: Request) -> None:
    """Refuse what the route of this request does not take.

    Raises: ProblemError `option-unknown`, `option-invalid`, `header-unsupported`, `encoding-unsupported`,
    `body-unexpected`.
    """
    route: APIRoute = request.scope["route"]
    if len(request.scope["query_string"]) > _MAX_QUERY_BYTES:
        raise ProblemError("option-invalid", f"The query has more than {_MAX_QUERY_BYTES} bytes.")
    _check_query(request, query_names(route), repeatable_names(route))
    _check_headers(request, header_names(route))
    if takes_body(route):
        _check_encoding(request)
    elif await _has_body(request):
        raise ProblemError("body-unexpected", f"{request.method} {request.url.path} takes none.", _CLOSING)


def query_names(route: APIRoute) -> list[str]:
    """The query parameters of a route."""
    return sorted({field.alias for one in _all(route.dependant) for field in one.query_params})


def repeatable_names(route: APIRoute) -> list[str]:
    """Those of them that may come several times: each is one entry of a list."""
    fields = [field for one in _all(route.dependant) for field in one.query_params]
    return sorted({field.alias for field in fields if _is_list(field.field_info.annotation)})


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(get_origin(each) is list for each in get_args(annotation))


def header_names(route: APIRoute) -> list[str]:
    """The header fields that a route reads, in small letters."""
    return sorted({field.alias.lower() for one in _all(route.dependant) for field in one.header_params})


def takes_body(route: APIRoute) -> bool:
    """Whether a route takes a body; those that read it by hand say so in their `openapi_extra`."""
    extra: dict[str, Any] = route.openapi_extra or {}
    return route.body_field is not None or "requestBody" in extra


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for below in dependant.dependencies:
        yield from _all(below)


def _check_query(request: Request, known: Iterable[str], repeatable: Iterable[str]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            told = f"Known here: {', '.join(known)}." if known else "This address has none."
            raise ProblemError("option-unknown", f"`{name[:100]}` is no query parameter. {told}")
    if repeated := _repeated(name for name in names if name not in repeatable):
        raise ProblemError("option-invalid", f"`{repeated}` is given more than once.")


def _check_headers(request: Request, known: Iterable[str]) -> None:
    names = [name.decode("latin-1") for name, _ in request.headers.raw]
    read = {*known, "content-type", "content-encoding"}
    for name, value in request.headers.items():
        if name in read and len(value) > _MAX_FIELD_BYTES:
            raise ProblemError("option-invalid", f"The header field `{name}` has more than {_MAX_FIELD_BYTES} bytes.")
    if found := next((name for name in names if name in _CANNOT), None):
        raise ProblemError("header-unsupported", f"The header field `{found}` is not honoured here.", _CLOSING)
    single = read.difference(_LISTS)
    if repeated := _repeated(name for name in names if name in single):
        raise ProblemError("option-invalid", f"The header field `{repeated}` is given more than once.", _CLOSING)


def _repeated(names: Iterable[str]) -> str | None:
    """The first name that comes again."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name[:100]
        seen.add(name)
    return None


def _check_encoding(request: Request) -> None:
    for name in request.headers.getlist("content-encoding"):
        if name.strip().lower() not in ("", "identity"):
            headers = {"Accept-Encoding": "identity", **_CLOSING}  # RFC 9110, section 15.5.16
            raise ProblemError("encoding-unsupported", f"Content-Encoding: {name[:100]}.", headers)


async def _has_body(request: Request) -> bool:
    """Whether a byte comes. Some clients announce a body, in chunks, and send none."""
    if (length := request.headers.get("content-length")) is not None:
        return length.strip("0 ") != ""
    if "transfer-encoding" not in request.headers:
        return False
    async for chunk in request.stream():
        if chunk:
            return True
    return False
