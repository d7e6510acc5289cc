"""Faces: find them (`find_faces`), frame one as FFHQ does and put it back (`alignment`)."""

from inversion_core.faces.alignment import Aligned, align, crop_mask, crop_quad, mask_of_crop, paste_back
from inversion_core.faces.detector import FaceDetector
from inversion_core.faces.face import Face, FaceWarning
from inversion_core.faces.find import find_and_align, find_faces, no_face_found
from inversion_core.faces.frame import ffhq_quad

__all__ = [
    "Aligned",
    "Face",
    "FaceDetector",
    "FaceWarning",
    "align",
    "crop_mask",
    "crop_quad",
    "ffhq_quad",
    "find_and_align",
    "find_faces",
    "mask_of_crop",
    "no_face_found",
    "paste_back",
]
