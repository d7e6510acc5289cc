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

from PIL import Image

from inversion_pictures.errors import PictureRefused
from inversion_pictures.formats import HEIC_REMEDY
from inversion_pictures.masks import read_mask
from inversion_pictures.reading import Limits, measure

MEMORY_BYTES = 2 * 1024**3
"""Most address space of the decoding process: what the limits below allow needs about 0.3 GB, the rest is room."""
LIMITS = Limits(greedy_pixels={"WEBP": 16_000_000, "AVIF": 24_000_000, "progressive JPEG": 24_000_000})
"""Fewer pixels of what takes more than 4 bytes a pixel, or seconds, to decode (measured: 15, 9 and 8 bytes)."""

NICENESS = 10
"""The decoding process gives way, so that requests are answered while many uploads are decoded."""

Refusal = tuple[str, str]
"""(slug of the problem, what is wrong with this picture)."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A photo that decodes, and its mask as the worker takes it."""

    mask: bytes | None = None
    """PNG, 8-bit grey, as large as the upright photo."""


def check(photo: bytes, mask: bytes | None = None) -> Sound | Refusal:
    """What `inspect` says, with the memory of this whole process limited from now on, and its priority lowered."""
    _limit_memory()
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    warnings.simplefilter("ignore")  # of damaged metadata around sound pictures
    return inspect(photo, mask)


def inspect(photo: bytes, mask: bytes | None = None, limits: Limits = LIMITS) -> Sound | Refusal:
    """Decode `photo` whole, and its mask: the reason to refuse them, or that they are sound. Never raises."""
    # Pillow warns from half of its own limit on and refuses at twice of it; the exact limit is checked from the header.
    Image.MAX_IMAGE_PIXELS = None
    try:
        size = measure(photo, limits)
        return Sound(mask=_png(read_mask(mask, size)) if mask is not None else None)
    except PictureRefused as refused:
        remedy = f" {refused.remedy}" if refused.remedy == HEIC_REMEDY else ""  # the kind's own speaks of no HEIC
        return refused.slug, refused.said + remedy
    except MemoryError:
        return "picture-too-large", "Decoding it takes too much memory."


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
