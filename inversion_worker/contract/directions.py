"""A tenant's own editing directions, beside those of a pack."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from inversion_worker.contract.message import Message

MAX_DIRECTIONS = 64
"""Most directions that a tenant may have, of all packs together."""
DIRECTION_NAME = "[a-z0-9][a-z0-9-]{0,31}"
"""Shape of a direction's name, in packs too."""


class DirectionRecord(Message):
    """What is known of one; its step lies in the artifact store under `ArtifactKey.direction`."""

    id: str
    tenant: str = ""
    pack: str
    digest: str = Field("", description="Of the weights that it belongs to; empty where the pack has none.")
    name: str
    label: str
    low: float
    high: float
    unit: str
    source: str
    created_at: datetime
    expires_at: datetime
