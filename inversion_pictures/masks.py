"""Masks: which pixels of a photo must agree with the result. White must, black and transparent need not.

A mask is numbers and no picture: neither profile nor gamma changes it. Its scale is what it uses: 0 and 1, 0 to 255,
or the whole depth of its samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from inversion_pictures.colours import alpha_of, bare, eight_bit
from inversion_pictures.errors import PictureRefused
from inversion_pictures.reading import ANY_SIZE, Stored, decoding, upright

REMEDY = "Send a picture as large as the upright photo: white where the face must agree with it."


def read_mask(data: bytes, size: tuple[int, int]) -> Image.Image:
    """A mask for an upright photo of this size, as 8-bit grey of nothing but pixels.

    Raises: PictureRefused, always with the slug mask-invalid.
    """
    try:
        with decoding(data, ANY_SIZE) as stored:
            if sorted(stored.image.size) != sorted(size):
                raise _invalid(f"It has {_px(stored.image.size)}, and the upright photo {_px(size)}.")
            grey = upright(_flat(stored), stored.orientation)
    except PictureRefused as refused:
        raise refused if refused.slug == "mask-invalid" else _invalid(refused.said) from refused
    if grey.size != size:
        raise _invalid(f"It has {_px(grey.size)}, and the upright photo {_px(size)}.")
    if not grey.getbbox():
        raise _invalid("It is black all over, so nothing would have to agree.")
    return grey


def _flat(stored: Stored) -> Image.Image:
    """Grey, transparent parts black."""
    image = stored.image
    alpha = alpha_of(image, stored.key)
    if image.mode.startswith("I") or image.mode == "F":
        grey = Image.fromarray(_deep(np.asarray(image), stored.bits))
    else:
        grey = _full((image.convert("RGBA") if image.has_transparency_data else image).convert("L"))
    return bare(grey) if alpha is None else ImageChops.multiply(bare(grey), bare(_full(alpha)))


def _full(grey: Image.Image) -> Image.Image:
    """A mask whose greatest value is 1 has only 0 and 1."""
    return grey.point(_FROM_ONE) if grey.getextrema()[1] == 1 else grey


_FROM_ONE = [0] + [255] * 255


def _deep(values_HW: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """More than 8 bits a sample; who stores 0 and 1, or 0 to 255, in them means that."""
    if values_HW.dtype.kind == "f":
        return eight_bit(values_HW)
    most = int(values_HW.max(initial=0))
    scale = next((full for full in (1, 255, 2 ** min(bits, 16) - 1, 65535) if most <= full), 2 ** (bits - 1) - 1)
    return (values_HW.clip(0).astype(np.float32) * np.float32(255 / scale)).round().clip(0, 255).astype(np.uint8)


def _invalid(said: str) -> PictureRefused:
    return PictureRefused("mask-invalid", said, REMEDY)


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"
