"""Photos with as much beside their pixels as a format takes, and what a picture of bare pixels may hold."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from corpus import SWAPPED, encode, photo_like, png_chunk
from PIL import ExifTags, Image, PngImagePlugin

SECRET = b"Bletchley"
"""What all of them say beside their pixels."""
_WORD = SECRET.decode()
_PROFILE = SWAPPED + SECRET
_XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRET + b"</x:xmpmeta>"
_PNG_PARTS = {b"IHDR", b"IDAT", b"IEND"}
_JPEG_PARTS = {0xE0, 0xDB, 0xC0, 0xC2, 0xC4, 0xDD, 0xDA}
"""JFIF's head, tables, frame, scan."""
_WEBP_PARTS = {b"VP8 ", b"VP8L"}
_ANIMATED_PARTS = _WEBP_PARTS | {b"VP8X", b"ANIM", b"ANMF"}


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = _WORD
    exif[ExifTags.Base.ImageDescription] = _WORD
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSProcessingMethod] = SECRET
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = SECRET
    return exif


def photos(size: tuple[int, int] = (200, 160)) -> dict[str, bytes]:
    """Format -> a photo of it that says the secret in every way the format has."""
    image, exif = photo_like(size), _exif()
    text = PngImagePlugin.PngInfo()
    for name in ("Comment", "Author"):
        text.add_text(name, _WORD, zip=name == "Author")
    text.add_itxt("XML:com.adobe.xmp", _XMP.decode())
    others = [Image.new("RGB", size, "red")]
    png = encode(image, "PNG", exif=exif, icc_profile=_PROFILE, pnginfo=text, dpi=(300, 300))
    return {
        "JPEG": encode(image, "JPEG", quality=95, exif=exif, icc_profile=_PROFILE, comment=SECRET * 2000, xmp=_XMP, dpi=(300, 300)) + SECRET,
        "PNG": png[:-12] + png_chunk(b"prVt", SECRET) + png[-12:] + SECRET,
        "animated PNG": encode(image, "PNG", exif=exif, pnginfo=text, save_all=True, append_images=others),
        "WEBP": encode(image, "WEBP", quality=95, exif=exif, icc_profile=_PROFILE, xmp=_XMP),
        "animated WEBP": encode(image, "WEBP", quality=95, exif=exif, xmp=_XMP, save_all=True, append_images=others),
        "GIF": encode(image, "GIF", comment=SECRET * 10_000, save_all=True, append_images=others),
        "TIFF": encode(image, "TIFF", tiffinfo={270: _WORD, 315: _WORD, 700: _XMP}, icc_profile=_PROFILE),
        "AVIF": encode(image, "AVIF", quality=95, exif=exif, icc_profile=_PROFILE, xmp=_XMP),
        "BMP": encode(image, "BMP") + SECRET,
    }  # fmt: skip


def mask(size: tuple[int, int]) -> bytes:
    """A mask of one half, that says the secret too."""
    image = Image.new("L", size, 0)
    image.paste(255, (0, 0, size[0] // 2, size[1]))
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", _WORD)
    return encode(image, "PNG", exif=_exif(), icc_profile=_PROFILE, pnginfo=text)


def assert_bare(picture: bytes, *, animated: bool = False) -> None:
    """Of a PNG, JPEG or WebP that goes out: it has the parts that make its pixels, and no others."""
    assert SECRET not in picture
    if picture.startswith(b"\x89PNG"):
        assert set(_png_parts(picture)) <= _PNG_PARTS
    elif picture.startswith(b"\xff\xd8"):
        assert set(_jpeg_parts(picture)) <= _JPEG_PARTS
    else:
        assert picture.startswith(b"RIFF"), picture[:8]
        assert set(_webp_parts(picture)) <= (_ANIMATED_PARTS if animated else _WEBP_PARTS)
    with Image.open(BytesIO(picture)) as opened:
        assert getattr(opened, "n_frames", 1) == 1 or animated
        assert not set(opened.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background", "timestamp", "duration"}  # fmt: skip
        assert not opened.getexif()


def _png_parts(picture: bytes) -> list[bytes]:
    at, found = 8, []
    while at < len(picture):
        size, kind = struct.unpack_from(">I4s", picture, at)
        found.append(kind)
        assert zlib.crc32(picture[at + 4 : at + 8 + size]) == int.from_bytes(
            picture[at + 8 + size : at + 12 + size], "big"
        )
        at += 12 + size
    return found


def _jpeg_parts(picture: bytes) -> list[int]:
    at, found = 2, []
    while picture[at + 1] != 0xDA:
        found.append(picture[at + 1])
        at += 2 + int.from_bytes(picture[at + 2 : at + 4], "big")
    assert picture.endswith(b"\xff\xd9")
    return found


def _webp_parts(picture: bytes) -> list[bytes]:
    at, found = 12, []
    while at < len(picture):
        size = int.from_bytes(picture[at + 4 : at + 8], "little")
        found.append(picture[at : at + 4])
        at += 8 + size + size % 2
    return found
