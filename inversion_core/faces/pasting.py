"""Put an edited face back into its photo, with every pore of the photo that the edit leaves.

The edit is carried over as the change between two renders (`change`), scaled up to the photo: nothing else of a render
gets into the picture. Where nothing changes, every byte is the photo's. Only the tiles that the change touches are
looked at, so memory and time go with the face and not with the photo.

Suffixes: H W height and width, C channel (RGB), 2 x and y.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from inversion_core.faces.alignment import paste_back
from inversion_core.faces.change import Change, Pixels, change_between
from inversion_core.faces.frame import Floats
from inversion_core.faces.mapping import from_quad, side, through, to_quad
from inversion_pictures.colours import bare

Bytes = npt.NDArray[np.uint8]
Picture = Image.Image | npt.NDArray[Any]
"""RGB: of Pillow, or an array (H, W, 3) in levels from 0 to 255, whole or not."""
Mode = Literal["difference", "replace"]
MODES: tuple[Mode, ...] = ("difference", "replace")

TILE_PX = 512
"""Side of a tile: a multiple of CELL_PX."""
CELL_PX = 64
"""The largest cell. A change is sampled once a cell, whose side is a power of two, and is linear in between."""
STEPS = 32
"""Places between two pixels that OpenCV looks a picture up at."""
FINER = 2
"""Cells have at most this part of the side of a pixel of the change, as it lies in the photo."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """What an edit changes of a photo, for those who lay it over the photo themselves."""

    image: Image.Image
    """RGBA; opaque where the photo changes, else fully transparent."""
    offset: tuple[int, int]
    """x and y of its upper left corner in the photo."""


def paste(photo: Picture, quad: Floats, before: Picture | None, after: Picture, *, mode: Mode = "difference",
          mask_HW: Pixels | None = None) -> Image.Image:  # fmt: skip
    """A copy of the photo with an edit of its face.

    Args:
        photo: upright, as `align` got it.
        quad: (4, 2), as `align` gave it.
        before: render of the latent as it was found, square; not needed by "replace".
        after: render of the edited latent, of the same size.
        mode: "difference": change the photo as the renders differ. "replace": put `after` into it.
        mask_HW: where in the crop the edit may count, 0 to 1, of any size; None: wherever the renders differ.
    Raises:
        ValueError: a picture, the quad or the mode is not as it must be.
    """
    photo = _as_image(photo)
    if mode == "replace":
        return paste_back(photo, _as_image(after), quad)
    found = _Changed.of(photo, quad, _change(before, after, mode, mask_HW))
    result = bare(photo)
    if found is not None:
        result.paste(Image.fromarray(found.pixels_HWC), found.offset)
    return result


def patch(photo: Picture, quad: Floats, before: Picture, after: Picture, *, mask_HW: Pixels | None = None) -> Patch:
    """The part of `paste`'s result that is not the photo's; one transparent pixel where all of it is.

    Raises:
        ValueError: as for `paste`.
    """
    found = _Changed.of(_as_image(photo), quad, _change(before, after, "difference", mask_HW))
    if found is None or not found.touched_HW.any():
        return Patch(image=Image.new("RGBA", (1, 1)), offset=(0, 0))
    rows, columns = (np.flatnonzero(found.touched_HW.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    touched_HW1 = found.touched_HW[box][..., None]
    rgba_HWC = np.concatenate([found.pixels_HWC[box] * touched_HW1, touched_HW1 * np.uint8(255)], axis=-1)
    x, y = found.offset
    return Patch(image=Image.fromarray(rgba_HWC), offset=(x + int(columns[0]), y + int(rows[0])))


def _change(before: Picture | None, after: Picture, mode: str, mask_HW: Pixels | None) -> Change | None:
    """None: there is none."""
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
    if before is None:
        raise ValueError("the mode 'difference' needs the render before the edit; give it, or take 'replace'")
    before_HWC, after_HWC = _as_levels(before, "before"), _as_levels(after, "after")
    if before_HWC.shape != after_HWC.shape:
        raise ValueError(
            f"the renders must be of one size; before is {before_HWC.shape[:2]}, after {after_HWC.shape[:2]}"
        )
    return None if np.array_equal(before_HWC, after_HWC) else change_between(before_HWC, after_HWC, mask_HW)


def _as_levels(picture: Picture, name: str) -> Pixels:
    image_HWC = np.asarray(picture.convert("RGB") if isinstance(picture, Image.Image) else picture, dtype=np.float32)
    if image_HWC.ndim != 3 or image_HWC.shape[0] != image_HWC.shape[1] or image_HWC.shape[2] != 3:
        raise ValueError(f"the render {name} must be square and RGB, (H, H, 3); it is {image_HWC.shape}")
    if not np.isfinite(image_HWC).all():
        raise ValueError(f"the render {name} holds values that are infinite or NaN")
    return image_HWC.clip(0, 255)


def _as_image(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture must be RGB, (H, W, 3); it is {picture.shape}")
    return Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8, copy=False))


@dataclass(frozen=True, kw_only=True)
class _Changed:
    """The rectangle of a photo that a change lies in, with the change made."""

    pixels_HWC: Bytes
    touched_HW: npt.NDArray[np.bool_]
    """Where the change is not nothing."""
    offset: tuple[int, int]

    @classmethod
    def of(cls, photo: Image.Image, quad: Floats, change: Change | None) -> _Changed | None:
        """None where nothing changes."""
        quad = np.asarray(quad, dtype=np.float64)
        if quad.shape != (4, 2) or not np.isfinite(quad).all():
            raise ValueError(f"a quad is four corners (4, 2), all finite; this one is {quad.tolist()}")
        if change is None:
            return None
        size = np.array(photo.size)
        start = np.clip(np.floor(quad.min(axis=0)), 0, size).astype(int)
        stop = np.clip(np.ceil(quad.max(axis=0)), 0, size).astype(int)
        if (stop <= start).any():
            return None
        x, y = start.tolist()
        region_HWC = np.asarray(photo.crop((x, y, *stop.tolist())))
        made = cls(pixels_HWC=region_HWC.copy(), touched_HW=np.zeros(region_HWC.shape[:2], np.bool_), offset=(x, y))
        cells = _Cells.of(change, quad - start, region_HWC.shape[:2])
        for box, field in cells.tiles(region_HWC.shape[:2]):
            made.pixels_HWC[box], made.touched_HW[box] = _tile(region_HWC, box, field)
        return made


Box = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class _Field:
    """A change, for every pixel of a tile."""

    add_HWC: Pixels
    less_HW: Pixels
    """How much of the photo goes."""
    flow_HW2: Pixels | None
    """Where the pixel comes from, less where it is; None: nothing moves."""


def _tile(region_HWC: Bytes, box: Box, field: _Field) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    if field.flow_HW2 is None:
        moved_HWC = region_HWC[box].astype(np.float32)
    else:
        moved_HWC = _moved(region_HWC, box, field.flow_HW2)
    result_HWC = moved_HWC
    if field.less_HW.any():
        result_HWC *= (1 - field.less_HW)[..., None]
    result_HWC += field.add_HWC
    np.rint(result_HWC, out=result_HWC)
    np.clip(result_HWC, 0, 255, out=result_HWC)
    touched_HW = field.add_HWC.any(axis=-1) | (field.less_HW != 0)
    if field.flow_HW2 is not None:
        touched_HW |= field.flow_HW2.any(axis=-1)
    return result_HWC.astype(np.uint8), touched_HW


def _moved(region_HWC: Bytes, box: Box, flow_HW2: Pixels) -> Pixels:
    """The photo where the flow points; beyond the region, its rim."""
    rows, columns = box
    flow_HW2 = np.rint(flow_HW2 * np.float32(STEPS)) / np.float32(STEPS)  # so that adding a place to it rounds nothing
    reach = np.ceil(np.abs(flow_HW2).max(axis=(0, 1))).astype(int) + 4  # for Lanczos's window
    top, left = max(rows.start - int(reach[1]), 0), max(columns.start - int(reach[0]), 0)
    window_HWC = region_HWC[top : rows.stop + int(reach[1]), left : columns.stop + int(reach[0])].astype(np.float32)
    x_W = np.arange(columns.start - left, columns.stop - left, dtype=np.float32)
    y_H1 = np.arange(rows.start - top, rows.stop - top, dtype=np.float32)[:, None]
    moved_HWC = cv2.remap(window_HWC, flow_HW2[..., 0] + x_W, flow_HW2[..., 1] + y_H1, cv2.INTER_LANCZOS4,
                          None, cv2.BORDER_REPLICATE)  # fmt: skip
    return np.asarray(moved_HWC, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """A change as it lies in the photo, once a cell, and a cell more on every side."""

    add_HWC: Pixels
    rest_HWC: Pixels
    """How much of the photo goes; x and y of the flow, in pixels of the photo."""
    px: int
    """Side of a cell: a power of two, so that a pixel's value is the same to the bit in whatever tile it lies."""

    @classmethod
    def of(cls, change: Change, quad: Floats, shape: tuple[int, int]) -> _Cells:
        px = min(change.px, max(1, round(side(quad))))
        fine = side(quad) / px / FINER
        cell_px = int(2 ** np.clip(np.floor(np.log2(max(fine, 1))), 0, np.log2(CELL_PX)))
        less_HW1 = (1 - change.keep_HW)[..., None]
        add_HWC, rest_HWC = (
            _smaller(each, px) for each in (change.add_HWC, np.concatenate([less_HW1, change.flow_HW2 * px], axis=-1))
        )
        x_W, y_H = ((np.arange(-1, -(-length // cell_px) + 1) + 0.5) * cell_px for length in (shape[1], shape[0]))
        at_HW2 = np.stack(np.meshgrid(x_W, y_H), axis=-1)
        in_crop_HW2 = through(to_quad(quad, px), at_HW2)
        add_HWC, rest_HWC = (_looked_up(each, in_crop_HW2) for each in (add_HWC, rest_HWC))
        moves_HW1 = rest_HWC[..., 1:].any(axis=-1, keepdims=True)
        before_HW2 = through(from_quad(quad, px), in_crop_HW2 + rest_HWC[..., 1:])
        rest_HWC[..., 1:] = np.where(moves_HW1, before_HW2 - at_HW2, 0)
        return cls(add_HWC=add_HWC, rest_HWC=rest_HWC, px=cell_px)

    def tiles(self, shape: tuple[int, int]) -> Iterator[tuple[Box, _Field]]:
        """The tiles in which something changes."""
        for top in range(0, shape[0], TILE_PX):
            for left in range(0, shape[1], TILE_PX):
                rows, columns = slice(top, min(top + TILE_PX, shape[0])), slice(left, min(left + TILE_PX, shape[1]))
                here = tuple(slice(each.start // self.px, -(-each.stop // self.px) + 2) for each in (rows, columns))
                add_HWC, rest_HWC = self.add_HWC[here], self.rest_HWC[here]
                if not (add_HWC.any() or rest_HWC.any()):
                    continue
                size = (rows.stop - top, columns.stop - left)
                rest = self._enlarged(rest_HWC, size)
                flow_HW2 = rest[..., 1:] if rest_HWC[..., 1:].any() else None
                yield (
                    (rows, columns),
                    _Field(add_HWC=self._enlarged(add_HWC, size), less_HW=rest[..., 0], flow_HW2=flow_HW2),
                )

    def _enlarged(self, cells_HWC: Pixels, size: tuple[int, int]) -> Pixels:
        """From cells to pixels, without the cells around."""
        height, width = cells_HWC.shape[0] * self.px, cells_HWC.shape[1] * self.px
        large_HWC = cv2.resize(cells_HWC, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(large_HWC, dtype=np.float32)[self.px :, self.px :][: size[0], : size[1]]


def _smaller(x_HWC: Pixels, px: int) -> Pixels:
    """Averaged, where the photo is coarser than the change."""
    if x_HWC.shape[0] == px:
        return x_HWC
    return np.asarray(cv2.resize(x_HWC, (px, px), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _looked_up(x_HWC: Pixels, at_HW2: Floats) -> Pixels:
    """Bicubically; nothing beyond the rim."""
    at_HW2 = at_HW2 - 0.5  # OpenCV's pixel centres lie at whole numbers
    x_HW, y_HW = (np.ascontiguousarray(at_HW2[..., axis], dtype=np.float32) for axis in (0, 1))
    return np.asarray(cv2.remap(x_HWC, x_HW, y_HW, cv2.INTER_CUBIC, None, cv2.BORDER_CONSTANT, 0), dtype=np.float32)
