"""A detected face."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from inversion_core.faces.frame import Floats, ffhq_quad


class FaceWarning(StrEnum):
    """What may spoil a result although a face was found. The values are stable."""

    CUT_BY_BORDER = "cut-by-border"

    @property
    def sentence(self) -> str:
        """What it means and what to do, as a sentence."""
        return SENTENCES[self]


SENTENCES = {
    FaceWarning.CUT_BY_BORDER: "The photo's border cuts the face: what is missing is mirrored and blurred in the crop. "
    "Use a photo that shows the whole head.",
}


CUT_PART = 0.05
"""Share of the box that may be outside the photo without a warning. The box ends at brows, ears and chin."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """One face, in coordinates of the photo. Left and right are the viewer's, with the face upright."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom; may extend beyond the photo."""
    landmarks: Floats
    """(5, 2): left eye, right eye, nose, left and right corner of the mouth."""
    score: float
    """Confidence of the detector, 0 to 1."""
    warnings: tuple[FaceWarning, ...] = ()
    """What may spoil a result."""

    def seen_in(self, size: tuple[int, int]) -> Face:
        """The same face with the warnings that apply in a photo of this size."""
        left, top, right, bottom = self.box
        beyond = max(max(-left, right - size[0]) / (right - left), max(-top, bottom - size[1]) / (bottom - top))
        return replace(self, warnings=(FaceWarning.CUT_BY_BORDER,) if beyond > CUT_PART else ())

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def quad(self) -> Floats:
        """(4, 2): the corners of the crop that `align` takes; top left, bottom left, bottom right, top right."""
        return ffhq_quad(self.landmarks)
