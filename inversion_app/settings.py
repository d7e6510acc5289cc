"""What can be set about the HTTP service: environment variables with the prefix INVERSION_."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from inversion_app.signing import check_secret
from inversion_worker.client import ClientSettings

MEBIBYTE = 1024 * 1024
TOKEN_PATTERN = r"[A-Za-z0-9_-]{32,200}"
"""A token: long enough that nobody guesses it, and of what a cookie may hold."""


class AppSettings(ClientSettings):
    """Limits and rhythms of the HTTP service; the base class says where jobs and bytes lie."""

    max_upload_bytes: int = Field(32 * MEBIBYTE, ge=1024)
    """Most bytes of one request body; counted while they arrive."""
    max_batch_bytes: int = Field(64 * MEBIBYTE, ge=1024)
    """Most bytes of the body of a batch; all of its photos are in memory at once."""
    max_json_bytes: int = Field(8 * MEBIBYTE, ge=1024)
    """Most bytes of a request body in JSON, of a batch too: it is parsed in memory. Larger photos come as a form."""
    max_wait_s: int = Field(60, ge=0)
    """Longest time that `Prefer: wait` may ask for."""
    decode_timeout_s: float = Field(10.0, gt=0)
    """Longest time that decoding one upload may take before the picture is refused."""
    decode_slots: int = Field(2, ge=1)
    """Uploads that are decoded at once, each in a process of its own; the others wait."""
    look_timeout_s: float = Field(5.0, gt=0, le=30)
    """Longest time that a look at a photo (POST /v1/faces) may take, with the time until a worker is free."""
    look_slots: int = Field(8, ge=1)
    """Such looks at once; their photos are in memory. The others wait, within the same time."""
    film_timeout_s: float = Field(30.0, gt=0, le=60)
    """Longest time that a film (POST /v1/interpolations) may take, with the time until a worker is free."""
    render_timeout_s: float = Field(10.0, gt=0, le=30)
    """Longest time that a render may take, with the time until a worker is free."""
    render_slots: int = Field(16, ge=1)
    """Renders at once; their pictures are in memory. The others wait, within the same time."""
    max_render_bytes: int = Field(4 * MEBIBYTE, ge=1024)
    """Most bytes of the body of POST /v1/renders, and of one that saves an edit list."""
    upload_look_s: float = Field(2.0, ge=0, le=30)
    """Longest time that an upload waits to hear whether its mask or `face` fits the faces of the photo; when it is over
    the job finds out, and uploads ask no more for 10 seconds. 0: they never ask."""
    sweep_every_s: float = Field(60.0, gt=0)
    """Pause between two sweeps for expired jobs."""
    retry_after_s: int = Field(1, ge=1)
    """What `Retry-After` tells clients that poll."""
    keep_alive_s: float = Field(15.0, gt=0)
    """Longest silence on an event stream before a comment is sent."""
    log_level: str = "INFO"
    """Level of the `app` logger."""

    header_timeout_s: float = Field(10.0, gt=0)
    """Longest time that the head of a request may take to arrive."""
    body_timeout_s: float = Field(20.0, gt=0)
    """A body that brings less than 1 KiB a second over this time is given up."""
    send_timeout_s: float = Field(60.0, gt=0)
    """Longest time that a client may take nothing of what it is sent."""
    max_connections: int = Field(0, ge=0)
    """Most connections of one process at a time; 0: as many as its descriptors (`ulimit -n`) allow, 4096 at most."""

    rate_per_s: float = Field(50.0, ge=0)
    """Requests a second that a key may make in the long run; 0 is no limit."""
    rate_burst: int = Field(200, ge=1)
    """Requests that it may make at once."""
    rate_limit_addresses: bool = False
    """Where no key is asked for: hold each IP address to the same rate."""
    wrong_keys_per_s: float = Field(0.2, ge=0)
    """API keys that are not valid that an IP address (of IPv6: a /64) may try a second in the long run; 0: no limit."""
    wrong_keys_burst: int = Field(20, ge=1)
    """Such keys that it may try at once."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of web pages elsewhere that may use the API, separated by commas; * is all of them."""

    webhook_secret: SecretStr | None = None
    """Signs webhooks where no key is asked for: whsec_ and base64. A tenant has a secret of its own."""
    webhook_allow_http: bool = False
    """Call http:// addresses too."""
    webhook_allow_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts that may be called although their address is not public, separated by commas."""
    webhook_timeout_s: float = Field(10.0, gt=0, le=60)
    """Longest time that one call may take."""
    webhook_tries: int = Field(12, ge=1)
    """How often one message is sent before it is given up; 12 take about two hours."""
    webhook_retry_s: float = Field(2.0, gt=0)
    """Pause before the second try; each further one is twice as long, up to an hour, give or take a half."""

    auth: Literal["auto", "on", "off"] = "auto"
    """Who needs an API key: see inversion_app/caller.py."""
    local_token: SecretStr | None = None
    """Opens everything where auth is auto; `make serve` makes one, and keeps it where only its own user can read it."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Where auth is off: names under which the service is reached, separated by commas; * is any. Addresses, localhost
    and this machine's own name always are."""
    key_cache_s: float = Field(2.0, ge=0, le=60)
    """How long a key is remembered; a revoked one may open the door for that long."""

    @field_validator("cors_origins", "webhook_allow_hosts", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("webhook_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            check_secret(secret.get_secret_value())
        return secret

    @field_validator("local_token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(TOKEN_PATTERN, token.get_secret_value()):
            raise ValueError("a token has 32 to 200 letters, digits, hyphens and underscores, chosen by chance")
        return token

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/?#\s]+", origin):
                raise ValueError(f"{origin!r} is no origin: write https://app.example, without a path")
        return origins
