"""Find all faces of a photo, whichever way they are turned: look, look again where the answer is in doubt.

An upright face in good light is found at the first look with a score that nothing else reaches, and that answer stands
as it is. Anything else is in doubt: the networks know upright faces alone, and read landmarks into one that lies on its
side or head, and into an eye or a fox. So each such answer is looked at again by itself, turned four ways, until it
stands upright, and at several sizes; it counts when they agree. Where nothing is found, or nothing that counts, the
photo is looked at with more detail, brighter where it is dark, and turned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from inversion_core.faces.boxes import overlaps, suppress
from inversion_core.faces.cascade import FACE_SCORE, SMALLEST_FACE_PX, Cascade
from inversion_core.faces.face import Face
from inversion_core.faces.frame import Floats
from inversion_core.faces.light import brightened
from inversion_core.faces.pose import is_plausible, roll_deg
from inversion_core.faces.region import AROUND, region_around

Box = tuple[float, float, float, float]

LOOK_PX, CLOSE_LOOK_PX = 640, 1280
"""Longest side that the picture is scaled to at a look, and at a closer one where the first finds nothing; it is scaled
up at most `MOST_ENLARGED` times."""
MOST_ENLARGED = 3.0
SURE = 0.995
"""Score of a first look that needs no second one. Upright faces of photographs had .999 and more, those turned by 15
degrees .996; upside down none had more than .979, and on its side none more than .986."""
LEVEL_DEG = 35.0
"""Roll up to which a sure face's landmarks are right; beyond, they are read again from the face set upright."""
UPRIGHT_DEG = 6.0
"""Roll at which a face counts as set upright."""
TURNED_DEG = 60.0
"""Roll beyond which a face has to be believed."""
TURNED_SCORE, TURNED_PART = 0.97, 0.06
"""Least score of such a face, and least side as a part of the photo's longer one."""
CROSS_LOOKS = (0.8, 0.3)
"""Further sizes of the picture, as parts of the first, where its answer is in doubt: a face that fills the picture is
found at some sizes only, and at others one of its eyes."""
INSIDE = 0.7
"""Part of a box that lies inside another's, from which only the better of the two is a face."""
MOST_UPRIGHTINGS = 3
FACE_PX = (96, 64, 144)
"""Sizes of a face at its second looks: the first one sets it upright, the others must agree."""
SAME = 0.4
"""Least overlap of two boxes that are one face's."""
TRANSPOSED = {
    90: Image.Transpose.ROTATE_90,
    270: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
}
"""Roll of a face, clockwise -> what sets it upright."""


class Looks(Protocol):
    """What `Cascade` does."""

    def look(self, image: Image.Image, scale: float = 1.0, *, smallest_px: float = SMALLEST_FACE_PX) -> list[Face]: ...


class FaceDetector:
    """Holds no state between calls, so threads may share one."""

    def __init__(self, device: str | torch.device = "cpu", cascade: Looks | None = None) -> None:
        """`cascade`: what looks for upright faces, where it is not to be MTCNN on this device."""
        self._cascade = cascade or Cascade(device)

    def detect(self, image: Image.Image) -> list[Face]:
        """All faces of an RGB picture, the largest first; an empty list when there is none."""
        for seen, candidates in self._looks(image):
            faces = self._settled(seen, candidates)
            if faces:
                return [face.seen_in(image.size) for face in _largest_first(_outermost(faces))]
        return []

    def _looks(self, image: Image.Image) -> Iterator[tuple[Image.Image, list[Face]]]:
        """Look after look: the picture that was looked at, and what was found."""
        scale = _scale(image, LOOK_PX)
        found = self._cascade.look(image, scale)
        if found and not any(_is_sure(face) for face in found):
            found += [face for part in CROSS_LOOKS for face in self._cascade.look(image, part * scale)]
        yield image, found
        if (larger := _scale(image, CLOSE_LOOK_PX)) > scale:
            yield image, self._cascade.look(image, larger)
        if bright := brightened(image):
            image = bright
            yield image, self._cascade.look(image, scale)
        for degrees, transposition in TRANSPOSED.items():
            faces = self._cascade.look(image.transpose(transposition), scale)
            yield image, [_turned_back(face, image.size, degrees) for face in faces]

    def _settled(self, image: Image.Image, candidates: Sequence[Face]) -> list[Face]:
        """Those that are faces, each once and set upright."""
        faces: list[Face] = []
        for found in candidates:
            if not _is_among(found, faces) and (face := self._looked_at_again(image, found)):
                faces += [] if _is_among(face, faces) else [face]
        return faces

    def _looked_at_again(self, image: Image.Image, found: Face) -> Face | None:
        """The face as it was found where that is sure, else as a second look shows it; None where it is none."""
        roll = roll_deg(found.landmarks)
        if _is_sure(found) and abs(roll) <= LEVEL_DEG:
            return found
        turns_deg = (0,) if _is_sure(found) else (0, 90, 180, 270)
        tried = [self._set_upright(image, found.box, roll + turn) for turn in turns_deg]
        best = max((face for face in tried if face), key=lambda face: face.score, default=None)
        if best is None or not is_plausible(best.landmarks):
            return None
        best = replace(best, score=self._agreed_score(image, best))
        if best.score <= FACE_SCORE or (abs(roll_deg(best.landmarks)) > TURNED_DEG and not _is_believed(best, image)):
            return None
        is_as_found = abs(_difference_deg(roll, roll_deg(best.landmarks))) <= UPRIGHT_DEG and abs(roll) <= LEVEL_DEG
        return found if is_as_found else best

    def _set_upright(self, image: Image.Image, box: Box, degrees: float) -> Face | None:
        """The face that is seen when the photo is turned back by so much, and further until it stands upright."""
        face = None
        for _ in range(MOST_UPRIGHTINGS):
            face = self._look_at(image, box, degrees, FACE_PX[0])
            if face is None:
                return None
            before, degrees, box = degrees, roll_deg(face.landmarks), face.box
            if abs(_difference_deg(before, degrees)) <= UPRIGHT_DEG:
                break
        return face

    def _agreed_score(self, image: Image.Image, face: Face) -> float:
        """Its scores at several sizes, averaged; 0 where it is not found."""
        roll = roll_deg(face.landmarks)
        others = [self._look_at(image, face.box, roll, face_px) for face_px in FACE_PX[1:]]
        return float(np.mean([face.score, *(other.score if other else 0.0 for other in others)]))

    def _look_at(self, image: Image.Image, box: Box, degrees: float, face_px: int) -> Face | None:
        """The face in a box, where the photo is turned so that it stands upright, and scaled to so many pixels."""
        region, px = region_around(box, degrees), round(AROUND * face_px)
        faces = self._cascade.look(region.seen(image, px), smallest_px=face_px / 2)
        middle = np.array([px - face_px, px - face_px, px + face_px, px + face_px]) / 2
        faces = [face for face in faces if overlaps(middle, np.array([face.box]))[0] > SAME]
        best = max(faces, key=lambda face: face.score, default=None)
        return None if best is None else region.in_photo(best, px)


def _scale(image: Image.Image, look_px: int) -> float:
    return min(look_px / max(image.size), MOST_ENLARGED)


def _is_sure(face: Face) -> bool:
    return face.score > SURE and is_plausible(face.landmarks)


def _is_believed(face: Face, image: Image.Image) -> bool:
    """Whether one that lies on its side or head is more than a patch of fur: those are many, and such faces few."""
    side = max(face.box[2] - face.box[0], face.box[3] - face.box[1])
    return face.score > TURNED_SCORE and side > TURNED_PART * max(image.size)


def _is_among(face: Face, faces: Sequence[Face]) -> bool:
    boxes = np.array([other.box for other in faces]).reshape(-1, 4)
    return bool((overlaps(np.array(face.box), boxes) > SAME).any())


def _outermost(faces: Sequence[Face]) -> list[Face]:
    """Without an eye that was taken for a face, where the face is there too: it has the better score."""
    boxes, scores = np.array([face.box for face in faces]), np.array([face.score for face in faces])
    return [faces[index] for index in suppress(boxes, scores, most=INSIDE, by="smaller")]


def _largest_first(faces: Sequence[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: face.area, reverse=True)


def _turned_back(face: Face, size: tuple[int, int], degrees: int) -> Face:
    """A face that was found in the picture of this size set upright from so many degrees, where that is."""
    left, top, right, bottom = face.box
    corners = _points_back(np.array([[left, top], [right, bottom]]), size, degrees)
    (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return replace(face, box=(x0, y0, x1, y1), landmarks=_points_back(face.landmarks, size, degrees))


def _points_back(points: Floats, size: tuple[int, int], degrees: int) -> Floats:
    x, y = points.T
    width, height = size
    return np.stack({90: (width - y, x), 180: (width - x, height - y), 270: (y, height - x)}[degrees], axis=1)


def _difference_deg(a: float, b: float) -> float:
    """From -180 to 180."""
    return (b - a + 180) % 360 - 180
