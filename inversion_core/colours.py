"""Any picture that Pillow decodes as 8-bit sRGB: what a colour-managed viewer shows on a white page.

The embedded ICC profile counts where it fits the pixels; a damaged or foreign one is ignored, as viewers do.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

WHITE = (255, 255, 255)
MAX_PROFILE_BYTES = 4 * 2**20
"""Longest ICC profile that is read; the largest real ones, of presses, have about 3 MB."""
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""Pillow's mode -> the ICC name of the colours in it."""


def to_srgb(image: Image.Image) -> Image.Image:
    """The loaded picture in mode RGB; what is transparent lies on white."""
    icc = image.info.get("icc_profile")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, WHITE)
        opaque = rgba.convert("RGB") if image.mode in ("P", "PA") else _opaque(image)
        white.paste(_managed(opaque, icc), mask=rgba.getchannel("A"))
        return white
    return _managed(_opaque(image), icc)


def _opaque(image: Image.Image) -> Image.Image:
    """The colours alone, 8 bits each, in a mode of `_SPACES`."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image)
    if image.mode == "LAB":
        return _transformed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))) or image.convert("L")
    if image.mode in ("1", "L", "LA", "La"):
        return image.convert("L")
    return image if image.mode in _SPACES else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or floating point in 0..1 or 0..255: convert() would clip it instead of scaling."""
    grey_HW = np.nan_to_num(np.asarray(image))
    if image.mode == "F":
        scaled_HW = grey_HW * (255 if grey_HW.max() <= 1 else 1)
        return Image.fromarray(scaled_HW.clip(0, 255).round().astype(np.uint8))
    shade = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)
    return Image.fromarray(shade[grey_HW.clip(0, 65535)])


def _managed(image: Image.Image, icc: object) -> Image.Image:
    """RGB; by the profile where it speaks of these colours."""
    if isinstance(icc, bytes) and len(icc) <= MAX_PROFILE_BYTES:
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        except (OSError, ImageCms.PyCMSError, ValueError, TypeError):
            return image.convert("RGB")
        known = profile.profile
        is_srgb = "sRGB" in (known.profile_description or "")  # nothing to do, and cameras write it into everything
        if known.xcolor_space.strip() == _SPACES.get(image.mode) and not is_srgb:
            return _transformed(image, profile) or image.convert("RGB")
    return image.convert("RGB")


def _transformed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image | None:
    """Into sRGB as browsers do it; None where the profile cannot be used that way."""
    try:
        return ImageCms.profileToProfile(
            image,
            profile,
            _srgb(),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
