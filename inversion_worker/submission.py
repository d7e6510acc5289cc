"""What a person hands in: a photo, what comes with it, and what to do. Bytes, so it never goes through Redis.

What is there already, of another inversion, is named and copied within the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inversion_worker.contract import ArtifactKey, DiffusionRecord, JobOptions


@dataclass(frozen=True)
class Stored:
    """Bytes that lie in the artifact store, under a key of another job."""

    key: str


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One photo to be inverted. All of it has been checked."""

    photo: bytes | Stored
    """The file as it came."""
    options: JobOptions
    mask: bytes | Stored | None = None
    """PNG, 8-bit grey, as large as the upright photo."""
    start: bytes | None = None
    """npy, float32, (L, D): the code to start from; given when `options.start` is `latents`."""
    start_latent: bytes | None = None
    """The same with its detail, `inversion_worker.code.Code`; given when it has some."""
    diffusion: DiffusionRecord | None = None
    face: bytes | Stored | None = None
    """Of a diffusion: the photo of the face."""
    source: str | None = None
    """Id of the job that this one goes on from."""
    metadata: Mapping[str, Any] | None = None
    """A JSON object that comes back in the record, in events and in webhooks."""

    def files(self, job_id: str) -> dict[str, bytes | Stored]:
        """Bytes by artifact key."""
        found: dict[str, bytes | Stored] = {ArtifactKey.photo(job_id): self.photo}
        if self.mask is not None:
            found[ArtifactKey.mask(job_id)] = self.mask
        if self.face is not None:
            found[ArtifactKey.face(job_id)] = self.face
        if self.start is not None:
            found[ArtifactKey.start(job_id)] = self.start
        if self.start_latent is not None:
            found[ArtifactKey.start_latent(job_id)] = self.start_latent
        return found
