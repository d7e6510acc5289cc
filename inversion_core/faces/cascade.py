"""One look at a picture for upright faces: the cascade of MTCNN (Zhang 2016, section II). `detector` decides on looks.

Coordinates are continuous and in pixels of the picture given: the pixel in column i covers [i, i + 1).
Shapes: N face or candidate, C, H, W.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from inversion_core.faces.boxes import Floats, proper, shift, square, suppress
from inversion_core.faces.face import Face
from inversion_core.faces.networks import MTCNN
from inversion_core.faces.one_thread import on_one_thread

SMALLEST_FACE_PX = 24
"""Smallest face that is looked for, in pixels of the scaled picture."""
PYRAMID_STEP = 0.709
"""Scale from one level of the pyramid to the next: half the area."""
THRESHOLDS = (0.6, 0.6, 0.6)
"""Least score to pass PNet, RNet, ONet."""
FACE_SCORE = 0.8
"""Least score averaged over `NUDGES`: faces in photos had over .99, texture that passed ONet once under .77."""
MAX_CANDIDATES = 300
"""Most candidates that leave PNet: a picture of nothing but texture must not take minutes."""
CLOSER = 0.9
"""Side of the crops that landmarks are read from, as a share of the face's box; .75 to 1.25 were tried."""
NUDGES = ((0.0, 0.0), (-0.05, -0.05), (0.05, -0.05), (-0.05, 0.05), (0.05, 0.05))
"""Shifts of those crops, in units of their side."""
FFHQ_SPREAD = 1 / 1.0146
FFHQ_DROP = 0.0164
"""MTCNN's eyes and corners of the mouth lie a little further out and higher than the landmarks that FFHQ was
aligned with. Measured on 150 FFHQ-aligned pictures, which should give back their own frame: the quad came out
1.0146 times as large and 0.41 % of its side (1.64 % of the distance between the eyes) too high."""
GREY = (128, 128, 128)
"""What lies around a picture: zero to the networks, as in their training."""


class Cascade:
    """MTCNN with its weights. Holds no state between calls, so threads may share one; they wait for each other."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)
        self._networks = MTCNN().to(self._device)

    @on_one_thread
    @torch.inference_mode()
    def look(self, image: Image.Image, scale: float = 1.0, *, smallest_px: float = SMALLEST_FACE_PX) -> list[Face]:
        """The upright faces of an RGB picture that is scaled so first, in no order.

        `smallest_px` is the smallest face that is looked for, in pixels of the scaled picture.
        """
        if scale != 1.0:
            image = _scaled(image, scale)
        margin = max(image.size) // 8  # a tight crop: the face's box may leave the picture
        padded = Image.new("RGB", (image.width + 2 * margin, image.height + 2 * margin), GREY)
        padded.paste(image, (margin, margin))
        boxes = self._refine(padded, self._propose(padded, smallest_px))
        faces = []
        for box in self._judge(padded, boxes):
            score, landmarks = self._look_closer(padded, box)
            if score > FACE_SCORE:
                place = _edges((box - margin) / scale)
                faces.append(Face(box=place, landmarks=(_as_ffhq(landmarks) - margin) / scale, score=score))
        return faces

    def _propose(self, image: Image.Image, smallest_px: float) -> Floats:
        """PNet over the pyramid: (N, 4) boxes."""
        levels = [self._propose_at(image, scale) for scale in _pyramid(min(image.size), smallest_px)]
        boxes = np.concatenate([boxes for boxes, _ in levels])
        scores = np.concatenate([scores for _, scores in levels])
        return boxes[suppress(boxes, scores, most=0.7)[:MAX_CANDIDATES]]

    def _propose_at(self, image: Image.Image, scale: float) -> tuple[Floats, Floats]:
        level = _scaled(image, scale)
        score_1HW, offsets_14HW = self._networks.pnet(self._tensor([level]))
        rows, columns = (score_1HW[0] > THRESHOLDS[0]).nonzero(as_tuple=True)
        corner = 2.0 * torch.stack([columns, rows], dim=1)  # stride 2, windows of 12 px
        boxes = shift(_array(torch.cat([corner, corner + 12], dim=1)), _array(offsets_14HW[0, :, rows, columns].T))
        scores = _array(score_1HW[0, rows, columns])
        keep = suppress(boxes, scores, most=0.5)[:MAX_CANDIDATES]
        keep = keep[proper(boxes[keep])]
        ratio = np.array([image.width / level.width, image.height / level.height] * 2)
        return boxes[keep] * ratio, scores[keep]

    def _refine(self, image: Image.Image, boxes: Floats) -> Floats:
        """RNet on each candidate: (N, 4) boxes."""
        if not len(boxes):
            return boxes
        boxes = square(boxes)
        score_N, offsets_N4 = self._networks.rnet(self._crops(image, boxes, 24))
        scores, boxes = _array(score_N), shift(boxes, _array(offsets_N4))
        passed = (scores > THRESHOLDS[1]) & proper(boxes)
        boxes, scores = boxes[passed], scores[passed]
        return boxes[suppress(boxes, scores, most=0.7)]

    def _judge(self, image: Image.Image, boxes: Floats) -> Floats:
        """ONet on each candidate: (N, 4) boxes."""
        if not len(boxes):
            return boxes
        boxes = square(boxes)
        score_N, offsets_N4, _ = self._networks.onet(self._crops(image, boxes, 48))
        scores, boxes = _array(score_N), shift(boxes, _array(offsets_N4))
        passed = (scores > THRESHOLDS[2]) & proper(boxes)
        boxes, scores = boxes[passed], scores[passed]
        return boxes[suppress(boxes, scores, most=0.7, by="smaller")]

    def _look_closer(self, image: Image.Image, box: Floats) -> tuple[float, Floats]:
        """ONet's score and landmarks (5, 2), averaged over shifted crops and their mirror images."""
        side = CLOSER * (box[2:] - box[:2]).max()
        boxes = np.array([_around((box[:2] + box[2:]) / 2 + side * np.array(nudge), side) for nudge in NUDGES])
        crops = [_crop(image, box, 48) for box in boxes]
        score_N, _, landmarks_N52 = self._networks.onet(self._tensor(crops + [ImageOps.mirror(crop) for crop in crops]))
        seen, mirrored = _array(landmarks_N52).reshape(2, len(NUDGES), 5, 2)
        mirrored = mirrored[:, [1, 0, 2, 4, 3]] * [-1, 1] + [1, 0]
        landmarks = (boxes[:, None, :2] + side * (seen + mirrored) / 2).mean(axis=0)
        return float(score_N.mean()), landmarks

    def _crops(self, image: Image.Image, boxes: Floats, px: int) -> Tensor:
        return self._tensor([_crop(image, box, px) for box in boxes])

    def _tensor(self, images: list[Image.Image]) -> Tensor:
        pixels_NHWC = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        # MTCNN's own normalisation, (x - 127.5) / 128, not this library's [-1, 1].
        return (pixels_NHWC.to(self._device).permute(0, 3, 1, 2).float() - 127.5) / 128


def _as_ffhq(landmarks: Floats) -> Floats:
    """Landmarks (5, 2) where FFHQ's own landmark detector would have put them, on average."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    centre = eyes + 0.1 * (mouth - eyes)  # of FFHQ's quad
    right = landmarks[1] - landmarks[0]
    down = np.array([-right[1], right[0]])
    shifted: Floats = centre + FFHQ_SPREAD * (landmarks - centre) + FFHQ_DROP * down
    return shifted


def _around(centre: Floats, side: float) -> Floats:
    return np.concatenate([centre - side / 2, centre + side / 2])


def _edges(box: Floats) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom


def _pyramid(side_px: int, smallest_px: float) -> Iterator[float]:
    """Scales at which a 12 px window covers ever larger faces, from the smallest to the whole picture."""
    scale = 12 / smallest_px
    while side_px * scale >= 12:
        yield scale
        scale *= PYRAMID_STEP


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # reducing_gap: large photos are first shrunk by whole factors, many times faster and as good.
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)


def _crop(image: Image.Image, box: Floats, px: int) -> Image.Image:
    """A box resampled to px by px with antialiasing; outside the picture it is grey."""
    left, top, right, bottom = box.tolist()
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(image.width)), min(bottom, float(image.height)))
    if inside == (left, top, right, bottom):
        return image.resize((px, px), Image.Resampling.BILINEAR, box=inside)
    return image.transform(
        (px, px),
        Image.Transform.AFFINE,
        ((right - left) / px, 0, left, 0, (bottom - top) / px, top),
        Image.Resampling.BILINEAR,
        fillcolor=GREY,
    )


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.double().cpu().numpy()
    return array
