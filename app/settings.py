"""What can be set about the HTTP service: environment variables with the prefix INVERSION_."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from worker.client import ClientSettings

MEBIBYTE = 1024 * 1024


class AppSettings(ClientSettings):
    """Limits and rhythms of the HTTP service; the base class says where jobs and bytes lie."""

    max_upload_bytes: int = Field(32 * MEBIBYTE, ge=1024)
    """Most bytes of one request body; counted while they arrive."""
    max_batch_bytes: int = Field(64 * MEBIBYTE, ge=1024)
    """Most bytes of the body of a batch; all of its photos are in memory at once."""
    max_wait_s: int = Field(60, ge=0)
    """Longest time that `Prefer: wait` may ask for."""
    decode_timeout_s: float = Field(10.0, gt=0)
    """Longest time that decoding one upload may take before the picture is refused."""
    decode_slots: int = Field(2, ge=1)
    """Uploads that are decoded at once, each in a process of its own; the others wait."""
    sweep_every_s: float = Field(60.0, gt=0)
    """Pause between two sweeps for expired jobs."""
    retry_after_s: int = Field(1, ge=1)
    """What `Retry-After` tells clients that poll."""
    keep_alive_s: float = Field(15.0, gt=0)
    """Longest silence on an event stream before a comment is sent."""
    log_level: str = "INFO"
    """Level of the `app` logger."""

    auth: Literal["auto", "on", "off"] = "auto"
    """Who needs an API key: see app/caller.py."""
    key_cache_s: float = Field(2.0, ge=0, le=60)
    """How long a key is remembered; a revoked one may open the door for that long."""
