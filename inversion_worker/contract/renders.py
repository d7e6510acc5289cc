"""What a worker is asked to render, and what it says beside the picture."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from inversion_worker.contract.edits import MAX_EDITS, Side
from inversion_worker.contract.faces import Quad

RENDERER = "1"
"""Changes whenever the same order gives another picture: part of the picture's ETag."""
MAX_FACE_SIDE = 2048
"""Largest side of a face, px; beyond the pack's own it is only enlarged."""


class RenderAs(StrEnum):
    """What is made of a code."""

    FACE = "face"
    """The generator's picture."""
    PHOTO = "photo"
    """The upright photo with the edit in it."""
    PATCH = "patch"
    """The part of the photo that changes, with transparency, and where it belongs."""
    LATENTS = "latents"
    """No picture: the code after the edits."""


class PasteMode(StrEnum):
    """How an edit gets into the photo."""

    DIFFERENCE = "difference"
    """The photo changes as the render does, and keeps its own pores."""
    REPLACE = "replace"
    """The render takes the place of the crop."""


class PictureFormat(StrEnum):
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


class RenderOrder(BaseModel):
    """The question `render`. Fields that a worker does not know are ignored.

    The bytes of the question are a code as safetensors, `w_plus` (L, D) and perhaps `detail` (C, H, W), where `source`
    is `{"sent": true}`.
    """

    model_config = ConfigDict(frozen=True)

    pack: str
    digest: str = ""
    """Of the generator that the codes belong to; empty where nobody knows."""
    source: Mapping[str, Any]
    """`{"inversion": ID}`, `{"sent": true}` or `{"seed": 7}`."""
    edits: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_EDITS)
    """As the library takes them."""
    directions: Mapping[str, str] = Field(default_factory=dict)
    """Of the tenant's own directions that `edits` names: keys of their steps in the artifact store, by name."""
    ended: Mapping[str, bool] = Field(default_factory=dict)
    """Of each inversion that `source` or `edits` names: whether it has succeeded, so that its code is final."""
    kind: RenderAs = RenderAs.FACE
    format: PictureFormat = PictureFormat.PNG
    side: Side | None = None
    paste: PasteMode = PasteMode.DIFFERENCE
    quad: Quad | None = None
    """Where the crop lies in the photo of the source; None: the square in the middle."""


class Rendered(BaseModel):
    """The reply; its bytes are the picture, or, of `RenderAs.LATENTS`, a code as in a question."""

    model_config = ConfigDict(frozen=True)

    step: int | None = None
    """The step of the source's code, where that is an inversion which has not succeeded."""
    width: int = 0
    height: int = 0
    left: int = 0
    """Where a patch belongs in the upright photo."""
    top: int = 0
    pack: str
    version: str
    digest: str = ""


def pack_topic(name: str, digest: str | None) -> str:
    """The weights that a question is about. Packs of one digest have one generator, whatever they are called."""
    return digest or name
