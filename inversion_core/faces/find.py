"""Find the faces in a photo, and crop the largest."""

from __future__ import annotations

from functools import cache

from PIL import Image

from inversion_core.errors import NoFaceFound
from inversion_core.faces.alignment import Aligned, align
from inversion_core.faces.cascade import SMALLEST_FACE_PX
from inversion_core.faces.detector import CLOSE_LOOK_PX, FaceDetector
from inversion_core.faces.face import Face


def find_faces(image: Image.Image, detector: FaceDetector | None = None) -> list[Face]:
    """Detect all faces in an RGB photo, including rotated ones, largest first.

    Args:
        image: any size; large photos are searched at reduced size.
        detector: your own detector. None: a shared one, loaded at the first call.
    """
    return (detector or _shared_detector()).detect(image)


def find_and_align(image: Image.Image, out_px: int, detector: FaceDetector | None = None) -> tuple[Aligned, int]:
    """Crop the largest face, upright and as in FFHQ; also return the number of faces.

    Args:
        image: as in `find_faces`; the crop is made at full resolution.
        out_px: side of the crop.
        detector: as in `find_faces`.
    Raises:
        NoFaceFound: there is no face.
    """
    faces = find_faces(image, detector)
    if not faces:
        raise no_face_found(image)
    return align(image, faces[0], out_px), len(faces)


def no_face_found(image: Image.Image) -> NoFaceFound:
    """The error for a photo without a face. It names no option, because each front end adds its own."""
    least_px = max(SMALLEST_FACE_PX, round(SMALLEST_FACE_PX * max(image.size) / CLOSE_LOOK_PX))
    return NoFaceFound(
        f"No face was found in this photo of {image.width}x{image.height} px. Use one with an uncovered face "
        f"that looks towards the camera and is at least {least_px} px high."
    )


@cache
def _shared_detector() -> FaceDetector:
    return FaceDetector()
