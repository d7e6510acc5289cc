"""Faces: find them (`detector`), frame one as FFHQ does and put it back (`alignment`)."""

from inversion_core.faces.alignment import Aligned, align, crop_mask, crop_quad, ffhq_quad, paste_back
from inversion_core.faces.detector import Face, FaceDetector
from inversion_core.faces.find import find_and_align

__all__ = [
    "Aligned",
    "Face",
    "FaceDetector",
    "align",
    "crop_mask",
    "crop_quad",
    "ffhq_quad",
    "find_and_align",
    "paste_back",
]
