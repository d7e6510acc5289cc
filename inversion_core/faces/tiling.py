"""A change as it lies in a photo: sampled in cells, and made tile by tile.

A pixel's bytes do not depend on the tile it is made in: cells have a power of two of pixels a side, places are whole
parts of a pixel, and tiles come from windows that hold all that counts for them.

Suffixes: H W height and width, C channel (RGB), 2 x and y.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inversion_core.faces.change import Change
from inversion_core.faces.frame import Floats
from inversion_core.faces.mapping import from_quad, side, through, to_quad
from inversion_core.faces.maps import Pixels

Bytes = npt.NDArray[np.uint8]

TILE_PX = 512
"""Side of a tile: a multiple of CELL_PX."""
CELL_PX = 64
"""The largest cell. A change is sampled once a cell, which is no larger than one of its own pixels in the photo."""
STEPS = 32
"""Places between two pixels that OpenCV looks a picture up at."""
WINDOW_PX = 4
"""How far Lanczos's window reaches."""
LARGE_PX = 2000
"""A face from this side on has more pixels than structure: a cubic loses nothing of it."""
FINE = 1 / 480
"""Half of the side of what counts as fine, as a share of the face's side."""
BETWEEN_PIXELS, STRETCHED = 0.07, 1.0
"""How much fine structure is added where the photo is moved, and where it is stretched to twice its size."""

Box = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class Field:
    """A change, for every pixel of a tile."""

    add_HWC: Pixels
    less_HW: Pixels | None
    """How much of the photo goes; None: nothing."""
    flow_HW_x2: tuple[Pixels, Pixels] | None
    """x and y of where the pixel comes from, less where it is; None: nothing moves."""
    window: Box
    """The part of the region that the tile comes from."""
    sharper_HW: Pixels | None
    """How much of its finest structure the window gets more, since moving loses some."""


def tile(region_HWC: Bytes, box: Box, field: Field, way: Resampling) -> Bytes:
    if field.flow_HW_x2 is None:
        moved_HWC = region_HWC[box].astype(np.float32)
    else:
        window_HWC = _sharper(region_HWC[field.window], field.sharper_HW, way.fine_px)
        moved_HWC = _moved(window_HWC, _within(box, field.window), field.flow_HW_x2, way.interpolation)
    if field.less_HW is not None:
        moved_HWC *= (1 - field.less_HW)[..., None]
    return np.asarray(cv2.add(moved_HWC, field.add_HWC, dtype=cv2.CV_8U), dtype=np.uint8)  # rounds and clips


def _within(box: Box, window: Box) -> tuple[int, int]:
    """Top and left of a tile in its window."""
    return box[0].start - window[0].start, box[1].start - window[1].start


def _sharper(window_HWC: Bytes, sharper_HW: Pixels | None, fine_px: int) -> Pixels:
    levels_HWC = window_HWC.astype(np.float32)
    if sharper_HW is None:
        return levels_HWC
    fine_HWC = levels_HWC - cv2.blur(levels_HWC, (fine_px, fine_px))  # of whole numbers, so that sums are exact
    fine_HWC *= sharper_HW[..., None]
    levels_HWC += fine_HWC
    return levels_HWC


def _moved(window_HWC: Pixels, at: tuple[int, int], flow_HW_x2: tuple[Pixels, Pixels], interpolation: int) -> Pixels:
    """What the flow points at, for a tile at a place in the window; beyond the window, its rim."""
    for flow_HW in flow_HW_x2:  # to the places that OpenCV knows, so that adding a place to it rounds nothing
        flow_HW *= STEPS
        np.rint(flow_HW, out=flow_HW)
        flow_HW /= STEPS
    x_HW, y_HW = flow_HW_x2
    height, width = x_HW.shape
    x_HW += np.arange(at[1], at[1] + width, dtype=np.float32)
    y_HW += np.arange(at[0], at[0] + height, dtype=np.float32)[:, None]
    moved_HWC = cv2.remap(window_HWC, x_HW, y_HW, interpolation, None, cv2.BORDER_REPLICATE)
    return np.asarray(moved_HWC, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How a photo is moved, by the size of the face in it."""

    interpolation: int
    fine_px: int
    """What is larger than a square of this side is not fine."""

    @property
    def margin(self) -> int:
        """Pixels around a place that count for it."""
        return WINDOW_PX + self.fine_px // 2

    @classmethod
    def of(cls, quad: Floats) -> Resampling:
        face_px = side(quad)
        return cls(
            interpolation=cv2.INTER_LANCZOS4 if face_px < LARGE_PX else cv2.INTER_CUBIC,
            fine_px=2 * max(1, round(FINE * face_px)) + 1,
        )


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A change as it lies in a region of the photo, once a cell, and a cell more on every side."""

    add_HWC: Pixels
    less_HW: Pixels
    """How much of the photo goes."""
    flow_HW_x2: tuple[Pixels, Pixels]
    """x and y, in pixels of the photo."""
    sharper_HW: Pixels
    """How much of the photo's finest structure is added."""
    px: int
    """Side of a cell: a power of two, so that a pixel's value is the same to the bit in whatever tile it lies."""
    shape: tuple[int, int]
    """Of the region."""

    @classmethod
    def of(cls, change: Change, quad: Floats, shape: tuple[int, int]) -> Cells:
        px = min(change.px, max(1, round(side(quad))))
        fine = side(quad) / px
        cell_px = int(2 ** np.clip(np.floor(np.log2(max(fine, 1))), 0, np.log2(CELL_PX)))
        rest_HWC = np.concatenate([(1 - change.keep_HW)[..., None], change.flow_HW2 * px], axis=-1)
        x_W, y_H = ((np.arange(-1, -(-length // cell_px) + 1) + 0.5) * cell_px for length in (shape[1], shape[0]))
        at_HW2 = np.stack(np.meshgrid(x_W, y_H), axis=-1)
        in_crop_HW2 = through(to_quad(quad, px), at_HW2)
        add_HWC, rest_HWC = (_looked_up(_smaller(each, px), in_crop_HW2) for each in (change.add_HWC, rest_HWC))
        moves_HW1 = rest_HWC[..., 1:].any(axis=-1, keepdims=True)
        before_HW2 = through(from_quad(quad, px), in_crop_HW2 + rest_HWC[..., 1:])
        flow_HW2 = np.where(moves_HW1, before_HW2 - at_HW2, 0).astype(np.float32)
        x_HW, y_HW = (np.ascontiguousarray(flow_HW2[..., axis]) for axis in (0, 1))
        less_HW = np.ascontiguousarray(rest_HWC[..., 0])
        return cls(
            add_HWC=add_HWC,
            less_HW=less_HW,
            flow_HW_x2=(x_HW, y_HW),
            sharper_HW=_loss(x_HW, y_HW, cell_px),
            px=cell_px,
            shape=shape,
        )

    def tiles(self, margin: int) -> Iterator[tuple[Box, Field]]:
        """The tiles in which something changes; `margin`: pixels around those it comes from that count too."""
        for top in range(0, self.shape[0], TILE_PX):
            for left in range(0, self.shape[1], TILE_PX):
                box = slice(top, min(top + TILE_PX, self.shape[0])), slice(left, min(left + TILE_PX, self.shape[1]))
                if (field := self._field(box, margin)) is not None:
                    yield box, field

    def touched(self) -> npt.NDArray[np.bool_]:
        """The cells' pixels that may change, (H, W) of the region: all others stay."""
        x_HW, y_HW = self.flow_HW_x2
        cells_HW = self.add_HWC.any(axis=-1) | (self.less_HW != 0) | (x_HW != 0) | (y_HW != 0)
        near_HW = np.asarray(cv2.dilate(cells_HW.astype(np.uint8), np.ones((3, 3), np.uint8)), dtype=np.bool_)
        pixels_HW: npt.NDArray[np.bool_] = near_HW[1:-1, 1:-1].repeat(self.px, axis=0).repeat(self.px, axis=1)
        return pixels_HW[: self.shape[0], : self.shape[1]]

    def _field(self, box: Box, margin: int) -> Field | None:
        here = self._cells_of(box)
        add_HWC, less_HW = self.add_HWC[here], self.less_HW[here]
        x_HW, y_HW = (flow_HW[here] for flow_HW in self.flow_HW_x2)
        moves = bool(x_HW.any() or y_HW.any())
        if not (moves or add_HWC.any() or less_HW.any()):
            return None
        window = self._window(box, x_HW, y_HW, margin) if moves else box
        return Field(
            add_HWC=self._enlarged(add_HWC, box),
            less_HW=self._enlarged(less_HW, box) if less_HW.any() else None,
            flow_HW_x2=(self._enlarged(x_HW, box), self._enlarged(y_HW, box)) if moves else None,
            window=window,
            sharper_HW=self._enlarged(self.sharper_HW[self._cells_of(window)], window) if moves else None,
        )

    def _cells_of(self, box: Box) -> Box:
        """A box of pixels that begins with a cell, in cells, with one more on every side."""
        rows, columns = (slice(each.start // self.px, -(-each.stop // self.px) + 2) for each in box)
        return rows, columns

    def _window(self, box: Box, x_HW: Pixels, y_HW: Pixels, margin: int) -> Box:
        """What a tile comes from; it begins with a cell."""
        found = []
        for each, flow_HW, length in zip(box, (y_HW, x_HW), self.shape, strict=True):
            start = min(max(each.start + math.floor(flow_HW.min()) - margin, 0), length - 1)
            stop = each.stop + math.ceil(flow_HW.max()) + margin
            found.append(slice(start // self.px * self.px, min(max(stop, start + 1), length)))
        return found[0], found[1]

    def _enlarged(self, cells: Pixels, box: Box) -> Pixels:
        """From cells to the pixels of the box, without the cells around."""
        height, width = cells.shape[0] * self.px, cells.shape[1] * self.px
        large = np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
        rows, columns = (slice(self.px, self.px + each.stop - each.start) for each in box)
        return np.ascontiguousarray(large[rows, columns])


def _loss(x_HW: Pixels, y_HW: Pixels, cell_px: int) -> Pixels:
    """How much fine structure is lost where the flow moves a photo between its pixels, and stretches it."""
    (x_y, x_x), (y_y, y_x) = (np.gradient(flow_HW, cell_px) for flow_HW in (x_HW, y_HW))
    shrunk_HW = np.sqrt(np.clip((1 + x_x) * (1 + y_y) - x_y * y_x, 0.25, 4))
    moves_HW = np.minimum(np.hypot(x_HW, y_HW), 1)
    return np.asarray(moves_HW * (BETWEEN_PIXELS + STRETCHED * (1 / shrunk_HW - 1)), dtype=np.float32)


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
