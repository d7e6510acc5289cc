"""Which format a file has, by its content and never by its name."""

from __future__ import annotations

import importlib.util
from functools import cache

MIN_SIDE_PX = 64
"""Shortest side of a photo that is taken."""
MAX_PIXELS = 50_000_000
"""Most pixels that are decoded, counted from the header."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow's names of the formats that are always taken. HEIF is taken where the extra `heif` is installed."""
NAMED = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
"""The same, for people."""
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif",
    ".heic", ".heif",
)  # fmt: skip
"""Ends of the names of pictures, in small letters."""
HEAD_BYTES = 512
"""As much of a file's beginning as `sniff` looks at."""
HEIC_REMEDY = (
    "Save it as JPEG first: in the Photos app of an iPhone or a Mac by exporting it, elsewhere with "
    "`heif-convert photo.heic photo.jpg`; an iPhone takes JPEG at once with Settings > Camera > Formats > Most "
    "Compatible."
)
"""What to do about a HEIC photo where the extra `heif` is missing."""

_STARTS: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # the latter two are BigTIFF
}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_STILL_BRANDS = {b"mif1", b"msf1", b"miaf"}
"""Of any ISO picture; which coding it has is said beside it."""
_ITEMS = {b"av01": "AVIF", b"hvc1": "HEIF"}
_OTHERS: dict[str, tuple[bytes, ...]] = {
    "a PDF document": (b"%PDF",),
    "an SVG drawing": (b"<svg", b"<?xml", b"\xef\xbb\xbf<svg", b"\xef\xbb\xbf<?xml"),
    "a JPEG XL picture": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "a JPEG 2000 picture": (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "),
    "a Photoshop document": (b"8BPS",),
    "an HTML page": (b"<!doctype html", b"<!DOCTYPE html", b"<html"),
}


def sniff(data: bytes) -> str | None:
    """The format by the first `HEAD_BYTES`: one of `FORMATS`, HEIF, or None."""
    for kind, starts in _STARTS.items():
        if data.startswith(starts):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return _iso_kind(data)


@cache
def formats_taken() -> tuple[str, ...]:
    """`FORMATS`, and HEIF where the extra `heif` is installed."""
    return FORMATS if importlib.util.find_spec("pi_heif") is None else (*FORMATS, "HEIF")


def described(data: bytes) -> tuple[str, str]:
    """What a file that is not taken is, and the remedy: a sentence each."""
    if sniff(data) == "HEIF":
        return "It is a HEIC photo, which cannot be decoded here.", HEIC_REMEDY
    remedy = f"Save the picture as {NAMED} and send that file."
    for name, starts in _OTHERS.items():
        if data.startswith(starts):
            return f"It is {name}, not a {NAMED} picture.", remedy
    return f"The file is not a {NAMED} picture.", remedy


def _iso_kind(data: bytes) -> str | None:
    """AVIF or HEIF by the brands of an ISO media file (ISO/IEC 14496-12, 4.3), major and compatible."""
    if data[4:8] != b"ftyp":
        return None
    size = int.from_bytes(data[:4], "big")
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(size, len(data), HEAD_BYTES) - 3, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIC_BRANDS:
        return "HEIF"
    if brands & _STILL_BRANDS:  # no brand says the coding: the kinds of the items do, behind the brands
        return next((kind for item, kind in _ITEMS.items() if item in data[:HEAD_BYTES]), None)
    return None
