"""The page's way to use a key: pictures and event streams are fetched by the browser, which sends cookies alone."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from inversion_app.caller import COOKIE, bearer_of, cookie_token, local_cookie
from inversion_app.deps import CurrentCaller
from inversion_app.errors import responses

router = APIRouter(prefix="/v1/session", tags=["session"])

KEPT_S = 30 * 24 * 3600


@router.post(
    "",
    status_code=204,
    summary="Log this browser in",
    responses={204: {"description": "The key from `Authorization` is now stored in a cookie."}, **responses()},
)
async def begin(request: Request, caller: CurrentCaller) -> Response:
    """For the web page. Programs send `Authorization` with each request instead.

    Scripts cannot read the cookie, and browsers send it only from this service's own pages.
    """
    response = Response(status_code=204)
    if caller.key_id or caller.is_local:
        headers, name = Headers(scope=request.scope), local_cookie(request.scope) if caller.is_local else COOKIE
        token = bearer_of(headers) or cookie_token(headers, name) or ""
        response.set_cookie(
            name, token, max_age=KEPT_S, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
    return response


@router.delete(
    "",
    status_code=204,
    summary="Log this browser out",
    responses={204: {"description": "The cookie is deleted."}, **responses()},
)
async def end(request: Request, caller: CurrentCaller) -> Response:
    """Deletes the cookie. The key itself stays valid."""
    response = Response(status_code=204)
    for name in (COOKIE, local_cookie(request.scope)):
        response.delete_cookie(name, httponly=True, samesite="strict")
    return response
