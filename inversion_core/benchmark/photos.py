"""The photographs of a benchmark: found, aligned as the service does it, and kept at two sizes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from inversion_core.errors import InversionError, NoFaceFound, OptionInvalid, PictureInvalid
from inversion_core.faces import FaceDetector, crop_quad, find_and_align
from inversion_core.faces.frame import Floats
from inversion_core.picture_files import find_pictures
from inversion_core.pictures import centre_crop, load_photo
from inversion_core.progress import progress

PORTRAIT_PX = 256
"""Least side of the picture that landmarks are read from and identity is compared in."""
THUMBNAIL_PX = 256


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One photograph, ready to be inverted."""

    name: str
    photo: Image.Image
    """Its centre, a small square, for the sheet."""
    aligned: Image.Image
    """What is inverted: the face at the pack's resolution."""
    portrait: Image.Image
    """The same frame with more pixels, as far as the photo has them."""
    landmarks: Floats | None
    """(5, 2) in the portrait; None where they are not wanted, or no face was found in it."""


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """The paths, each folder replaced by the pictures below it, in the order of their names; none twice.

    Raises:
        OptionInvalid: a folder has none.
    """
    photos = [photo for path in paths for photo in (find_pictures(path) if path.is_dir() else [path])]
    return list(dict.fromkeys(photos))


def load_subjects(
    photos: Sequence[Path], resolution: int, *, align: bool, landmarks: bool
) -> tuple[list[Subject], list[str]]:
    """Read and align the photographs; those that cannot be used are named and counted on stderr, and returned.

    Raises:
        NoFaceFound, PictureInvalid: none is left; the reason is the last one's.
    """
    detector = FaceDetector()
    subjects, skipped, reason = [], [], None
    for file, name in zip(progress(photos, desc="aligning", unit="photo"), _names(photos), strict=True):
        try:
            subjects.append(_load(file, name, resolution, detector, align=align, landmarks=landmarks))
        except (PictureInvalid, NoFaceFound) as error:
            print(f"skipped {file}: {error}", file=sys.stderr)
            skipped.append(name)
            reason = error
    if not subjects:
        raise _none_left(reason)
    if skipped:
        print(f"{len(skipped)} of {len(photos)} photographs were skipped", file=sys.stderr)
    return subjects, skipped


def _none_left(reason: InversionError | None) -> InversionError:
    if reason is None:
        return OptionInvalid("no photographs were given")
    return type(reason)(f"None of the photographs can be used. The last one: {reason}")


def _load(file: Path, name: str, resolution: int, detector: FaceDetector, *, align: bool, landmarks: bool) -> Subject:
    photo = load_photo(file)
    portrait_px = max(PORTRAIT_PX, resolution)
    if align:
        framed, _ = find_and_align(photo, portrait_px, detector)
        portrait, aligned = framed.image, crop_quad(photo, framed.quad, resolution)
    else:
        portrait, aligned = centre_crop(photo, portrait_px), centre_crop(photo, resolution)
    faces = detector.detect(portrait) if landmarks else []
    return Subject(
        name=name,
        photo=centre_crop(photo, THUMBNAIL_PX),
        aligned=aligned,
        portrait=portrait,
        landmarks=faces[0].landmarks if faces else None,
    )


def _names(photos: Sequence[Path]) -> list[str]:
    """The file's name, with its folder or the whole path where that takes it to tell two apart."""

    def tell_apart(photo: Path) -> str:
        for name in (lambda p: p.name, lambda p: f"{p.parent.name}/{p.name}"):
            if sum(name(other) == name(photo) for other in photos) == 1:
                return name(photo)
        return str(photo)

    return [tell_apart(photo) for photo in photos]
