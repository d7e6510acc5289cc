"""TIFF: which of its pages is the picture, and grey that is deeper than 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from inversion_pictures.colours import eight_bit

MAX_PAGES = 32
"""As many pages are looked at."""
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 254, 255, 258, 262, 339
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType: a smaller version of another page, and what is transparent in one."""
_UNSIGNED, _SIGNED = 1, 2


def choose_page(image: Image.Image) -> None:
    """Go to the first page that is neither a thumbnail nor a mask; where each says it is one, to the largest."""
    if not _is_lesser(image):
        return
    areas: list[int] = []
    for page in range(MAX_PAGES):
        try:
            image.seek(page)  # counting the pages first would walk through all of them
        except EOFError:
            break
        if not _is_lesser(image):
            return
        areas.append(image.width * image.height)
    image.seek(areas.index(max(areas)))


def _is_lesser(image: Image.Image) -> bool:
    tags = _tags(image)
    return bool(_number(tags, _SUBFILE_TYPE, 0) & (_REDUCED | _MASK)) or _number(tags, _OLD_SUBFILE_TYPE, 1) == 2


def shallow(image: Image.Image) -> Image.Image:
    """The loaded page; grey of more than 8 bits as 8, by what the tags say of the samples."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    tags = _tags(image)
    bits, form = bits_of(image), _number(tags, _SAMPLE_FORMAT, _UNSIGNED)
    samples_HW = np.asarray(image)
    if image.mode != "F":
        samples_HW = _sixteen_bit(samples_HW, bits, form)
    shade_HW = eight_bit(samples_HW)
    is_inverted = _number(tags, _PHOTOMETRIC, 1) == 0 and image.mode != "F"
    found = Image.fromarray(255 - shade_HW if is_inverted else shade_HW)
    found.info = dict(image.info)
    return found


def bits_of(image: Image.Image) -> int:
    """Of one sample."""
    return _number(_tags(image), _BITS, 16)


def _sixteen_bit(samples_HW: npt.NDArray[Any], bits: int, form: int) -> npt.NDArray[Any]:
    if bits == 32 and form == _UNSIGNED:
        samples_HW = samples_HW.astype(np.uint32)  # Pillow has read them as signed
    elif bits < 16:
        samples_HW = samples_HW.astype(np.uint32) * 65535 // (2**bits - 1)
    elif bits == 16 and form == _SIGNED:
        samples_HW = samples_HW.clip(0).astype(np.uint32) * 65535 // 32767
    return samples_HW


def _tags(image: Image.Image) -> TiffImagePlugin.ImageFileDirectory_v2:
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return image.tag_v2


def _number(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, default: int) -> int:
    found = tags.get(tag, default)
    if isinstance(found, tuple):
        found = found[0] if found else default
    return found if isinstance(found, int) else default
