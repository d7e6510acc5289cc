"""Put an edited face back into its photo, with every pore of the photo that the edit leaves.

The edit is carried over as the change between two renders (`change`), scaled up to the photo: nothing else of a render
gets into the picture. Where nothing changes, every byte is the photo's. Only the tiles that the change touches are
looked at, so memory and time go with the face and not with the photo.

Suffixes: H W height and width, C channel (RGB), 2 x and y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from inversion_core.faces.alignment import paste_back
from inversion_core.faces.change import Change, change_between
from inversion_core.faces.frame import Floats
from inversion_core.faces.maps import Pixels
from inversion_core.faces.tiling import Bytes, Cells, Resampling, tile
from inversion_pictures.colours import bare

Picture = Image.Image | npt.NDArray[Any]
"""RGB: of Pillow, or an array (H, W, 3) in levels from 0 to 255, whole or not."""
Mode = Literal["difference", "replace"]
MODES: tuple[Mode, ...] = ("difference", "replace")


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
        mask_HW: where in the crop the edit counts, background or not, 0 to 1; None: where the person changes.
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
    touched_HW = None if found is None else found.cells.touched()
    if found is None or touched_HW is None or not touched_HW.any():
        return Patch(image=Image.new("RGBA", (1, 1)), offset=(0, 0))
    rows, columns = (np.flatnonzero(touched_HW.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    touched_HW1 = touched_HW[box][..., None]
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
    offset: tuple[int, int]
    cells: Cells

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
        pixels_HWC = region_HWC.copy()
        cells = Cells.of(change, quad - start, region_HWC.shape[:2])
        way = Resampling.of(quad)
        for box, field in cells.tiles(way.margin):
            pixels_HWC[box] = tile(region_HWC, box, field, way)
        return cls(pixels_HWC=pixels_HWC, offset=(x, y), cells=cells)
