"""Frames as one picture, and a picture in another form. Runs in the decoding process: encoding takes a while."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from inversion_pictures.colours import bare

MAX_ANIMATED = 120
"""Most frames of an animation."""
MAX_STRIP = 32
"""Most frames of a strip."""
_MAX_SIDE_PX = 16_383
"""Longest side of a WebP."""
_QUALITY = 85
_GAP_PX = 2
_LAST_MS = 1500
"""How long the animation rests on the result before it begins again."""


def evenly(steps: Sequence[int], most: int) -> list[int]:
    """At most `most` of the steps, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    if most == 1:
        return [steps[-1]]
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]


def animation(frames: Sequence[bytes], frame_ms: int) -> bytes:
    """An animated WebP that repeats for ever, and rests on its last frame. At least one frame."""
    first, *others = [_opened(frame) for frame in frames]
    durations = [frame_ms] * len(others) + [_LAST_MS]
    buffer = io.BytesIO()
    first.save(
        buffer, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=_QUALITY, method=2
    )
    return buffer.getvalue()


def strip(frames: Sequence[bytes], kind: str) -> bytes:
    """Pictures side by side with small white gaps, as PNG or WEBP; smaller where the strip would be too long."""
    pictures = [_opened(frame) for frame in frames]
    side = min(pictures[0].width, (_MAX_SIDE_PX + _GAP_PX) // len(pictures) - _GAP_PX)
    sheet = Image.new("RGB", (len(pictures) * (side + _GAP_PX) - _GAP_PX, side), "white")
    for index, picture in enumerate(pictures):
        fitting = picture if picture.width == side else picture.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(fitting, (index * (side + _GAP_PX), 0))
    buffer = io.BytesIO()
    sheet.save(buffer, kind, quality=_QUALITY)
    return buffer.getvalue()


def encoded(picture: bytes, kind: str) -> bytes:
    """A PNG as WEBP, without loss, or as JPEG, as exact as that gets."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(picture), formats=["PNG"]) as opened:
        bare(opened.convert("RGB")).save(buffer, kind, quality=95, subsampling=0, lossless=True)
    return buffer.getvalue()


def _opened(frame: bytes) -> Image.Image:
    return bare(Image.open(io.BytesIO(frame), formats=["WEBP", "PNG"]).convert("RGB"))
