"""What people look at: the page, the reference of the API, the list of problems. No outside address."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from inversion_app.deps import Settings
from inversion_app.errors import KINDS, ProblemError, ProblemKind

STATIC = Path(__file__).parent.parent / "static"
REFERENCE_ASSETS = Path(str(files("fastapi_offline"))) / "static"
"""Swagger UI, from a package that carries it."""
REFERENCE_CSP = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
"""Swagger UI styles itself inline."""

router = APIRouter(include_in_schema=False)


def mount_assets(app: FastAPI) -> None:
    """Serve the files that the page and the reference are made of."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.mount("/docs/assets", StaticFiles(directory=REFERENCE_ASSETS), name="docs-assets")


@router.get("/")
async def page(settings: Settings) -> HTMLResponse:
    """The page; it says how long photos are kept before one is sent."""
    text = (STATIC / "index.html").read_text(encoding="utf-8").replace("{{kept_for}}", spell(settings.ttl_s))
    return HTMLResponse(text, headers={"Cache-Control": "no-cache"})


def spell(seconds: float) -> str:
    """A length of time in the unit that suits it: 24 hours, 90 minutes, 1 second."""
    for unit, size_s in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count = seconds / size_s
        if count >= 2 or (count == int(count) and count > 0) or unit == "second":
            return f"{count:.0f} {unit}{'' if round(count) == 1 else 's'}"
    raise AssertionError("a second suits every length")


@router.get("/favicon.ico")
async def favicon() -> FileResponse:
    """The icon, where browsers look for it."""
    return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")


@router.get("/docs")
async def reference() -> FileResponse:
    """The reference of the API."""
    return FileResponse(STATIC / "docs.html", headers={"Content-Security-Policy": REFERENCE_CSP})


@router.get("/problems")
async def problems(request: Request) -> Response:
    """Every kind of problem, as a page for people and as JSON for programs."""
    if _wants_html(request):
        return HTMLResponse(_document("Problems", "".join(_section(kind) for kind in KINDS.values())))
    return JSONResponse({"problems": [_as_json(kind) for kind in KINDS.values()]}, headers={"Vary": "Accept"})


@router.get("/problems/{slug}")
async def problem(request: Request, slug: str) -> Response:
    """What one `type` of a problem document stands for."""
    if (kind := KINDS.get(slug)) is None:
        raise ProblemError("not-found", "There is no such kind of problem; GET /problems lists all.")
    if _wants_html(request):
        return HTMLResponse(_document(kind.title, _section(kind)))
    return JSONResponse(_as_json(kind), headers={"Vary": "Accept"})


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _as_json(kind: ProblemKind) -> dict[str, str | int]:
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "remedy": kind.remedy,
    }


def _section(kind: ProblemKind) -> str:
    return (
        f'<section id="{kind.slug}"><h2>{escape(kind.title)}</h2>'
        f'<p><code><a href="/problems/{kind.slug}">{kind.slug}</a></code> {kind.status}</p>'
        f"<p>{escape(kind.remedy)}</p></section>"
    )


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="/static/style.css"></head>'
        f'<body class="prose"><main><p><a href="/">Back to the page</a></p>'
        f"<h1>{escape(title)}</h1>{body}</main></body></html>"
    )
