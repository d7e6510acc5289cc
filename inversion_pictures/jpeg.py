"""JPEG: where the picture ends, how many scans it has, and whether one without an end is whole (ITU-T T.81)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from inversion_pictures.errors import SAVE_ANEW, PictureRefused, damaged

MAX_SCANS = 64
"""Most scans of a JPEG: each goes over the whole picture, however short it is."""
MAX_MARKERS = 65_536
"""As many are looked at."""
MAX_GAP_BYTES = 4096
"""Most that stands between two markers before the first scan; the decoder goes through it byte by byte."""
LARGE_PX = 4_000_000
"""Pixels from which on a picture without an end is looked at in small first."""
SMALLER = 8
"""The decoder can leave out all but the mean of each block of so many pixels."""
END = b"\xff\xd9"
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""
_SCAN, _END, _PROGRESSIVE = 0xDA, 0xD9, 0xC2
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""The next marker within the data of a scan: neither a stuffed byte nor a restart."""
_FILLERS = (b"", b"\xaa" * 64)
"""What may follow the data of a picture without an end: zeros, and a one first. Pixels that depend on it are lost."""


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """The markers up to the end of the picture; what follows belongs to others, such as a phone's film."""

    scans: int
    is_progressive: bool
    has_end: bool


def survey(data: bytes) -> Jpeg:
    """Where the markers make no sense, the decoder says so. Raises: PictureRefused where there are no pixels."""
    at, markers, scans, progressive = 2, 0, 0, False
    while found := _MARKER.search(data, at):
        markers += 1
        if markers > MAX_MARKERS or (not scans and found.start() - at > MAX_GAP_BYTES):
            raise damaged("JPEG", "is damaged: it has no picture behind its markers")
        marker, at = found[1][0], found.end()
        if marker == _END:
            return Jpeg(scans=scans, is_progressive=progressive, has_end=True)
        if marker in _ALONE:
            continue
        scans += marker == _SCAN
        progressive |= marker == _PROGRESSIVE
        if scans > MAX_SCANS:
            break
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    if not scans:
        raise damaged("JPEG", "is cut short: it has no pixels at all")
    return Jpeg(scans=scans, is_progressive=progressive, has_end=False)


def check_scans(jpeg: Jpeg) -> None:
    """Raises: PictureRefused."""
    if jpeg.is_progressive and jpeg.scans > MAX_SCANS:
        raise damaged("JPEG", f"has more than {MAX_SCANS} scans")


def check_small(completed: tuple[bytes, bytes], *, is_progressive: bool) -> None:
    """The same at an eighth of the size, where most that are cut short show it in a hundredth of the time."""
    small = [Image.open(BytesIO(data), formats=["JPEG"]) for data in completed]
    height = small[0].height
    for image in small:
        image.draft(None, (max(1, image.width // SMALLER), max(1, image.height // SMALLER)))
    scale = max(1, round(height / small[0].height))
    check_whole(*small, is_progressive=is_progressive, height=height, scale=scale)


def check_whole(
    first: Image.Image, second: Image.Image, *, is_progressive: bool, height: int | None = None, scale: int = 1
) -> None:
    """Refuse a picture whose pixels depend on what follows its data; `scale` times smaller than it is.

    Raises: PictureRefused.
    """
    first_HX, second_HX = (np.asarray(image).reshape(image.height, -1) for image in (first, second))
    lost = np.flatnonzero((first_HX != second_HX).any(axis=1))
    if not len(lost):
        return
    height = height or first.height
    some = "" if scale == 1 else " or so"
    missing = f"the lowest {height - scale * lost[0]}{some} of its {height} rows are missing"
    if is_progressive:
        missing = "its finer details are missing"
    raise PictureRefused("picture-invalid", f"The JPEG is cut short: {missing}.", f"Send the whole file. {SAVE_ANEW}")


def completions(data: bytes) -> tuple[bytes, bytes]:
    """The file with each of the fillers behind it, and an end."""
    zeros, ones = (data.rstrip(b"\xff") + filler + END for filler in _FILLERS)
    return zeros, ones
