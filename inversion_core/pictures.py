"""Photos in, pictures out: every byte that comes from outside passes `load_photo`.

Tensors are float32 in [-1, 1]; shapes: B image (always 1 here), C channel (RGB), H, W pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from inversion_core.colours import WHITE, to_srgb
from inversion_core.errors import PictureInvalid, PictureTooLarge, PictureTooSmall, PictureUnsupported

MIN_SIDE_PX = 64
"""Shortest side that is taken."""
MAX_PIXELS = 50_000_000
"""Most pixels that are decoded."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow's names of the formats that are taken."""
NAMED = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
"""The same, for people."""

_STARTS: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
}
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis")
HEIC_REMEDY = (
    "Save it as JPEG first: in the Photos app of an iPhone or a Mac by exporting it, elsewhere with "
    "`heif-convert photo.heic photo.jpg`; an iPhone takes JPEG at once with Settings > Camera > Formats > Most "
    "Compatible."
)
"""What to do about a photo that no free decoder takes; the service says the same."""

# EXIF 2.3, tag 0x0112: what undoes each orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_photo(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """Read a picture of one of `FORMATS` as upright 8-bit sRGB; of an animation, the first frame.

    Its colours are what a colour-managed viewer shows (`colours.py`).

    Format and size are judged from the header, so a decompression bomb is refused before anything is
    decoded; the whole picture is then decoded, so a truncated file is found here and not later.

    Args:
        source: a path, the bytes of a file, or a binary stream that is read from where it stands.
    Raises:
        PictureUnsupported: none of `FORMATS`, judged by content and not by name.
        PictureTooSmall: a side under `MIN_SIDE_PX`.
        PictureTooLarge: more than `MAX_PIXELS` pixels.
        PictureInvalid: cannot be read, is empty, truncated or damaged.
    """
    data = _read(source)
    _check_format(data)
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_size(image)
            image.load()
            orientation = _orientation(image)
            rgb = to_srgb(image)
    except (PictureInvalid, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLarge(
            f"The picture has far more than {MAX_PIXELS / 1e6:.0f} megapixels, the most that is taken. "
            "Scale it down and try again."
        ) from error
    except Exception as error:  # Pillow's decoders leak whatever a damaged file makes them trip over
        raise PictureInvalid(
            f"The picture is truncated or damaged and cannot be decoded ({error}). "
            "Open it in a picture program, save it again as JPEG or PNG, and send that file."
        ) from error
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _read(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | Path):
        try:
            data = Path(source).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise PictureInvalid(f"The file {str(source)!r} cannot be read: {error}. Check its path.") from error
    else:
        data = source.read()
    if not data:
        raise PictureInvalid(f"The file is empty. Send a {NAMED} picture.")
    return data


def _check_format(data: bytes) -> None:
    if sniff(data) is None:
        if _brand(data) in _HEIC:
            raise PictureUnsupported(f"It is a HEIC photo, which cannot be decoded here. {HEIC_REMEDY}")
        raise PictureUnsupported(
            f"The file is not a {NAMED} picture. Save the photo in one of these formats and send that file."
        )


def sniff(data: bytes) -> str | None:
    """Pillow's name of the format by the first bytes, None where it is none of `FORMATS`."""
    found = [kind for kind, starts in _STARTS.items() if data.startswith(starts)]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        found.append("WEBP")
    if _brand(data) in (b"avif", b"avis"):
        found.append("AVIF")
    return found[0] if found else None


def _brand(data: bytes) -> bytes:
    """The major brand of an ISO media file."""
    return data[8:12] if data[4:8] == b"ftyp" else b""


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE_PX:
        raise PictureTooSmall(
            f"The picture is {width}x{height} px; each side must have at least {MIN_SIDE_PX} px. Send a larger one."
        )
    if width * height > MAX_PIXELS:
        raise PictureTooLarge(
            f"The picture is {width}x{height} px ({width * height / 1e6:.1f} megapixels); "
            f"at most {MAX_PIXELS / 1e6:.0f} megapixels are taken. Scale it down and try again."
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error, UserWarning):
        return 1  # damaged metadata around a sound picture: common enough to be taken as upright


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as (1, 3, H, W), float32, 0..255 mapped to [-1, 1]."""
    pixels_HWC = torch.from_numpy(np.array(image.convert("RGB")))
    return (pixels_HWC.permute(2, 0, 1)[None].float() / 127.5 - 1.0).contiguous()


def to_image(image_CHW: Tensor) -> Image.Image:
    """A (3, H, W) tensor in [-1, 1] as an RGB picture; values outside are clipped, NaN becomes mid-grey.

    A (1, 3, H, W) batch of one is taken too.
    """
    if image_CHW.ndim == 4 and len(image_CHW) == 1:
        image_CHW = image_CHW[0]
    if image_CHW.ndim != 3 or image_CHW.shape[0] != 3:
        raise ValueError(f"to_image takes one (3, H, W) tensor, not {tuple(image_CHW.shape)}")
    pixels_CHW = (image_CHW.detach().float().cpu().nan_to_num(nan=0.0).clamp(-1, 1) + 1.0) * 127.5
    return Image.fromarray(pixels_CHW.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def grid(images: Sequence[Image.Image], columns: int, gap_px: int = 2) -> Image.Image:
    """Pictures of one size, row by row, on white with gaps between them."""
    sizes = {image.size for image in images}
    if len(sizes) != 1 or columns < 1:
        raise ValueError(
            "grid takes at least one picture, all of one size, and at least one column; "
            f"got sizes {sorted(sizes)} and {columns} columns"
        )
    ((width, height),) = sizes
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap_px) - gap_px, rows * (height + gap_px) - gap_px), WHITE)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (column * (width + gap_px), row * (height + gap_px)))
    return sheet


def strip(images: Sequence[Image.Image], gap_px: int = 2) -> Image.Image:
    """Pictures of one size side by side, with small white gaps."""
    return grid(images, columns=max(len(images), 1), gap_px=gap_px)


def centre_crop(image: Image.Image, px: int) -> Image.Image:
    """The largest centred square, resampled with antialiasing to px by px."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((px, px), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
