"""What a mask's numbers mean, in every way to store them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from corpus import SWAPPED, encode, gama, packed_12_bit, png_saying, tiff
from PIL import ExifTags, Image

from inversion_pictures.errors import PictureRefused
from inversion_pictures.masks import read_mask

pytestmark = pytest.mark.unit

SIZE = (96, 64)
HALF_HW = np.zeros((64, 96), np.uint8)
HALF_HW[:, :48] = 1
HALF = Image.fromarray(HALF_HW * 255)


def _halves() -> Iterator[tuple[str, bytes]]:
    """The left half must agree."""
    full = Image.new("L", SIZE, 255)
    yield "grey", encode(HALF, "PNG")
    yield "1 bit", encode(HALF.convert("1"), "PNG")
    yield "colour", encode(HALF.convert("RGB"), "PNG")
    yield "palette", encode(HALF.convert("P"), "PNG")
    yield "GIF", encode(HALF, "GIF")
    yield "WebP", encode(HALF.convert("RGB"), "WEBP", lossless=True)
    yield "0 and 1", encode(Image.fromarray(HALF_HW), "PNG")
    yield "0 and 1 in colours", encode(Image.fromarray(HALF_HW).convert("RGB"), "PNG")
    palette = Image.fromarray(HALF_HW, "L").convert("P")
    palette.putpalette([0, 0, 0, 1, 1, 1])
    yield "a palette of 0 and 1", encode(palette, "PNG")
    yield "alpha", encode(Image.merge("RGBA", [full] * 3 + [HALF]), "PNG")
    yield "alpha of 0 and 1", encode(Image.merge("RGBA", [full] * 3 + [Image.fromarray(HALF_HW)]), "PNG")
    yield "grey with alpha", encode(Image.merge("LA", [full, HALF]), "PNG")
    yield "white on what is transparent", encode(Image.merge("RGBA", [HALF] * 3 + [HALF]), "PNG")
    yield "a transparent grey", png_saying(HALF.point([7] + [255] * 255), (b"tRNS", b"\0\7"))
    for name, value in (("65535", 65535), ("255", 255), ("1", 1)):
        yield f"16 bits up to {name}", encode(Image.fromarray(HALF_HW.astype(np.uint16) * value), "PNG")
        yield f"16-bit TIFF up to {name}", encode(Image.fromarray(HALF_HW.astype(np.uint16) * value), "TIFF")
    for value in (1, 4095):
        yield f"12-bit TIFF up to {value}", tiff(HALF, packed_12_bit(HALF_HW.astype(np.uint32) * value), bits=12)
    for value in (1, 255, 65535):
        yield f"32-bit TIFF up to {value}", encode(Image.fromarray(HALF_HW.astype(np.int32) * value), "TIFF")
    for value in (1, 255):
        yield f"floating point up to {value}", encode(Image.fromarray(HALF_HW.astype(np.float32) * value), "TIFF")
    yield "with a profile and a gamma, which are not for numbers", png_saying(HALF, gama(1))
    yield "with a profile of other colours", encode(HALF.convert("RGB"), "PNG", icc_profile=SWAPPED)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    yield "turned", encode(HALF.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


@pytest.mark.parametrize(("name", "data"), list(_halves()), ids=lambda value: value if isinstance(value, str) else "")
def test_black_and_white_are_that_however_they_are_stored(name: str, data: bytes) -> None:
    mask = read_mask(data, SIZE)
    assert (mask.mode, mask.info) == ("L", {})
    np.testing.assert_array_equal(np.asarray(mask), HALF_HW * 255)


@pytest.mark.parametrize("scale", [1, 257])
def test_shades_stay_shades(scale: int) -> None:
    shades_HW = np.tile(np.arange(0, 96, dtype=np.uint16), (64, 1))
    pixels_HW = shades_HW.astype(np.uint8) if scale == 1 else shades_HW * scale
    np.testing.assert_array_equal(np.asarray(read_mask(encode(Image.fromarray(pixels_HW), "PNG"), SIZE)), shades_HW)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encode(Image.new("L", SIZE), "PNG"), "black all over"),
        (encode(Image.new("LA", SIZE, (255, 0)), "PNG"), "black all over"),
        (encode(Image.new("L", (64, 96), 255), "PNG"), "upright photo 96 x 64"),
        (encode(Image.new("L", (9, 9), 255), "PNG"), "9 x 9 px"),
        (encode(HALF, "PNG")[:60], "cut short|damaged"),
        (b"%PDF-1.7", "PDF"),
        (b"", "empty"),
    ],
)
def test_a_mask_that_cannot_be_used_says_why(data: bytes, said: str) -> None:
    with pytest.raises(PictureRefused, match=said) as caught:
        read_mask(data, SIZE)
    assert caught.value.slug == "mask-invalid"
    assert "white where the face must agree" in caught.value.remedy
