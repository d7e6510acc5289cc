"""Any picture that Pillow decodes as 8-bit sRGB: what a colour-managed viewer shows on a white page.

The first description of the colours that fits the pixels counts; a damaged or foreign one is ignored, as viewers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageCms

from inversion_pictures.hdr import is_hdr, tone_mapped
from inversion_pictures.profile import profile_of
from inversion_pictures.signals import Cicp, Description, Icc, is_srgb

WHITE = (255, 255, 255)
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""Pillow's mode -> the ICC name of the colours in it."""
Key = int | tuple[int, int, int]


def to_srgb(image: Image.Image, colours: Sequence[Description] = (), key: Key | None = None) -> Image.Image:
    """The loaded picture in mode RGB; what is transparent lies on white.

    Args:
        colours: what the samples may mean, in the order in which they count.
        key: a transparent grey or colour, where it is not in the picture's `info`.
    """
    alpha = alpha_of(image, key)
    if image.mode in ("P", "PA"):
        shown = image.convert("RGBA").convert("RGB") if image.has_transparency_data else image.convert("RGB")
    else:
        shown = opaque(image)
    shown = _managed(shown, colours)
    if alpha is None:
        return shown
    white = Image.new("RGB", image.size, WHITE)
    white.paste(shown, mask=alpha)
    return white


def bare(image: Image.Image) -> Image.Image:
    """The pixels in a new picture: nothing that came along with them, no profile, comment, EXIF or frame."""
    found = Image.new(image.mode, image.size)
    found.paste(image)
    return found


def opaque(image: Image.Image) -> Image.Image:
    """The colours alone, 8 bits each, in a mode of `_SPACES`."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(eight_bit(np.asarray(image)))
    if image.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return _transformed(image, lab) or image.convert("L")
    if image.mode in ("1", "L", "LA", "La"):
        return (image.convert("LA") if image.mode == "La" else image).convert("L")
    return image if image.mode in _SPACES else image.convert("RGBA" if image.mode == "RGBa" else "RGB").convert("RGB")


def eight_bit(grey_HW: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Grey of 16 or 32 bits, or floating point in 0..1, 0..255 or 0..65535, scaled to 0..255."""
    if grey_HW.dtype.kind == "f":
        light_HW = np.nan_to_num(grey_HW.astype(np.float32), posinf=0, neginf=0)
        most = light_HW.max(initial=0)
        scale = 255 if most <= 1 else 1 if most <= 255 else 1 / 257
        return (light_HW * np.float32(scale)).clip(0, 255).round().astype(np.uint8)
    if grey_HW.dtype.itemsize > 2:
        grey_HW = _sixteen_bit(grey_HW)
    shade = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)
    found_HW: npt.NDArray[np.uint8] = shade[grey_HW.astype(np.uint16, copy=False)]
    return found_HW


def _sixteen_bit(grey_HW: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """32 bits, of which writers often use 16."""
    if grey_HW.max(initial=0) <= 65535:
        return grey_HW.clip(0)
    return grey_HW >> 16 if grey_HW.dtype.kind == "u" else grey_HW.clip(0) >> 15


def alpha_of(image: Image.Image, key: Key | None) -> Image.Image | None:
    """What is opaque, or None where everything is."""
    if key is not None and image.mode in ("1", "L", "RGB", "I", "I;16", "I;16B", "I;16L"):
        return _unlike(image, key)
    if image.mode.startswith("I") or image.mode in ("F", "LAB") or not image.has_transparency_data:
        return None
    return image.convert("LA" if image.mode in ("La",) else "RGBA").getchannel("A")


def _unlike(image: Image.Image, key: Key) -> Image.Image:
    """White where a pixel is not the transparent one."""
    if isinstance(key, tuple):
        bands = [_other_than(band, shade) for band, shade in zip(image.split(), key, strict=True)]
        return ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    return Image.fromarray(
        np.where(np.asarray(image).astype(np.int32) != _as_stored(image, key), 255, 0).astype(np.uint8)
    )


def _other_than(band: Image.Image, shade: int) -> Image.Image:
    return band.point([255 * (value != shade) for value in range(256)])


def _as_stored(image: Image.Image, key: int) -> int:
    return int(key > 0) if image.mode == "1" else key


def _managed(image: Image.Image, colours: Sequence[Description]) -> Image.Image:
    """RGB, by the first description that speaks of these colours."""
    for description in colours:
        shown = _by(image, description)
        if shown is not None:
            return shown
    return image.convert("RGB")


def _by(image: Image.Image, description: Description) -> Image.Image | None:
    if isinstance(description, Icc):
        return _by_profile(image, description.profile)
    if image.mode not in ("RGB", "L"):
        return None
    if isinstance(description, Cicp):
        image = image if description.is_full_range else image.point(_FROM_NARROW * len(image.getbands()))
        if is_hdr(description):
            return tone_mapped(image.convert("RGB"), description)
    if is_srgb(description, is_grey=image.mode == "L"):
        return image.convert("RGB")
    profile = profile_of(description, is_grey=image.mode == "L")
    return _by_profile(image, profile) if profile else None


_FROM_NARROW = [min(max(round((value - 16) * 255 / 219), 0), 255) for value in range(256)]
"""Video's 16..235 as 0..255."""


def _by_profile(image: Image.Image, icc: bytes) -> Image.Image | None:
    """None where the profile is damaged, or of other colours."""
    if len(icc) > Icc.MAX_BYTES:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
    except (OSError, ImageCms.PyCMSError, ValueError, TypeError):
        return None
    if space != _SPACES.get(image.mode):
        return None
    return _transformed(image, profile)


def _transformed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image | None:
    """Into sRGB as browsers do it; None where the profile cannot be used that way."""
    try:
        transform = ImageCms.buildTransform(
            profile,
            _srgb(),
            image.mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else 0),
        )
        if image.mode == "L":
            return _by_shades(image, transform)
        if image.mode == "RGB" and _changes_nothing(transform):
            return image
        return ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _by_shades(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image | None:
    """Each of the 256 greys is transformed exactly: for a whole picture the library takes a coarse table of them."""
    shades = ImageCms.applyTransform(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), transform)
    if shades is None:
        return None
    return Image.merge("RGB", [image.point(list(band.tobytes())) for band in shades.split()])


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it is sRGB's own profile, whatever its name: cameras write it into everything."""
    patch = Image.fromarray(_PATCH)
    shown = ImageCms.applyTransform(patch, transform)
    return shown is not None and int(np.abs(np.asarray(shown).astype(int) - _PATCH).max()) <= 1


_PATCH = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3, indexing="ij"), axis=-1).reshape(-1, 18, 3)
"""Colours evenly spread."""


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
