"""What a worker is asked to film: the way from one code to another, or from no edits to an edit list."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from inversion_worker.contract.renders import RenderOrder

MAX_FRAMES = 60
"""Most frames of a film: it is answered at once, beside the jobs."""
MAX_FILM_SIDE = 512
"""Largest side of a film, px."""


class Way(StrEnum):
    """How codes are interpolated."""

    LINEAR = "linear"
    SPHERICAL = "spherical"
    """About the average face: as far from it all the way, with no duller middle."""


class FilmFormat(StrEnum):
    WEBP = "webp"
    MP4 = "mp4"
    GIF = "gif"

    @property
    def media_type(self) -> str:
        return "video/mp4" if self is FilmFormat.MP4 else f"image/{self.value}"


class FilmOrder(BaseModel):
    """The question `film`; the bytes of the reply are the film. Fields that a worker does not know are ignored.

    A source here is never `{"sent": true}`, and may be `{"code": TEXT}`: a code as safetensors, in base64.
    """

    model_config = ConfigDict(frozen=True)

    first: RenderOrder
    """The code at the beginning; its side is the film's."""
    last: RenderOrder | None = None
    """That at the end; None: from `first` without its edits to `first` with them."""
    frames: int = Field(ge=2, le=MAX_FRAMES)
    way: Way = Way.LINEAR
    format: FilmFormat = FilmFormat.WEBP
    fps: float = Field(25, ge=1, le=60)
    there_and_back: bool = False
