"""What is known of one face in a photo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from inversion_core.faces.frame import Floats, ffhq_quad


class FaceWarning(StrEnum):
    """What may spoil a result although a face was found. The values never change, so programs may test them."""

    CUT_BY_BORDER = "cut-by-border"

    @property
    def sentence(self) -> str:
        """What it means and what to do, for a person."""
        return SENTENCES[self]


SENTENCES = {
    FaceWarning.CUT_BY_BORDER: "The photo's border cuts the face: what is missing is mirrored and blurred in the crop. "
    "Use a photo that shows the whole head.",
}


CUT_PART = 0.05
"""Part of its box, which ends at brows, ears and chin, by which a face may leave the photo and count as whole."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """One face. Left and right are as the upright face is seen, not the person's. Coordinates are the photo's."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom; it may leave the photo where the face does."""
    landmarks: Floats
    """(5, 2): left eye, right eye, nose, left and right corner of the mouth."""
    score: float
    """How sure the detector is, from 0 to 1."""
    warnings: tuple[FaceWarning, ...] = ()
    """What may spoil a result."""

    def seen_in(self, size: tuple[int, int]) -> Face:
        """The same with the warnings that a photo of this size gives rise to."""
        left, top, right, bottom = self.box
        beyond = max(max(-left, right - size[0]) / (right - left), max(-top, bottom - size[1]) / (bottom - top))
        return replace(self, warnings=(FaceWarning.CUT_BY_BORDER,) if beyond > CUT_PART else ())

    @property
    def area(self) -> float:
        """Square pixels of the box."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def quad(self) -> Floats:
        """(4, 2): the corners of the crop that `align` takes; top left, bottom left, bottom right, top right."""
        return ffhq_quad(self.landmarks)
