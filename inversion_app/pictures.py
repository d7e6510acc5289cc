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

from PIL import ExifTags, Image, ImageChops, ImageOps

from inversion_worker.contract import MAX_PIXELS, MIN_SIDE_PX, PHOTO_FORMATS

MEMORY_BYTES = 2 * 1024**3
"""Most address space of the decoding process: what the limits below allow needs about 0.3 GB, the rest is room."""
GREEDY_PIXELS = {"WEBP": 16_000_000, "AVIF": 24_000_000, "progressive JPEG": 24_000_000}
"""Most pixels of what takes more than 4 bytes a pixel, or seconds, to decode (measured: 15, 9 and 8 bytes)."""
MAX_SCANS = 64
"""Most scans of a JPEG: each goes over the whole picture, however short it is."""

HEIC_REMEDY = (
    "Save it as JPEG first: in the Photos app of an iPhone or a Mac by exporting it, elsewhere with "
    "`heif-convert photo.heic photo.jpg`; an iPhone takes JPEG at once with Settings > Camera > Formats > Most "
    "Compatible."
)
"""What to do about a photo that no free decoder takes."""
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


def inspect(photo: bytes, mask: bytes | None = None) -> Sound | Refusal:
    """Decode `photo` whole, and its mask: the reason to refuse them, or that they are sound. Never raises."""
    # Pillow warns from half of its own limit on and refuses at twice of it; the exact limit is checked below.
    Image.MAX_IMAGE_PIXELS = None
    if (kind := sniff(photo)) is None:
        return "picture-unsupported", unsupported(photo)
    try:
        size = _decoded_size(photo, kind)
    except _Refused as refused:
        return refused.refusal
    except MemoryError:
        return "picture-too-large", "Decoding it takes too much memory."
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...: all mean this
        return "picture-invalid", f"The {kind} data is damaged or incomplete ({type(error).__name__})."
    if mask is None:
        return Sound()
    try:
        return Sound(mask=_flat_mask(mask, size))
    except _Refused as refused:
        return refused.refusal
    except Exception as error:  # as above
        return "mask-invalid", f"It cannot be read ({type(error).__name__})."


class _Refused(Exception):
    def __init__(self, slug: str, detail: str) -> None:
        self.refusal: Refusal = (slug, detail)


_STARTS: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
}


_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis"}


def sniff(photo: bytes) -> str | None:
    """Pillow's name of the format by the first bytes, None when it is not one of PHOTO_FORMATS."""
    found = [kind for kind, starts in _STARTS.items() if photo.startswith(starts)]
    if photo[:4] == b"RIFF" and photo[8:12] == b"WEBP":
        found.append("WEBP")
    if photo[4:12] in (b"ftypavif", b"ftypavis"):
        found.append("AVIF")
    return found[0] if found and found[0] in PHOTO_FORMATS else None


def unsupported(photo: bytes) -> str:
    """Why this is not taken, when `sniff` does not know it."""
    if _is_heic(photo):
        return f"It is a HEIC photo, which cannot be decoded here. {HEIC_REMEDY}"
    return f"The content is none of {', '.join(PHOTO_FORMATS)}."


def _is_heic(photo: bytes) -> bool:
    """By the brands of ISO 23008-12: `mif1` alone says nothing of what is in it, and an AVIF has it too."""
    if photo[4:8] != b"ftyp":
        return False
    ends = min(int.from_bytes(photo[:4], "big"), 256)
    brands = {photo[8:12], *(photo[at : at + 4] for at in range(16, ends, 4))}
    return bool(brands & _HEIC) and not brands & {b"avif", b"avis"}


def _decoded_size(photo: bytes, kind: str) -> tuple[int, int]:
    """Width and height of the upright photo, once all of it has been decoded."""
    with Image.open(io.BytesIO(photo), formats=[kind]) as picture:
        _check_size(picture, kind, photo)
        size = picture.size
        # An eighth of the size still reads all of a JPEG, with 1/64 of the memory; other formats ignore it.
        picture.draft(None, (max(1, picture.width // 8), max(1, picture.height // 8)))
        picture.load()
        if kind == "TIFF":  # Pillow turns it upright itself
            return picture.size
        return (size[1], size[0]) if _orientation(picture) in (5, 6, 7, 8) else size


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata around a sound picture is taken as upright, as the worker does
        return 1


def _check_size(picture: Image.Image, kind: str, photo: bytes) -> None:
    width, height = picture.size
    if min(width, height) < MIN_SIDE_PX:
        raise _Refused("picture-too-small", f"It has {width} x {height} px.")
    if kind == "JPEG" and picture.info.get("progressive"):
        kind = "progressive JPEG"
        if photo.count(b"\xff\xda") > MAX_SCANS:
            raise _Refused("picture-invalid", f"The JPEG has more than {MAX_SCANS} scans.")
    most = GREEDY_PIXELS.get(kind, MAX_PIXELS)
    if width * height > most:
        detail = f"It has {width} x {height} px, {width * height / 1e6:.1f} megapixels"
        limit = f"; of {kind} at most {most / 1e6:.0f} are taken." if kind in GREEDY_PIXELS else "."
        raise _Refused("picture-too-large", detail + limit)


def _flat_mask(mask: bytes, size: tuple[int, int]) -> bytes:
    """Grey, upright, transparent parts black: they are what is left free."""
    if (kind := sniff(mask)) is None:
        raise _Refused("mask-invalid", unsupported(mask))
    picture: Image.Image
    with Image.open(io.BytesIO(mask), formats=[kind]) as picture:
        if sorted(picture.size) != sorted(size):
            raise _Refused("mask-invalid", f"It has {_px(picture.size)}, and the upright photo {_px(size)}.")
        picture.load()
        if picture.mode.startswith("I"):  # 16 bits, which convert() would clip
            picture = picture.convert("I").point(lambda value: value / 257).convert("L")
        has_alpha = picture.has_transparency_data
        upright = ImageOps.exif_transpose(picture.convert("RGBA")) if has_alpha else ImageOps.exif_transpose(picture)
        grey = upright.convert("L")
        if has_alpha:
            grey = ImageChops.multiply(grey, upright.getchannel("A"))
    if grey.size != size:
        raise _Refused("mask-invalid", f"It has {_px(grey.size)}, and the upright photo {_px(size)}.")
    if not grey.getbbox():
        raise _Refused("mask-invalid", "It is black all over, so nothing would have to agree.")
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    return buffer.getvalue()


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError):  # a lower hard limit is in force already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
