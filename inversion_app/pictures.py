"""Is this upload a picture that a worker can use? Runs in a process of its own: the bytes are a stranger's.

The whole picture is decoded, so that a job is never made of a damaged one, but nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw

from inversion_pictures.errors import PictureRefused
from inversion_pictures.formats import HEIC_REMEDY
from inversion_pictures.masks import read_mask
from inversion_pictures.reading import Limits, measure
from inversion_worker.contract import Quad, share_inside

MEMORY_BYTES = 2 * 1024**3
"""Most address space of the decoding process: what the limits below allow needs about 1 GB, the rest is room."""
LIMITS = Limits(
    greedy_pixels={"WEBP": 16_000_000, "AVIF": 24_000_000, "HEIF": 24_000_000, "progressive JPEG": 24_000_000}
)
"""Fewer pixels of what takes more than 4 bytes a pixel, or seconds, to decode (measured: 15, 9, 8 and 8 bytes)."""

MARGIN_PX = 3
"""How far beyond the crop a mask may be white and still count: resampling looks that far."""
NICENESS = 10
"""The decoding process gives way, so that requests are answered while many uploads are decoded."""

Refusal = tuple[str, str]
"""(slug of the problem, what is wrong with this picture)."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A photo that decodes, and its mask as the worker takes it."""

    mask: bytes | None = None
    """PNG, 8-bit grey, as large as the upright photo."""


@dataclass(frozen=True)
class Crop:
    """The part of a photo that will be inverted."""

    quad: Quad | None = None
    """Its corners; none: the largest square in the middle."""

    def corners(self, size: tuple[int, int]) -> Quad:
        """Its corners in an upright photo of this size."""
        if self.quad is not None:
            return self.quad
        side = min(size)
        left, top = (size[0] - side) / 2, (size[1] - side) / 2
        return (left, top), (left, top + side), (left + side, top + side), (left + side, top)


CENTRE = Crop()


def check(photo: bytes, mask: bytes | None = None, crop: Crop | None = None) -> Sound | Refusal:
    """What `inspect` says, with the memory of this whole process limited from now on, and its priority lowered."""
    _limit_memory()
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    warnings.simplefilter("ignore")  # of damaged metadata around sound pictures
    return inspect(photo, mask, crop)


def check_mask(mask: bytes, crop: Crop) -> Sound | Refusal:
    """Whether anything within the crop must agree; `mask` is a `Sound.mask`. Never raises."""
    with Image.open(io.BytesIO(mask), formats=["PNG"]) as picture:
        if not _is_white_within(picture.convert("L"), crop):
            return _BLACK
    return Sound(mask=mask)


def inspect(
    photo: bytes, mask: bytes | None = None, crop: Crop | None = None, limits: Limits = LIMITS
) -> Sound | Refusal:
    """Decode `photo` whole, and its mask: the reason to refuse them, or that they are sound. Never raises.

    `crop` is the part that will be inverted, where that is known: it overlaps the photo, and some of it must agree.
    """
    # Pillow warns from half of its own limit on and refuses at twice of it; the exact limit is checked from the header.
    Image.MAX_IMAGE_PIXELS = None
    try:
        size = measure(photo, limits)
        if crop is not None and share_inside(crop.corners(size), *size) <= 0:
            return "quad-invalid", f"It lies beside the upright photo of {size[0]} x {size[1]} px."
        grey = read_mask(mask, size) if mask is not None else None
        if grey is not None and crop is not None and not _is_white_within(grey, crop):
            return _BLACK
        return Sound(mask=_png(grey) if grey is not None else None)
    except PictureRefused as refused:
        remedy = f" {refused.remedy}" if refused.remedy == HEIC_REMEDY else ""  # the kind's own speaks of no HEIC
        return refused.slug, refused.said + remedy
    except MemoryError:
        return "picture-too-large", "Decoding it takes too much memory."


_BLACK: Refusal = (
    "mask-invalid",
    "It is black all over the part of the photo that is inverted, so nothing would have to agree.",
)


def _is_white_within(grey: Image.Image, crop: Crop) -> bool:
    """False for a mask that is surely black in the crop: how its last pixels are rounded, the worker knows alone."""
    corners = crop.corners(grey.size)
    within = Image.new("1", grey.size)
    draw = ImageDraw.Draw(within)
    draw.polygon(corners, fill=1, outline=1, width=1)
    draw.line([*corners, corners[0]], fill=1, width=2 * MARGIN_PX)
    return ImageChops.multiply(grey, within.convert("L")).getbbox() is not None


def _png(grey: Image.Image) -> bytes:
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    return buffer.getvalue()


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError):  # a lower hard limit is in force already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
