"""Colours in the small, highlights, and what is said of a file that is not whole."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from corpus import as_pq, encode, gama, icc, photo_like, png, png_chunk, png_saying, rows_of
from PIL import Image, ImageCms

from inversion_core.errors import PictureInvalid
from inversion_core.pictures import load_photo
from inversion_pictures.hdr import WHITE_NITS, tone_mapped
from inversion_pictures.jpeg import survey
from inversion_pictures.signals import (
    BT2020_PRIMARIES,
    SRGB_PRIMARIES,
    Cicp,
    Gamma,
    light_to_srgb,
    pq_to_nits,
    primaries,
    srgb_to_light,
    to_xyz,
)

pytestmark = pytest.mark.unit

RAMP = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(64, axis=0)).convert("RGB")
PQ = Cicp(primaries=9, transfer=16)


def shown(data: bytes) -> np.ndarray:
    """The grey of a ramp's columns."""
    return np.asarray(load_photo(data))[32, :, 1].astype(int)


@pytest.mark.parametrize("exponent", [1.0, 1 / 1.8, 1 / 2.6])
def test_every_shade_of_a_gamma_is_shown_as_bright_as_it_is(exponent: float) -> None:
    expected = 255 * light_to_srgb(np.linspace(0, 1, 256) ** (1 / exponent))
    for image in (RAMP, RAMP.convert("L")):
        np.testing.assert_allclose(shown(png_saying(image, gama(exponent))), expected, atol=1)


def test_srgbs_own_profile_changes_no_pixel_whatever_its_name() -> None:
    image = photo_like()
    profile = icc((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141), gamma=2.2)
    as_it_is = np.asarray(image).astype(int)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(np.asarray(load_photo(encode(image, "PNG", icc_profile=srgb))), as_it_is)
    near = np.asarray(load_photo(encode(image, "PNG", icc_profile=profile))).astype(int)
    assert 0 < np.abs(near - as_it_is).max() < 12  # 2.2 is not sRGB's curve


def test_the_primaries_are_those_of_the_standards() -> None:
    np.testing.assert_allclose(to_xyz(SRGB_PRIMARIES)[1], [0.2126, 0.7152, 0.0722], atol=2e-4)
    np.testing.assert_allclose(to_xyz(BT2020_PRIMARIES)[1], [0.2627, 0.6780, 0.0593], atol=2e-4)
    np.testing.assert_allclose(pq_to_nits(np.array([0.0, 0.508, 0.58, 1.0])), [0, 100, 203, 10_000], rtol=0.01)
    np.testing.assert_allclose(light_to_srgb(srgb_to_light(np.linspace(0, 1, 256))), np.linspace(0, 1, 256), atol=1e-4)
    assert primaries(Gamma(exponent=None, chromaticities=(9.0,) * 8)) is None
    for code in (0, 3, 13, 255):
        assert primaries(Cicp(primaries=code, transfer=13)) is None


def test_what_is_no_brighter_than_white_comes_out_of_pq_as_it_went_in() -> None:
    column = [as_pq(shade) for shade in range(256)]
    image = Image.fromarray(np.array(column, np.uint8)[None].repeat(64, axis=0)).convert("RGB")
    np.testing.assert_allclose(shown(png_saying(image, (b"cICP", bytes((9, 16, 0, 1))))), np.arange(256), atol=6)


def test_highlights_are_rolled_off_in_order_and_shadows_left_alone() -> None:
    mapped = tone_mapped(RAMP, PQ)
    assert mapped is not None
    grey = np.asarray(mapped)[32, :, 1].astype(int)
    assert (np.diff(grey) >= 0).all()
    assert grey[-1] >= 253
    white = int(np.searchsorted(pq_to_nits(np.linspace(0, 1, 256)), WHITE_NITS))
    assert 120 < grey[white] < 255, "white gives way to what is brighter"
    assert len(set(grey[white:])) > 20, "highlights keep their shades"
    dark = [as_pq(shade) for shade in (20, 60)]
    np.testing.assert_allclose(grey[dark], (20, 60), atol=12)


def test_a_highlight_keeps_its_hue() -> None:
    image = Image.new("RGB", (64, 64), (200, 170, 150))
    mapped = tone_mapped(image, PQ)
    assert mapped is not None
    red, green, blue = mapped.getpixel((9, 9))  # type: ignore[misc]
    assert red > green > blue


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encode(photo_like(), "JPEG")[:-40], r"JPEG is cut short: the lowest \d+ of its 160 rows are missing"),
        (encode(photo_like(), "JPEG")[: len(encode(photo_like(), "JPEG")) // 2], "the lowest 97 of its 160 rows"),
        (encode(photo_like(), "JPEG", progressive=True)[:-400], "JPEG is cut short: its finer details are missing"),
        (encode(photo_like(), "JPEG")[:300], "JPEG is cut short: it has no pixels"),
        (encode(photo_like(), "PNG")[:-500], "PNG is cut short"),
        (encode(photo_like(), "PNG").replace(b"IDAT", b"IDAT" + b"\1", 1), "checksum of its IDAT chunk is wrong"),
        (encode(photo_like(), "GIF")[:-500], "GIF is cut short"),
        (b"", "file is empty"),
    ],
)
def test_what_is_missing_is_said(data: bytes, said: str) -> None:
    with pytest.raises(PictureInvalid, match=said) as caught:
        load_photo(data)
    assert "BytesIO" not in str(caught.value)


def test_scans_are_counted_up_to_the_end_of_the_picture() -> None:
    jpeg = encode(photo_like(), "JPEG", progressive=True)
    alone, followed = survey(jpeg), survey(jpeg + jpeg * 20)
    assert alone == followed
    assert alone.is_progressive
    assert 2 < alone.scans < 20
    assert survey(encode(photo_like(), "JPEG", exif=b"Exif\0\0" + jpeg[:5000])).scans == 1, "a thumbnail is no scan"


def test_a_transparent_key_of_ancient_depth_and_a_chunk_twice() -> None:
    image = photo_like((96, 64))
    twice = png(96, 64, rows_of(image), before=png_chunk(*gama(0.45455)) + png_chunk(*gama(1.0)))
    np.testing.assert_array_equal(np.asarray(load_photo(twice)), np.asarray(image))


def test_bytes_of_a_chunk_that_claims_too_much_are_not_looked_for() -> None:
    claims = struct.pack(">I4s", 2**31 - 1, b"tEXt") + b"x" * 20
    whole = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    whole += png_chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
    assert load_photo(whole + claims).size == (64, 64)
