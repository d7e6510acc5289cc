"""Settings by environment: one class, and the part of it that the client needs as its base."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from inversion_worker.logs import LogFormat

UNFINISHED_TTL_S = 7 * 24 * 3600.0
"""A job may wait long for its turn, and for a worker that is away over the weekend."""


class ClientSettings(BaseSettings):
    """What both sides of the seam must agree on."""

    model_config = SettingsConfigDict(env_prefix="INVERSION_", frozen=True, extra="ignore")

    redis_password: SecretStr | None = None
    """Password of the server in `redis_url`, as it is, where the address itself names none."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """redis://, rediss:// or unix:// address of a Redis or Valkey; a password in it is percent-encoded."""
    artifacts_url: str = "file://var/artifacts"
    """Folder of the artifact store, as an fsspec URL: file:// or s3://."""
    ttl_s: float = Field(24 * 3600, gt=0)
    """Seconds after its end at which a job and all of its files are deleted."""
    unfinished_ttl_s: float = Field(UNFINISHED_TTL_S, gt=0)
    """Seconds after which one that has not ended is given up, and deleted likewise."""
    direction_ttl_s: float = Field(90 * 24 * 3600, gt=0)
    """Seconds after which a tenant's own editing direction is deleted, unless the request says otherwise."""
    log_format: LogFormat = "text"
    """How log lines are written: text, or json with a field for each fact."""
    max_queued: int = Field(1000, ge=0)
    """Most jobs that wait at a time, of all tenants; 0 is no limit."""
    max_active: int = Field(128, ge=0)
    """Most jobs of one tenant that wait or run at a time, where keys are asked for; 0 is no limit."""

    @field_validator("redis_url")
    @classmethod
    def _put_password_in(cls, url: str, info: ValidationInfo) -> str:
        """A password apart needs no percent-encoding, which Compose could not do."""
        password: SecretStr | None = info.data.get("redis_password")
        scheme, separator, rest = url.partition("://")
        if not password or not password.get_secret_value() or scheme not in ("redis", "rediss") or "@" in rest:
            return url
        return f"{scheme}{separator}:{quote(password.get_secret_value(), safe='')}@{rest}"


class WorkerSettings(ClientSettings):
    """Everything a worker process can be told. Where packs lie, INVERSION_PACKS tells the library itself."""

    default_pack: str | None = None
    """Pack of jobs that name none; none takes the library's default."""
    slots: int | None = Field(None, ge=1)
    """Jobs that run at the same time in this process; none: as many as memory and CPU threads allow."""
    device: str = "auto"
    """Torch device; auto takes CUDA where there is one. One process for each GPU: cuda:0, cuda:1, ..."""
    niceness: int = Field(10, ge=0, le=19)
    """How far the process gives way to others, so that an API beside it answers while the CPU computes; 0: not."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of Torch; none: the number that is fastest, found again and again while jobs run."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Arithmetic of a step; auto: for each pack the fastest that leaves the final loss within 0.5 %, found by trying
    when the pack is first used, and float32 where there is none."""
    checkpoint_s: float = Field(0.5, gt=0, le=1)
    """Seconds between two checkpoints of a running job."""
    lease_ttl_s: float = Field(5, gt=0)
    """Seconds without a sign of life after which a job is taken from its worker."""
    lease_renew_s: float = Field(1, gt=0)
    """Seconds between two renewals of the leases of this process."""
    reaper_s: float = Field(1, gt=0)
    """Seconds between two looks for jobs whose worker is lost."""
    announce_ttl_s: float = Field(5, gt=0)
    """Seconds that a worker counts as alive after its last announcement."""
    announce_s: float = Field(1.5, gt=0)
    """Seconds between two announcements."""
    sweep_s: float = Field(60, gt=0)
    """Seconds between two sweeps of what has expired."""
    log_level: str = "INFO"
    """Least severe messages that are written to standard error."""
