"""Pictures that strangers send: 500 broken ones, and more than 50 that are unusual but sound.

Everything is made here, the same each time. A sound one shows four quarters: see `Sound.quarters`.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from inversion_pictures.profile import profile_of
from inversion_pictures.signals import Gamma

RGB = tuple[int, int, int]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
QUARTERS = (RED, GREEN, BLUE, WHITE)
"""Top left, top right, bottom left, bottom right."""
GREYS = ((0, 0, 0), (85, 85, 85), (170, 170, 170), (255, 255, 255))
SIZE = (96, 64)
BROKEN_COUNT = 500


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A file that is no picture, or a damaged one."""

    name: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A picture, and what is to be seen in it."""

    name: str
    data: bytes
    quarters: tuple[RGB, ...] = QUARTERS
    tolerance: int = 3


# ---- parts


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def quarters(colours: tuple[RGB, ...] = QUARTERS, size: tuple[int, int] = SIZE) -> Image.Image:
    image = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for index, colour in enumerate(colours):
        image.paste(
            colour, (index % 2 * width, index // 2 * height, (index % 2 + 1) * width, (index // 2 + 1) * height)
        )
    return image


def photo_like(size: tuple[int, int] = (200, 160)) -> Image.Image:
    """Something that does not compress to nothing."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-8, 8, smooth.shape)).clip(0, 255).astype(np.uint8))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2, interlaced: bool = False,
        before: bytes = b"") -> bytes:  # fmt: skip
    """A PNG of rows that are filtered already; `before` are chunks before the data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    data = png_chunk(b"IHDR", header) + before + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def adam7(image: Image.Image) -> bytes:
    """An interlaced PNG (RFC 2083, section 2.6), which Pillow reads and does not write."""
    pixels = np.asarray(image)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + row.tobytes() for top, left, down, right in passes for row in pixels[top::down, left::right] if row.size
    )
    return png(*image.size, rows, interlaced=True)


def icc(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], gamma: float = 2.2,
        name: bytes = b"Test") -> bytes:  # fmt: skip
    """A matrix profile (ICC.1:2001-04) with these columns, XYZ under D50."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67 + 4)
    tags = {
        b"desc": text, b"cprt": b"text\0\0\0\0None\0\0\0\0", b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"rXYZ": xyz(red),
        b"gXYZ": xyz(green), b"bXYZ": xyz(blue), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += b"".join(struct.pack(">i", round(value * 65536)) for value in (0.9642, 1.0, 0.8249))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


_R, _G, _B = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
"""sRGB's columns: with them in another order a profile turns colours into others."""
SWAPPED = icc(_G, _R, _B)
"""What is stored as red is green, and the other way round."""


def rows_of(image: Image.Image) -> bytes:
    """Unfiltered rows of a PNG."""
    return b"".join(b"\0" + row.tobytes() for row in np.asarray(image))


def png_saying(image: Image.Image, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8 bits with these chunks before its data."""
    colour = {"L": 0, "RGB": 2}[image.mode]
    return png(*image.size, rows_of(image), colour=colour, before=b"".join(png_chunk(*chunk) for chunk in chunks))


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"x\0\0" + zlib.compress(profile)


def gama(exponent: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(exponent * 100_000))


def chrm(*values: float) -> tuple[bytes, bytes]:
    """x and y of white, red, green and blue."""
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values))


def tiff(image: Image.Image, strip: bytes, *, bits: int, colour: int = 1, more: dict[int, int] | None = None,
         is_big: bool = False) -> bytes:  # fmt: skip
    """A little-endian TIFF (or BigTIFF) of one grey strip."""
    tags = {256: image.width, 257: image.height, 258: bits, 259: 1, 262: colour, 273: 0, 277: 1, 278: image.height,
            279: len(strip), **(more or {})}  # fmt: skip
    head, entry, count, after = (16, "<HHQQ", "<Q", "<Q") if is_big else (8, "<HHII", "<H", "<I")
    start = head + struct.calcsize(count) + len(tags) * struct.calcsize(entry) + struct.calcsize(after)
    directory = b"".join(struct.pack(entry, tag, 4, 1, start if tag == 273 else tags[tag]) for tag in sorted(tags))
    first = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) if is_big else b"II*\0" + struct.pack("<I", 8)
    return first + struct.pack(count, len(tags)) + directory + struct.pack(after, 0) + strip


def packed_12_bit(shades_HW: np.ndarray) -> bytes:
    """Two samples in three bytes."""
    pairs = shades_HW.reshape(-1, 2).astype(np.uint32)
    both = pairs[:, 0] << 12 | pairs[:, 1]
    return np.stack([both >> 16, both >> 8 & 255, both & 255], axis=1).astype(np.uint8).tobytes()


def bmp(image: Image.Image, *, header: int, alpha: int, space: bytes = b"BGRs", calibrated: bytes = b"",
        profile: bytes = b"") -> bytes:  # fmt: skip
    """32 bits a pixel with masks, in a header of V4 (108 bytes) or V5 (124)."""
    rgba = image.convert("RGBA")
    rgba.putalpha(alpha)
    red, green, blue, opacity = rgba.transpose(Image.Transpose.FLIP_TOP_BOTTOM).split()
    pixels = Image.merge("RGBA", (blue, green, red, opacity)).tobytes()
    info = struct.pack("<IiiHHIIiiII", header, *image.size, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    info += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + space + calibrated
    info = info.ljust(108, b"\0")
    if header == 124:
        info += struct.pack("<4I", 4, header + len(pixels), len(profile), 0)
    start = 14 + header
    return b"BM" + struct.pack("<IHHI", start + len(pixels) + len(profile), 0, 0, start) + info + pixels + profile


def with_nclx(avif: bytes, primaries: int, transfer: int) -> bytes:
    """An AVIF whose box of colours says otherwise."""
    at = avif.index(b"nclx")
    return avif[: at + 4] + struct.pack(">HH", primaries, transfer) + avif[at + 8 :]


def with_brands(avif: bytes, major: bytes) -> bytes:
    return avif[:8] + major + avif[12:]


def as_p3(colour: RGB) -> RGB:
    """A colour of sRGB as Display P3 has it."""
    light = np.where(
        np.array(colour) <= 10, np.array(colour) / 255 / 12.92, ((np.array(colour) / 255 + 0.055) / 1.055) ** 2.4
    )
    matrix = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])
    found = matrix @ light
    shown = np.where(found <= 0.0031308, found * 12.92, 1.055 * found.clip(0) ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in (shown * 255).round())
    return red, green, blue


def as_pq(shade: int) -> int:
    """A grey of sRGB as PQ has it, with white at 203 nits."""
    light = (shade / 255 / 12.92 if shade <= 10 else ((shade / 255 + 0.055) / 1.055) ** 2.4) * 203 / 10_000
    power = light**0.1593017578125
    return round(255 * ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def with_orientation(kind: str, orientation: int, **options: Any) -> bytes:
    """The quarters as a camera that was held otherwise stores them (EXIF 2.3, tag 0x0112)."""
    stored_as = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = quarters()
    stored = image.transpose(stored_as[orientation]) if orientation in stored_as else image
    return encode(stored, kind, exif=exif, **options)


# ---- sound


@cache
def sound() -> list[Sound]:
    """More than 50, each of another kind."""
    return [Sound(name=name, data=data, **more) for name, data, more in _sound()]


def _sound() -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    lossy = {"tolerance": 12}
    image, grey = quarters(), quarters(GREYS).convert("L")
    for kind, options in (("PNG", {}), ("GIF", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        yield f"plain {kind}", encode(image, kind, **options), {}
    for kind in ("JPEG", "WEBP", "AVIF"):
        yield f"lossy {kind}", encode(image, kind, quality=95), lossy
    for orientation in range(1, 9):
        yield f"JPEG turned {orientation}", with_orientation("JPEG", orientation, quality=95), lossy
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("AVIF", {"quality": 95})):
        yield f"{kind} turned 6", with_orientation(kind, 6, **options), lossy
        yield f"{kind} turned 7", with_orientation(kind, 7, **options), lossy
    yield "progressive JPEG", encode(image, "JPEG", progressive=True, quality=95), lossy
    yield "JPEG of red, green and blue", encode(image, "JPEG", keep_rgb=True, quality=95), lossy
    yield "JPEG 4:4:4", encode(image, "JPEG", subsampling=0, quality=95), lossy
    yield "grey JPEG", encode(grey, "JPEG", quality=95), {"quarters": GREYS, "tolerance": 8}
    yield "CMYK JPEG", encode(image.convert("CMYK"), "JPEG", quality=95), lossy
    yield "CMYK TIFF", encode(image.convert("CMYK"), "TIFF"), {}
    yield "a phone's JPEG with a second picture", encode(image, "MPO", save_all=True, append_images=[grey.convert("RGB")],
                                                         quality=95), lossy  # fmt: skip
    yield "JPEG with bytes behind it", encode(image, "JPEG", quality=95) + bytes(500), lossy
    yield "JPEG with damaged EXIF", encode(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95), lossy
    yield "interlaced PNG", adam7(image), {}
    yield "interlaced GIF", encode(image, "GIF", interlace=1), {}
    yield (
        "1-bit PNG",
        encode(quarters(((0, 0, 0), WHITE, WHITE, (0, 0, 0))).convert("1"), "PNG"),
        {"quarters": ((0, 0, 0), WHITE, WHITE, (0, 0, 0))},
    )
    for bits in (2, 4, 8):
        palette = image.quantize(4)
        yield f"palette PNG of {bits} bits", encode(palette, "PNG", bits=bits), {}
    yield "grey PNG", encode(grey, "PNG"), {"quarters": GREYS}
    yield from _deep(image, grey)
    yield from _transparent(image, grey)
    yield from _several(image)
    yield from _profiles(image, grey)
    yield from _signals(image, grey)
    yield from _named_otherwise(image)
    yield from _with_more_than_pixels(image, grey)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"):
        yield f"TIFF with {compression}", encode(image, "TIFF", compression=compression), {}
    yield "TIFF with jpeg", encode(image, "TIFF", compression="jpeg", quality=95), lossy
    yield "BMP of 8 bits", encode(image.quantize(4), "BMP"), {}
    yield "64 px", encode(quarters(size=(64, 64)), "PNG"), {}
    yield "very wide", encode(quarters(size=(6000, 64)), "PNG"), {}


def _deep(image: Image.Image, grey: Image.Image) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """More than 8 bits."""
    shades = {"quarters": GREYS}
    grey_HW = np.asarray(grey).astype(np.uint16) * 257
    yield "16-bit grey PNG", encode(Image.fromarray(grey_HW), "PNG"), shades
    yield "16-bit grey TIFF", encode(Image.fromarray(grey_HW), "TIFF"), shades
    yield "32-bit TIFF", encode(Image.fromarray(grey_HW.astype(np.int32)), "TIFF"), shades
    yield "floating point TIFF", encode(Image.fromarray((grey_HW / 65535).astype(np.float32)), "TIFF"), shades
    deep_HWC = (np.asarray(image).astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep_HWC)
    yield "16-bit colour PNG", png(*SIZE, rows, depth=16), {}
    alpha_HW1 = np.full((*deep_HWC.shape[:2], 1), 65535, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in np.concatenate([deep_HWC, alpha_HW1], axis=2))
    yield "16-bit colour PNG with alpha", png(*SIZE, rows, depth=16, colour=6), {}


def _transparent(image: Image.Image, grey: Image.Image) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """The last quarter, which is white, is transparent over something dark."""
    rgba = image.convert("RGBA")
    rgba.paste((10, 20, 30, 0), (SIZE[0] // 2, SIZE[1] // 2, *SIZE))
    yield "PNG with alpha", encode(rgba, "PNG"), {}
    yield "WebP with alpha", encode(rgba, "WEBP", lossless=True, exact=True), {}
    yield "AVIF with alpha", encode(rgba, "AVIF", quality=95), {"tolerance": 12}
    yield "TIFF with alpha", encode(rgba, "TIFF"), {}
    yield "GIF with a transparent colour", encode(rgba, "GIF"), {}
    palette = image.quantize(4)
    where = palette.getpixel((SIZE[0] - 2, SIZE[1] - 2))
    palette.putpalette([0 if index // 3 == where else value for index, value in enumerate(palette.getpalette() or [])])
    yield "palette PNG with a transparent colour", encode(palette, "PNG", transparency=where), {}
    both = grey.convert("LA")
    both.putpixel((0, 0), (0, 0))
    yield "grey PNG with alpha", encode(both, "PNG"), {"quarters": GREYS}
    yield "PNG with a transparent key", encode(image, "PNG", transparency=(9, 9, 9)), {}

    sixteen_HW = (np.asarray(grey).astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in sixteen_HW)
    for key in (255, 65_535):  # which no pixel has, and which the white quarter has
        before = png_chunk(b"tRNS", struct.pack(">H", key))
        yield (
            f"16-bit grey PNG with {key} transparent",
            png(*SIZE, rows, depth=16, colour=0, before=before),
            {"quarters": GREYS},
        )
    two_bits = np.repeat(np.array([[0x00, 0x55], [0xAA, 0xFF]], np.uint8), 12, axis=1).repeat(32, axis=0)
    rows = b"".join(b"\0" + row.tobytes() for row in two_bits)
    before = png_chunk(b"tRNS", struct.pack(">H", 1))
    yield (
        "2-bit grey PNG with the second shade transparent",
        png(*SIZE, rows, depth=2, colour=0, before=before),
        {"quarters": (GREYS[0], WHITE, GREYS[2], WHITE)},
    )
    deep_HWC = (np.asarray(image).astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep_HWC)
    before = png_chunk(b"tRNS", struct.pack(">HHH", 65_535, 0, 0))
    yield (
        "16-bit colour PNG with red transparent",
        png(*SIZE, rows, depth=16, before=before),
        {"quarters": (WHITE, GREEN, BLUE, WHITE)},
    )


def _several(image: Image.Image) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """The first of several pictures counts."""
    others = [Image.new("RGB", SIZE, colour) for colour in ("black", "grey")]
    for kind, options in (("PNG", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 95})):
        data = encode(image, kind, save_all=True, append_images=others, duration=50, **options)
        yield f"animated {kind}", data, {"tolerance": 12}
    yield "TIFF of several pages", encode(image, "TIFF", save_all=True, append_images=others), {}
    thumbnail = Image.new("RGB", (24, 16))
    for tag, value in ((254, 1), (255, 2)):
        data = encode(thumbnail, "TIFF", save_all=True, append_images=[image], tiffinfo={tag: value})
        yield f"TIFF whose first page is a thumbnail by tag {tag}", data, {}
    yield "PNG whose default picture is no part of its animation", hidden_default(image, SIZE), {}
    corner = (SIZE[0] // 2, SIZE[1] // 2)
    yield (
        "PNG whose hidden animation begins with a part of it",
        hidden_default(image.crop((0, 0, *corner)), SIZE),
        {"quarters": (RED, WHITE, WHITE, WHITE)},
    )


def _profiles(image: Image.Image, grey: Image.Image) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Colours that mean something else than sRGB's."""
    swapped = {"quarters": (GREEN, RED, BLUE, WHITE), "tolerance": 16}
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("TIFF", {}),
                          ("AVIF", {"quality": 95})):  # fmt: skip
        yield f"{kind} with a profile", encode(image, kind, icc_profile=SWAPPED, **options), swapped
    yield "palette PNG with a profile", encode(image.quantize(4), "PNG", icc_profile=SWAPPED), swapped
    rgba = image.convert("RGBA")
    rgba.paste((0, 0, 0, 0), (SIZE[0] // 2, SIZE[1] // 2, *SIZE))
    yield "PNG with alpha and a profile", encode(rgba, "PNG", icc_profile=SWAPPED), swapped
    yield "PNG of linear light", encode(quarters(GREYS), "PNG", icc_profile=icc(_R, _G, _B, gamma=1.0)), LINEAR
    called_srgb = icc(_R, _G, _B, gamma=1.0, name=b"GIMP built-in Linear sRGB")
    yield "PNG of linear light called sRGB", encode(quarters(GREYS), "PNG", icc_profile=called_srgb), LINEAR
    exchanged = icc(_G, _R, _B, name=b"sRGB IEC61966-2.1")
    yield "JPEG of exchanged channels called sRGB", encode(image, "JPEG", icc_profile=exchanged, quality=95), swapped
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield "JPEG with sRGB's own profile", encode(image, "JPEG", icc_profile=srgb, quality=95), {"tolerance": 12}
    yield "PNG with a damaged profile", encode(image, "PNG", icc_profile=b"no profile"), {}
    yield "PNG with half a profile", encode(image, "PNG", icc_profile=SWAPPED[:200]), {}
    yield "grey PNG with a profile of colours", encode(grey, "PNG", icc_profile=SWAPPED), {"quarters": GREYS}
    lab = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    yield "Lab TIFF", encode(lab, "TIFF"), {"tolerance": 24}


LINEAR: dict[str, Any] = {"quarters": ((0, 0, 0), (156, 156, 156), (213, 213, 213), WHITE), "tolerance": 4}
"""GREYS that are amounts of light."""


def _signals(image: Image.Image, grey: Image.Image) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Colours that a header tells, not a profile."""
    greys = quarters(GREYS)
    shades = {"quarters": GREYS}
    swapped = {"quarters": (GREEN, RED, BLUE, WHITE), "tolerance": 16}
    srgb, white = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06), (0.3127, 0.3290)
    exchanged = chrm(*white, *srgb[2:4], *srgb[:2], *srgb[4:])
    linear_icc = icc(_R, _G, _B, gamma=1.0)
    yield "PNG of gamma 1", png_saying(greys, gama(1)), LINEAR
    grey_profile = profile_of(Gamma(exponent=1.0, chromaticities=None), is_grey=True) or b""
    yield "grey PNG with a profile of linear light", png_saying(grey, iccp(grey_profile)), LINEAR
    yield (
        "grey JPEG with a profile of linear light",
        encode(grey, "JPEG", quality=100, icc_profile=grey_profile),
        LINEAR,
    )
    yield "grey TIFF with a profile of linear light", encode(grey, "TIFF", icc_profile=grey_profile), LINEAR
    yield "grey PNG of gamma 1", png_saying(grey, gama(1)), LINEAR
    yield "PNG of gamma 1 with sRGB's primaries", png_saying(greys, gama(1), chrm(*white, *srgb)), LINEAR
    yield "PNG of sRGB's gamma", png_saying(greys, gama(0.45455)), shades
    yield (
        "PNG of gamma 1/1.8",
        png_saying(greys, gama(1 / 1.8)),
        {"quarters": ((0, 0, 0), (105, 105, 105), (182, 182, 182), WHITE), "tolerance": 4},
    )
    yield "PNG of exchanged primaries", png_saying(image, gama(0.45455), exchanged), swapped
    yield "PNG of primaries on a line", png_saying(image, gama(0.45455), chrm(*white, *srgb[:2] * 3)), {}
    yield "PNG of gamma 0", png_saying(greys, gama(0)), shades
    yield "PNG of sRGB, whose gamma 1 does not count", png_saying(greys, (b"sRGB", b"\0"), gama(1)), shades
    yield "PNG whose profile counts before sRGB", png_saying(greys, (b"sRGB", b"\0"), iccp(linear_icc)), LINEAR
    yield "PNG whose gamma counts where its profile is damaged", png_saying(greys, iccp(b"no"), gama(1)), LINEAR
    yield "grey PNG whose profile is of colours, and its gamma 1", png_saying(grey, iccp(SWAPPED), gama(1)), LINEAR
    yield "PNG of code points for linear light", png_saying(greys, (b"cICP", bytes((1, 8, 0, 1)))), LINEAR
    yield (
        "PNG whose code points count before its profile",
        png_saying(image, (b"cICP", bytes((1, 13, 0, 1))), iccp(SWAPPED)),
        {},
    )
    yield "PNG of unknown code points and gamma 1", png_saying(greys, (b"cICP", bytes((1, 99, 0, 1))), gama(1)), LINEAR
    p3 = quarters(tuple(as_p3(colour) for colour in QUARTERS))
    yield "PNG of P3 by code points", png_saying(p3, (b"cICP", bytes((12, 13, 0, 1)))), {"tolerance": 4}
    narrow = quarters(tuple((round(16 + shade * 219 / 255),) * 3 for shade, _, _ in GREYS))
    yield "PNG of a narrow range", png_saying(narrow, (b"cICP", bytes((1, 13, 0, 0)))), shades
    pq = quarters(tuple((as_pq(shade),) * 3 for shade, _, _ in GREYS))
    yield "PNG of PQ", png_saying(pq, (b"cICP", bytes((9, 16, 0, 1)))), {"quarters": GREYS, "tolerance": 6}
    yield (
        "grey PNG of PQ",
        png_saying(pq.convert("L"), (b"cICP", bytes((9, 16, 0, 1)))),
        {"quarters": GREYS, "tolerance": 6},
    )
    hlg = quarters(((0, 0, 0), (191, 191, 191), (191, 191, 191), (191, 191, 191)))  # white is at 75 %
    yield (
        "PNG of HLG",
        png_saying(hlg, (b"cICP", bytes((9, 18, 0, 1)))),
        {"quarters": ((0, 0, 0), WHITE, WHITE, WHITE), "tolerance": 5},
    )
    avif = encode(greys, "AVIF", quality=100, subsampling="4:4:4")
    yield "AVIF of linear light", with_nclx(avif, 1, 8), {**LINEAR, "tolerance": 12}
    avif = encode(p3, "AVIF", quality=100, subsampling="4:4:4")
    yield "AVIF of P3", with_nclx(avif, 12, 13), {"tolerance": 12}
    avif = encode(pq, "AVIF", quality=100, subsampling="4:4:4")
    yield "AVIF of PQ", with_nclx(avif, 9, 16), {"quarters": GREYS, "tolerance": 12}
    for header in (108, 124):
        for alpha in (0, 255):
            yield f"BMP with {header} bytes of header and alpha {alpha}", bmp(image, header=header, alpha=alpha), {}
    yield "BMP with a profile", bmp(image, header=124, alpha=0, space=b"DEBM", profile=SWAPPED), swapped
    points = [int(value * 2**30) for colour in ((0.3576, 0.7152, 0.1192), (0.4124, 0.2126, 0.0193), (0.1805, 0.0722, 0.9505)) for value in colour]  # fmt: skip
    calibrated = struct.pack("<12I", *points, *[int(2.2 * 65536)] * 3)
    yield "BMP of exchanged primaries", bmp(image, header=108, alpha=0, space=bytes(4), calibrated=calibrated), swapped


def hidden_default(first: Image.Image, size: tuple[int, int]) -> bytes:
    """An animation whose default picture, black, stands for those who show none."""
    still = Image.new("RGB", size)
    frames = [(first, (0, 0)), (Image.new("RGB", size, "grey"), (0, 0))]
    body, number = png_chunk(b"acTL", struct.pack(">II", len(frames), 0)) + png_chunk(b"IDAT", zlib.compress(rows_of(still))), 0  # fmt: skip
    for frame, place in frames:
        body += png_chunk(b"fcTL", struct.pack(">5IHHBB", number, *frame.size, *place, 1, 10, 0, 0))
        body += png_chunk(b"fdAT", struct.pack(">I", number + 1) + zlib.compress(rows_of(frame)))
        number += 2
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + body + png_chunk(b"IEND", b"")


def _named_otherwise(image: Image.Image) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Formats by their less common beginnings."""
    lossy = {"tolerance": 12}
    avif = encode(image, "AVIF", quality=95)
    for major in (b"mif1", b"miaf"):
        yield f"AVIF of brand {major.decode()}", with_brands(avif, major), lossy
    shades = {"quarters": GREYS}
    grey = quarters(GREYS).convert("L")
    grey_HW = np.asarray(grey).astype(np.uint32)
    twelve = packed_12_bit(grey_HW * 4095 // 255)
    yield "12-bit TIFF", tiff(grey, twelve, bits=12), shades
    yield "BigTIFF", tiff(grey, grey.tobytes(), bits=8, is_big=True), shades
    yield "16-bit TIFF of which 0 is white", tiff(grey, ((255 - grey_HW) * 257).astype("<u2").tobytes(), bits=16, colour=0), shades  # fmt: skip
    yield "16-bit TIFF with a sign", tiff(grey, (grey_HW * 32767 // 255).astype("<i2").tobytes(), bits=16, more={339: 2}), shades  # fmt: skip
    yield "32-bit TIFF of its whole range", tiff(grey, (grey_HW * 0x01010101).astype("<u4").tobytes(), bits=32), shades
    yield "floating point TIFF of 0 to 255", encode(Image.fromarray(grey_HW.astype(np.float32)), "TIFF"), shades


def _with_more_than_pixels(image: Image.Image, grey: Image.Image) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """What stands beside the pixels is long, wrong or missing."""
    lossy = {"tolerance": 12}
    long = zlib.compress(bytes(3_000_000))
    yield "PNG with a long compressed text", png_saying(image, (b"zTXt", b"key\0\0" + long)), {}
    yield "PNG with long compressed XMP", png_saying(image, (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + long)), {}
    yield "PNG with long XMP", png_saying(image, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 1_500_000)), {}
    yield "PNG with many long texts", png_saying(image, *[(b"zTXt", b"key%d\0\0" % n + long) for n in range(30)]), {}
    turned = image.transpose(Image.Transpose.ROTATE_90)
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='1' tiff:Orientation=\"6\"/>"
    yield "PNG turned by XMP", png_saying(turned, (b"iTXt", xmp)), {}
    for kind, body in (
        (b"tEXt", b"key\0text"),
        (b"gAMA", gama(1)[1]),
        (b"eXIf", b"II*\0"),
        (b"iCCP", iccp(SWAPPED)[1]),
    ):
        wrong = png_chunk(kind, body)[:-4] + b"\0\0\0\0"
        data = png(*SIZE, rows_of(image), before=wrong)
        yield f"PNG with a wrong checksum of {kind.decode()}", data, {}
    plain = png(*SIZE, rows_of(image))
    yield "PNG without an end", plain[:-12], {}
    yield "PNG without the checksum of its data", plain[:-16], {}
    for progressive in (False, True):
        jpeg = encode(image, "JPEG", quality=95, progressive=progressive)
        name = "progressive JPEG" if progressive else "JPEG"
        yield f"{name} without an end", jpeg[:-2], lossy
        yield f"{name} with half an end", jpeg[:-1], lossy
        yield f"{name} of a motion photo", jpeg + b"ftypmp42" + b"\xff\xda\xff\xd9" * 200, lossy


# ---- broken


@cache
def broken() -> list[Broken]:
    """BROKEN_COUNT files of which none can be used."""
    families = [_truncated(), _flipped(), _wrong_types(), _svg(), _bombs(), _giant_headers(), _rubbish()]
    found = [Broken(name=name, data=data) for family in families for name, data in family]
    assert len(found) >= BROKEN_COUNT, len(found)
    return found


def _wholes() -> dict[str, bytes]:
    image = photo_like()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return {
        "JPEG": encode(image, "JPEG", exif=exif),
        "progressive JPEG": encode(image, "JPEG", progressive=True),
        "PNG": encode(image, "PNG"),
        "interlaced PNG": adam7(image),
        "lossy WebP": encode(image, "WEBP"),
        "lossless WebP": encode(image, "WEBP", lossless=True),
        "animated WebP": encode(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "GIF": encode(image, "GIF"),
        "BMP": encode(image, "BMP"),
        "TIFF": encode(image, "TIFF"),
        "LZW TIFF": encode(image, "TIFF", compression="tiff_lzw"),
        "AVIF": encode(image, "AVIF"),
    }


def _truncated() -> Iterator[tuple[str, bytes]]:
    for name, whole in _wholes().items():
        for percent in (0.5, 1, 2, 3, 5, 8, 12, 18, 25, 33, 41, 50, 58, 66, 74, 80, 85, 90):
            yield f"{name} cut at {percent} %", whole[: max(1, int(len(whole) * percent / 100))]


def _flipped() -> Iterator[tuple[str, bytes]]:
    """Bits turned over where they cannot go unnoticed: in signatures, sizes and checked data."""
    rng = random.Random(3)
    wholes = _wholes()

    def flipped(data: bytes, low: int, high: int) -> bytes:
        spoilt = bytearray(data)
        spoilt[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
        return bytes(spoilt)

    for index in range(8):
        for name, whole in wholes.items():
            if name not in ("TIFF", "LZW TIFF", "BMP") or index < 2:
                yield f"{name}, signature flipped {index}", flipped(whole, 0, {"GIF": 3}.get(name, 2))
    for index in range(40):
        yield f"PNG, data flipped {index}", flipped(wholes["PNG"], 60, len(wholes["PNG"]) - 20)
    for index in range(10):
        yield f"PNG, header flipped {index}", flipped(wholes["PNG"], 16, 33)


def _wrong_types() -> Iterator[tuple[str, bytes]]:
    image = photo_like()
    for kind in ("PPM", "TGA", "PCX", "ICO", "JPEG2000", "DDS", "SGI", "PDF", "EPS", "ICNS", "MSP", "XBM", "QOI"):
        stored = image.convert("1") if kind in ("MSP", "XBM") else image
        yield kind, encode(stored, kind)
    starts = {
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "MP4": b"\0\0\0\x18ftypisom", "WAV": b"RIFF\0\0\0\0WAVEfmt ",
        "AVI": b"RIFF\0\0\0\0AVI LIST", "ZIP": b"PK\x03\x04", "GZIP": b"\x1f\x8b\x08", "ELF": b"\x7fELF",
        "EXE": b"MZ\x90\0", "HTML": b"<!doctype html><img src=x onerror=alert(1)>", "XML": b"<?xml version='1.0'?>",
        "JSON": b'{"image": "x"}', "text": b"hello", "UTF-16": "hello".encode("utf-16"), "PSD": b"8BPS\0\x01",
        "JPEG XL": b"\xff\x0a", "OpenEXR": b"v/1\x01", "shell": b"#!/bin/sh\nreboot\n", "pickle": b"\x80\x04\x95",
        "PHP": b"<?php system($_GET[0]); ?>", "SWF": b"FWS\x09", "RAR": b"Rar!\x1a\x07", "7z": b"7z\xbc\xaf\x27\x1c",
        "NUMPY": b"\x93NUMPY\x01\0", "WebM": b"\x1aE\xdf\xa3", "Ogg": b"OggS\0", "MP3": b"ID3\x03", "WMF": b"\xd7\xcd\xc6\x9a",
    }  # fmt: skip
    for name, start in starts.items():
        for size in (0, 300):
            yield f"{name} of {size} bytes more", start + bytes(size)


def _svg() -> Iterator[tuple[str, bytes]]:
    head = b"<svg xmlns='http://www.w3.org/2000/svg' width='200' height='200'>"
    for name, body in {
        "rectangle": b"<rect width='200' height='200' fill='red'/>",
        "script": b"<script>alert(1)</script>",
        "outside picture": b"<image href='http://169.254.169.254/latest/meta-data/'/>",
        "file": b"<image href='file:///etc/passwd'/>",
        "embedded PNG": b"<image href='data:image/png;base64,iVBORw0KGgo='/>",
        "use bomb": b"<g id='a'><use href='#a'/></g>" * 100,
    }.items():
        yield f"SVG {name}", head + body + b"</svg>"
        yield f"SVG {name} with a declaration", b"<?xml version='1.0'?>\n" + head + body + b"</svg>"
        yield f"SVG {name} behind a byte order mark", b"\xef\xbb\xbf" + head + body + b"</svg>"
    entities = b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10))
    yield "SVG of a billion laughs", b"<!DOCTYPE svg [<!ENTITY a0 'lol'>" + entities + b"]>" + head + b"&a9;</svg>"
    yield (
        "SVG with an outside entity",
        b"<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + head + b"&x;</svg>",
    )
    yield "SVGZ", b"\x1f\x8b\x08" + zlib.compress(head)[2:]


def _bombs() -> Iterator[tuple[str, bytes]]:
    """A few bytes that want to become gigabytes."""
    zeros = zlib.compress(bytes(20_000_000))
    for width, height in (
        (7072, 7071),
        (10_000, 6000),
        (50_000, 50_000),
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 64),
        (64, 2**31 - 1),
    ):
        yield f"PNG claiming {width}x{height}", png(width, height, b"")
    for width, height in ((7000, 7000), (49_000, 1000), (700_000, 70)):
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
        yield f"PNG of {width}x{height} that ends early", b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zeros)
    for text in (b"zTXt", b"iTXt"):
        packed = zlib.compress(bytes(80_000_000))
        body = b"a\0\0" + packed if text == b"zTXt" else b"a\0\x01\0\0\0" + packed
        yield f"PNG with a bomb in {text.decode()}", png(64, 64, b"", before=png_chunk(text, body))
    jpeg = encode(photo_like(), "JPEG")
    progressive = encode(photo_like(), "JPEG", progressive=True)
    for name, whole in (("JPEG", jpeg), ("progressive JPEG", progressive)):
        at = next(i for i in range(len(whole)) if whole[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
        for side in (7100, 30_000, 65_500):
            yield f"{name} claiming {side} px", whole[: at + 5] + struct.pack(">HH", side, side) + whole[at + 9 :]
        yield (
            f"{name} of 6,900 px with a hundredth of its data",
            (whole[: at + 5] + struct.pack(">HH", 4800, 4800) + whole[at + 9 : len(whole) // 2]),
        )
    scan = progressive.rindex(b"\xff\xda")
    yield "progressive JPEG of 500 scans", progressive[:scan] + progressive[scan:-2] * 500 + b"\xff\xd9"
    for side in (7100, 65_535):
        gif = encode(photo_like(), "GIF")
        yield f"GIF claiming {side} px", gif[:6] + struct.pack("<HH", side, side) + gif[10:]
        yield f"BMP claiming {side} px", encode(photo_like(), "BMP")[:18] + struct.pack("<ii", side, side) + bytes(40)
        tiff = encode(photo_like(), "TIFF")
        yield f"TIFF claiming {side} px", tiff.replace(struct.pack("<HHII", 256, 4, 1, 200), struct.pack("<HHII", 256, 4, 1, side)).replace(
            struct.pack("<HHII", 257, 4, 1, 160), struct.pack("<HHII", 257, 4, 1, side)
        ).replace(struct.pack("<HHIHH", 256, 3, 1, 200, 0), struct.pack("<HHIHH", 256, 3, 1, side, 0)).replace(
            struct.pack("<HHIHH", 257, 3, 1, 160, 0), struct.pack("<HHIHH", 257, 3, 1, side, 0)
        )  # fmt: skip
    for side in (4100, 8000, 16_383):
        vp8x = b"\x10\0\0\0" + (side - 1).to_bytes(3, "little") * 2
        body = b"WEBPVP8X" + struct.pack("<I", 10) + vp8x + encode(photo_like(), "WEBP")[12:]
        yield f"WebP claiming {side} px", b"RIFF" + struct.pack("<I", len(body)) + body
    vp8l = b"\x2f" + ((4000 - 1) | (4000 - 1) << 14).to_bytes(4, "little") + bytes(40)
    yield (
        "lossless WebP of 4,000 px without data",
        (b"RIFF" + struct.pack("<I", 12 + len(vp8l)) + b"WEBPVP8L" + struct.pack("<I", len(vp8l)) + vp8l),
    )
    tall = encode(Image.new("L", (64, 64)), "AVIF")
    at = tall.index(b"ispe")
    for side in (7100, 60_000):
        yield f"AVIF claiming {side} px", tall[: at + 8] + struct.pack(">II", side, side) + tall[at + 16 :]


def _giant_headers() -> Iterator[tuple[str, bytes]]:
    for count in (1000, 20_000):
        text = png_chunk(b"tEXt", b"key\0" + b"x" * 40) * count
        yield f"PNG with {count} texts and no data", b"\x89PNG\r\n\x1a\n" + png(64, 64, b"", before=text)[8:-40]
    yield "PNG with a chunk of 4 GB", b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIHDR" + bytes(200)
    yield "PNG without a header", b"\x89PNG\r\n\x1a\n" + png_chunk(b"IDAT", zlib.compress(bytes(99)))
    for count in (16, 100):
        yield (
            f"JPEG with {count} long segments and no picture",
            b"\xff\xd8" + (b"\xff\xe1\xff\xff" + bytes(65_533)) * count,
        )
        yield (
            f"JPEG with {count} long comments and no picture",
            b"\xff\xd8" + (b"\xff\xfe\xff\xff" + b"x" * 65_533) * count,
        )
    yield "JPEG with nothing but markers", b"\xff\xd8" + b"\xff\xd9\xff\xd8" * 50_000
    yield "JPEG with a segment of no length", b"\xff\xd8\xff\xe0\0\0" + bytes(100)
    for count in (5000, 65_535):
        entries = b"".join(struct.pack("<HHII", 30_000 + n % 30_000, 4, 1, n) for n in range(count))
        yield f"TIFF of {count} tags and no picture", b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)
    yield (
        "TIFF whose directory is itself",
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHII", 1, 330, 4, 1, 8) + struct.pack("<I", 8),
    )
    yield "TIFF whose directory is far away", b"II*\0\xff\xff\xff\xff" + bytes(99)
    yield "TIFF without tags", b"MM\0*\0\0\0\x08\0\0" + bytes(99)
    yield (
        "GIF of comments",
        b"GIF89a" + struct.pack("<HHBBB", 200, 200, 0, 0, 0) + (b"\x21\xfe\xff" + b"x" * 255 + b"\0") * 5000,
    )
    yield "BMP with a header of 4 GB", b"BM" + bytes(12) + b"\xff\xff\xff\xff" + bytes(99)
    yield "WebP of 4 GB", b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff" + bytes(99)
    yield "AVIF of endless boxes", b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + (b"\0\0\0\x08free" * 20_000)


def _rubbish() -> Iterator[tuple[str, bytes]]:
    """Random bytes, bare and behind every known beginning."""
    rng = random.Random(5)
    starts = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xf0\0\0\0WEBPVP8 ", b"RIFF\xf0\0\0\0WEBPVP8L", b"GIF89a",
              b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x18ftypavif")  # fmt: skip
    for start in starts:
        for size in (0, 10, 60, 200, 2000, 30_000):
            if start or size:
                yield f"{size} random bytes behind {start!r}", start + rng.randbytes(size)
