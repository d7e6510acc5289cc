"""Faces: find them (`find_faces`), frame one as FFHQ does (`alignment`), put it back edited (`pasting`)."""

from inversion_core.faces.alignment import Aligned, align, crop_mask, crop_quad, mask_of_crop, paste_back
from inversion_core.faces.detector import FaceDetector
from inversion_core.faces.face import Face, FaceWarning
from inversion_core.faces.find import find_and_align, find_faces, no_face_found
from inversion_core.faces.frame import ffhq_quad
from inversion_core.faces.pasting import Mode, Patch, paste, patch

__all__ = [
    "Aligned",
    "Face",
    "FaceDetector",
    "FaceWarning",
    "Mode",
    "Patch",
    "align",
    "crop_mask",
    "crop_quad",
    "ffhq_quad",
    "find_and_align",
    "find_faces",
    "mask_of_crop",
    "no_face_found",
    "paste",
    "paste_back",
    "patch",
]
