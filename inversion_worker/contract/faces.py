"""What a worker sees in a photo. All coordinates are pixels of the upright photo, from its top left corner."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from inversion_worker.contract.message import Message

Point = tuple[float, float]
"""x, y."""
Quad = tuple[Point, Point, Point, Point]
"""Corners of a crop: top left, bottom left, bottom right, top right."""
QUAD_TEXT = "top left, bottom left, bottom right, top right"


class _Open(BaseModel):
    """Fields of a newer worker are ignored."""

    model_config = ConfigDict(frozen=True)


class FaceInfo(Message):
    """The crop that is inverted."""

    found: int = Field(ge=0, description="Number of faces in the photo; 0 if `quad` was sent.")
    quad: list[Point] | None = Field(
        None, description=f"Corners of the aligned crop in the upright photo, in pixels: {QUAD_TEXT}."
    )


class PhotoSize(_Open):
    """Size of the upright photo."""

    width: int = Field(gt=0, description="Pixels.")
    height: int = Field(gt=0, description="Pixels.")


class PhotoWarning(_Open):
    """What may spoil a result with this face; it is inverted anyway."""

    kind: str = Field(description="Stable name, such as cut-by-border; newer services may add others.")
    detail: str = Field(description="An explanation.")


class FaceSeen(_Open):
    """One face in the photo."""

    box: tuple[float, float, float, float] = Field(description="Left, top, right, bottom; may extend beyond the photo.")
    landmarks: tuple[Point, Point, Point, Point, Point] = Field(
        description="Left eye, right eye, nose, left and right corner of the mouth; left and right as in the photo."
    )
    score: float = Field(ge=0, le=1, description="Confidence of the detector.")
    quad: Quad = Field(description=f"Corners of the aligned crop: {QUAD_TEXT}. Can be passed as the option `quad`.")
    warnings: list[PhotoWarning] = Field(default_factory=list, description="What may spoil a result with this face.")


class Seen(_Open):
    """All that a look at a photo finds."""

    photo: PhotoSize
    faces: list[FaceSeen]
    """In the order of the option `face`; without it, the first is taken."""
