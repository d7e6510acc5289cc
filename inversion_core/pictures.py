"""Reading photos and writing pictures. Every file from outside goes through `load_photo`.

Tensors are float32 in [-1, 1]; shapes: B image (always 1 here), C channel (RGB), H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inversion_core.errors import OptionInvalid, PictureInvalid, PictureTooLarge, PictureTooSmall, PictureUnsupported
from inversion_pictures.colours import WHITE, bare
from inversion_pictures.errors import PictureRefused
from inversion_pictures.reading import PHOTO, Limits, read

_ERRORS = {kind.slug: kind for kind in (PictureInvalid, PictureTooLarge, PictureTooSmall, PictureUnsupported)}


def load_photo(source: str | Path | bytes | BinaryIO, limits: Limits = PHOTO) -> Image.Image:
    """Read a picture as upright 8-bit sRGB with nothing but pixels; of an animation, the first frame.

    Colours are those of a colour-managed viewer; transparent areas become white. For the supported formats see
    `inversion_pictures/reading.py`.

    Args:
        source: a path, bytes, or a binary stream, which is read from its current position.
        limits: the accepted sizes.
    Raises:
        PictureUnsupported: none of the formats taken, judged by content and not by name.
        PictureTooSmall: a side under `limits.min_side_px`.
        PictureTooLarge: more than `limits.max_pixels` pixels.
        PictureInvalid: cannot be read, is empty, truncated or damaged.
    """
    try:
        return read(_bytes(source), limits)
    except PictureRefused as error:
        raise _ERRORS[error.slug](str(error)) from error


def _bytes(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | Path):
        return source.read()
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise PictureInvalid(f"The file {str(source)!r} cannot be read: {error}. Check its path.") from error


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as (1, 3, H, W), float32, 0..255 mapped to [-1, 1]."""
    pixels_HWC = torch.from_numpy(np.array(image.convert("RGB")))
    return (pixels_HWC.permute(2, 0, 1)[None].float() / 127.5 - 1.0).contiguous()


def to_image(image_CHW: Tensor) -> Image.Image:
    """A (3, H, W) tensor in [-1, 1] as an RGB picture; values outside are clipped, NaN becomes mid-grey.

    A batch of one, (1, 3, H, W), works too.
    """
    if image_CHW.ndim == 4 and len(image_CHW) == 1:
        image_CHW = image_CHW[0]
    if image_CHW.ndim != 3 or image_CHW.shape[0] != 3:
        raise ValueError(f"to_image takes one (3, H, W) tensor, not {tuple(image_CHW.shape)}")
    pixels_CHW = (image_CHW.detach().float().cpu().nan_to_num(nan=0.0).clamp(-1, 1) + 1.0) * 127.5
    return Image.fromarray(pixels_CHW.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


QUALITY = {"jpeg": 95, "webp": 90}
"""Where nobody says; "png" loses nothing and has none."""
FORMATS = ("jpeg", "png", "webp")


def encoded(image: Image.Image, form: str, quality: int | None = None) -> bytes:
    """A file of the pixels and nothing else: no profile, no EXIF, whatever the picture carries.

    Args:
        image: RGB or, in PNG and WebP, RGBA.
        form: one of FORMATS.
        quality: 1 to 100; JPEG keeps all of its colour samples from 90 on. PNG takes none.
    Raises:
        OptionInvalid: the format is not one of those, cannot hold the picture, or has no such quality.
    """
    if form not in FORMATS:
        raise OptionInvalid(f"the format is {form!r}; it must be one of {', '.join(FORMATS)}")
    if quality is not None and (form not in QUALITY or not 1 <= quality <= 100):
        raise OptionInvalid(
            f"{form} has no quality {quality}; "
            + ("leave it out" if form not in QUALITY else "give a whole number from 1 to 100")
        )
    if image.mode != "RGB" and (image.mode != "RGBA" or form == "jpeg"):
        raise OptionInvalid(f"{form} cannot hold a picture of mode {image.mode} here; take png, or make it RGB")
    quality = QUALITY.get(form) if quality is None else quality
    options = {} if quality is None else {"quality": quality}
    if form == "jpeg":
        options["subsampling"] = 0 if quality is None or quality >= FULL_COLOUR else 2
    buffer = BytesIO()
    bare(image).save(buffer, form.upper(), **options)
    return buffer.getvalue()


FULL_COLOUR = 90
"""Quality from which on a JPEG keeps all of its colour samples."""


def grid(images: Sequence[Image.Image], columns: int, gap_px: int = 2) -> Image.Image:
    """A grid of pictures of the same size on white, filled row by row."""
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
    """Pictures of the same size side by side, with small white gaps."""
    return grid(images, columns=max(len(images), 1), gap_px=gap_px)


def centre_crop(image: Image.Image, px: int) -> Image.Image:
    """The largest centred square, resampled with antialiasing to px by px."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((px, px), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
