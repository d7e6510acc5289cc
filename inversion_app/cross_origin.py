"""Which web pages of other origins may use the API (CORS); none, unless a setting names them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

ASKED = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Prefer",
    "X-Render-Session", "X-Request-ID", "traceparent",
)  # fmt: skip
TOLD = (
    "Content-Disposition", "ETag", "Idempotent-Replayed", "Inversion-Offset", "Inversion-Pack",
    "Inversion-Pack-Digest", "Inversion-Pack-Version", "Inversion-Step", "Link", "Location", "Preference-Applied",
    "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID",
)  # fmt: skip
_FRESH_S = 600


def allow(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins in. They bring their key as a header: cookies are not let through."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=ASKED,
            expose_headers=TOLD,
            allow_credentials=False,
            max_age=_FRESH_S,
        )
