"""From a photo to the aligned crop of its largest face, in one call."""

from __future__ import annotations

from functools import cache

from PIL import Image

from inversion_core.errors import NoFaceFound
from inversion_core.faces.alignment import Aligned, align
from inversion_core.faces.detector import LOOK_PX, SMALLEST_FACE_PX, FaceDetector


def find_and_align(image: Image.Image, out_px: int, detector: FaceDetector | None = None) -> tuple[Aligned, int]:
    """Frame the largest face of an upright RGB photo as FFHQ does; also say how many faces there are.

    Args:
        image: any size; of a large photo a small copy is searched, the crop is cut from the original.
        out_px: side of the aligned picture.
        detector: one of yours, or none for one that is loaded at the first call and shared by all threads.
    Raises:
        NoFaceFound: nothing that looks like a face.
    """
    faces = (detector or _shared_detector()).detect(image)
    if not faces:
        raise NoFaceFound(_advice(image))
    return align(image, faces[0].landmarks, out_px), len(faces)


@cache
def _shared_detector() -> FaceDetector:
    return FaceDetector()


def _advice(image: Image.Image) -> str:
    least_px = max(SMALLEST_FACE_PX, round(SMALLEST_FACE_PX * max(image.size) / LOOK_PX[-1]))
    return (
        f"No face was found in this photo of {image.width}x{image.height} px. Use one with an uncovered face "
        f"that looks towards the camera and is at least {least_px} px high, "
        "or set align=false to take the centre of the picture as it is."
    )
