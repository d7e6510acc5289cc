"""From a photo to its faces, and to the aligned crop of the largest, in one call each."""

from __future__ import annotations

from functools import cache

from PIL import Image

from inversion_core.errors import NoFaceFound
from inversion_core.faces.alignment import Aligned, align
from inversion_core.faces.cascade import SMALLEST_FACE_PX
from inversion_core.faces.detector import CLOSE_LOOK_PX, FaceDetector
from inversion_core.faces.face import Face


def find_faces(image: Image.Image, detector: FaceDetector | None = None) -> list[Face]:
    """All faces of an RGB photo, turned ones too, the largest first: that is the one that is taken.

    Args:
        image: any size; of a large photo a small copy is searched.
        detector: one of yours, or none for one that is loaded at the first call and shared by all threads.
    """
    return (detector or _shared_detector()).detect(image)


def find_and_align(image: Image.Image, out_px: int, detector: FaceDetector | None = None) -> tuple[Aligned, int]:
    """Set the largest face of an RGB photo upright and frame it as FFHQ does; also say how many faces there are.

    Args:
        image: as `find_faces` takes it; the crop is cut from the original.
        out_px: side of the aligned picture.
        detector: as `find_faces` takes it.
    Raises:
        NoFaceFound: nothing that looks like a face.
    """
    faces = find_faces(image, detector)
    if not faces:
        raise no_face_found(image)
    return align(image, faces[0], out_px), len(faces)


def no_face_found(image: Image.Image) -> NoFaceFound:
    """The error for a photo in which `find_faces` found none. It names no option: each front end adds its own."""
    least_px = max(SMALLEST_FACE_PX, round(SMALLEST_FACE_PX * max(image.size) / CLOSE_LOOK_PX))
    return NoFaceFound(
        f"No face was found in this photo of {image.width}x{image.height} px. Use one with an uncovered face "
        f"that looks towards the camera and is at least {least_px} px high."
    )


@cache
def _shared_detector() -> FaceDetector:
    return FaceDetector()
