"""JPEG: where the picture ends, how many scans it has, and whether one without an end is whole (ITU-T T.81)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from inversion_pictures.errors import SAVE_ANEW, PictureRefused, damaged

MAX_SCANS = 64
"""Most scans of a JPEG: each goes over the whole picture, however short it is."""
MAX_MARKERS = 65_536
"""As many are looked at."""
MAX_GAP_BYTES = 4096
"""Most that stands between two markers before the first scan; the decoder goes through it byte by byte."""
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


def check_whole(first: Image.Image, second: Image.Image, *, is_progressive: bool) -> None:
    """Refuse a picture whose pixels depend on what follows its data. Raises: PictureRefused."""
    first_HX, second_HX = (np.asarray(image).reshape(image.height, -1) for image in (first, second))
    lost = np.flatnonzero((first_HX != second_HX).any(axis=1))
    if not len(lost):
        return
    missing = f"the lowest {first.height - lost[0]} of its {first.height} rows are missing"
    if is_progressive:
        missing = "its finer details are missing"
    raise PictureRefused("picture-invalid", f"The JPEG is cut short: {missing}.", f"Send the whole file. {SAVE_ANEW}")


def completions(data: bytes) -> list[bytes]:
    """The file with each of the fillers behind it, and an end."""
    return [data.rstrip(b"\xff") + filler + END for filler in _FILLERS]
