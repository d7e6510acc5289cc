"""Cut a face out as FFHQ does, and put it back (Karras 2019, appendix A). Quads: see `frame`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from inversion_core.faces.face import Face
from inversion_core.faces.frame import Floats
from inversion_core.faces.mapping import from_quad, side, to_quad, transformed
from inversion_core.pictures import centre_crop
from inversion_pictures.colours import bare

OVERSAMPLING = 4
"""Most samples along a side of one resulting pixel: their mean is the antialiasing."""
SOFT_EDGE = 0.08
"""Width of the ramp at the rim of what `paste_back` pastes, as a share of the crop's side."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A face framed as the generators were trained to frame it."""

    image: Image.Image
    """Square, RGB."""
    quad: Floats
    """(4, 2): where it lies in the photo."""


def align(image: Image.Image, face_or_quad: Face | Floats, out_px: int) -> Aligned:
    """Frame a face, or what lies under a quad (4, 2), in an out_px by out_px picture.

    Where the square leaves the photo, the photo is mirrored and fades into blur, as in FFHQ.

    Raises:
        ValueError: the quad does not touch the picture.
    """
    quad = face_or_quad.quad if isinstance(face_or_quad, Face) else np.asarray(face_or_quad, dtype=np.float64)
    return Aligned(image=crop_quad(image, quad, out_px), quad=quad)


def crop_quad(image: Image.Image, quad: Floats, out_px: int) -> Image.Image:
    """What lies under a quad (4, 2), resampled with antialiasing to out_px by out_px; it need be no square.

    Raises:
        ValueError: the quad does not touch the picture.
    """
    if not ((quad.max(axis=0) > 0) & (quad.min(axis=0) < image.size)).all():
        raise ValueError(f"the quad {quad.tolist()} lies beside the picture of {image.width}x{image.height} px")
    patch, quad = reduced(image, quad, factor=int(np.ceil(side(quad) / (OVERSAMPLING * out_px))))
    patch, quad = _padded(patch, quad)
    fine_px = out_px * int(np.clip(np.ceil(side(quad) / out_px), 1, OVERSAMPLING))
    fine = transformed(patch, (fine_px, fine_px), from_quad(quad, fine_px), Image.Resampling.BICUBIC)
    return fine.resize((out_px, out_px), Image.Resampling.LANCZOS)


def crop_mask(mask: Image.Image, quad: Floats, out_px: int) -> Image.Image:
    """The square under a quad (4, 2) of an 8-bit grey mask, antialiased; black where it leaves the photo.

    `crop_quad` mirrors the photo there: what is made up must not be agreed with.
    """
    fine_px = out_px * OVERSAMPLING
    fine = transformed(mask, (fine_px, fine_px), from_quad(quad, fine_px))
    return fine.resize((out_px, out_px), Image.Resampling.BOX)


def mask_of_crop(mask: Image.Image, quad: Floats | None, out_px: int) -> Tensor:
    """The part of a photo's mask that belongs to a crop, (H, W) in [0, 1]; quad None: of the photo's centre."""
    cropped = centre_crop(mask, out_px) if quad is None else crop_mask(mask, quad, out_px)
    return torch.from_numpy(np.array(cropped)).float() / 255


def reduced(image: Image.Image, quad: Floats, factor: int) -> tuple[Image.Image, Floats]:
    """The part of the picture around the quad, each factor by factor pixels averaged to one; the quad in it."""
    border = 0.1 * side(quad)
    size = np.array(image.size)
    start = np.clip(np.floor(quad.min(axis=0) - border), 0, size - 1).astype(int)
    stop = np.clip(np.ceil(quad.max(axis=0) + border), start + 1, size).astype(int)
    box = (int(start[0]), int(start[1]), int(stop[0]), int(stop[1]))
    return image.reduce(factor, box), (quad - start) / factor


def _padded(image: Image.Image, quad: Floats) -> tuple[Image.Image, Floats]:
    """Mirror the picture around itself and fade it out there, if the quad leaves it; else as it is."""
    side_px = side(quad)
    beyond = np.concatenate([-quad.min(axis=0), quad.max(axis=0) - image.size])  # left, top, right, bottom
    if beyond.max() <= 0:
        return image, quad
    left, top, right, bottom = (int(pad) for pad in np.ceil(np.maximum(beyond + 0.1 * side_px, 0.3 * side_px)))
    rows, columns = (
        _mirrored(-top, image.height + bottom, image.height),
        _mirrored(-left, image.width + right, image.width),
    )
    mirrored_HWC = np.asarray(image)[rows[:, None], columns]
    faded = _faded(mirrored_HWC, (left, top, right, bottom), blur_px=0.02 * side_px)
    return faded, quad + np.array([left, top])


def _mirrored(start: int, stop: int, size: int) -> npt.NDArray[np.intp]:
    """Indices from start to stop, those outside 0..size - 1 mirrored into it as often as it takes."""
    period = max(2 * (size - 1), 1)
    index = np.abs(np.arange(start, stop)) % period
    mirrored: npt.NDArray[np.intp] = np.minimum(index, period - index)
    return mirrored


def _faded(pixels_HWC: npt.NDArray[np.uint8], pads: tuple[int, int, int, int], blur_px: float) -> Image.Image:
    """Blur from just inside the picture's edge outwards, and fade to the median colour towards the rim."""
    height, width, _ = pixels_HWC.shape
    left, top, right, bottom = pads
    x_W, y_H = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    out_W = np.maximum(1 - x_W / left, 1 - (width - 1 - x_W) / right)
    out_H1 = np.maximum(1 - y_H / top, 1 - (height - 1 - y_H) / bottom)
    out_HW1 = np.maximum(out_W, out_H1)[..., None]  # 0 at the picture's edge, 1 at the rim
    blurred = np.asarray(Image.fromarray(pixels_HWC).filter(ImageFilter.GaussianBlur(blur_px)), dtype=np.float32)
    median_C = np.median(pixels_HWC[::4, ::4], axis=(0, 1)).astype(np.float32)
    faded = pixels_HWC + (blurred - pixels_HWC) * np.clip(3 * out_HW1 + 1, 0, 1)
    faded += (median_C - faded) * np.clip(out_HW1, 0, 1)
    return Image.fromarray(faded.round().clip(0, 255).astype(np.uint8))


def paste_back(photo: Image.Image, aligned_edit: Image.Image, quad: Floats) -> Image.Image:
    """A copy of the photo with an edited crop put back where `align` took it from, its rim blended in.

    Args:
        photo: the upright RGB photo.
        aligned_edit: square, of any size.
        quad: (4, 2), as `align` gave it.
    """
    result = bare(photo)  # without what came along with the photo
    quad = np.asarray(quad, dtype=np.float64)
    size = np.array(photo.size)
    start = np.clip(np.floor(quad.min(axis=0)), 0, size).astype(int)
    stop = np.clip(np.ceil(quad.max(axis=0)), 0, size).astype(int)
    if (stop <= start).any():
        return result
    px = min(aligned_edit.width, max(1, round(side(quad))))  # an edit larger than its place is antialiased first
    edit = aligned_edit.convert("RGB").resize((px, px), Image.Resampling.LANCZOS)
    place = to_quad(quad - start, px)
    shape = (int(stop[0] - start[0]), int(stop[1] - start[1]))
    patch = transformed(edit, shape, place, Image.Resampling.BICUBIC)
    mask = transformed(_soft_mask(px), shape, place, Image.Resampling.BILINEAR)
    result.paste(patch, (int(start[0]), int(start[1])), mask)
    return result


def _soft_mask(px: int) -> Image.Image:
    """1 inside, falling to 0 along a smooth ramp at the rim."""
    centre_N = np.arange(px) + 0.5
    ramp_N = np.clip(np.minimum(centre_N, px - centre_N) / (SOFT_EDGE * px), 0, 1)
    smooth_N = ramp_N * ramp_N * (3 - 2 * ramp_N)
    return Image.fromarray((255 * np.outer(smooth_N, smooth_N)).round().astype(np.uint8))
