"""load_photo refuses what it should, by the right name, and shows everything else in its right colours."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from inversion_core.errors import (
    InversionError,
    PictureInvalid,
    PictureTooLarge,
    PictureTooSmall,
    PictureUnsupported,
)
from inversion_core.pictures import centre_crop, grid, load_photo, strip, to_image, to_tensor
from inversion_pictures.formats import FORMATS
from inversion_pictures.reading import Limits

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", size, RED)
    half_w, half_h = size[0] // 2, size[1] // 2
    image.paste(GREEN, (half_w, 0, size[0], half_h))
    image.paste(BLUE, (0, half_h, half_w, size[1]))
    image.paste(WHITE, (half_w, half_h, *size))
    return image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes do not hold: a bomb."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        + png_chunk(b"IEND", b"")
    )


def assert_quarters(image: Image.Image, tolerance: int = 3) -> None:
    assert image.mode == "RGB"
    width, height = image.size
    seen = [image.getpixel((width * x // 4, height * y // 4)) for y in (1, 3) for x in (1, 3)]
    np.testing.assert_allclose(seen, [RED, GREEN, BLUE, WHITE], atol=tolerance)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_each_format_is_read_from_bytes_stream_and_path(kind: str, options: dict[str, object], tmp_path: Path) -> None:
    data = encode(quarters(), kind, **options)
    path = tmp_path / "photo.txt"  # the content counts, not the name
    path.write_bytes(data)
    for source in (data, BytesIO(data), path, str(path)):
        photo = load_photo(source)
        assert photo.size == (96, 64)
        assert_quarters(photo)


def test_orientations_are_undone() -> None:
    upright = quarters()
    shown_as = {  # EXIF 2.3: what the stored picture is, for the tag's value to make it upright
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for kind in ("PNG", "JPEG", "WEBP"):
        for orientation, transpose in shown_as.items():
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            stored = upright if transpose is None else upright.transpose(transpose)
            photo = load_photo(encode(stored, kind, exif=exif, quality=95))
            assert photo.size == (96, 64), (kind, orientation)
            assert_quarters(photo, tolerance=8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00rubbish", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00"])
def test_a_sound_picture_with_damaged_metadata_is_upright(exif: bytes) -> None:
    assert_quarters(load_photo(encode(quarters(), "JPEG", exif=exif, quality=95)), tolerance=8)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert_quarters(load_photo(encode(quarters(), "PNG", exif=exif)))


def test_palette_keeps_its_colours() -> None:
    assert_quarters(load_photo(encode(quarters().convert("P", palette=Image.Palette.ADAPTIVE), "PNG")))


def test_cmyk_keeps_its_colours() -> None:
    assert_quarters(load_photo(encode(quarters().convert("CMYK"), "JPEG", quality=95)), tolerance=8)


def test_grey_is_grey() -> None:
    for kind in ("PNG", "JPEG"):
        photo = load_photo(encode(Image.new("L", (64, 64), 77), kind))
        assert photo.getpixel((5, 5)) == (77, 77, 77)


def test_one_bit_is_black_and_white() -> None:
    image = Image.new("1", (64, 64), 1)
    image.putpixel((3, 4), 0)
    photo = load_photo(encode(image, "PNG"))
    assert photo.getpixel((3, 4)) == (0, 0, 0)
    assert photo.getpixel((4, 4)) == WHITE


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, axis=0)
    photo = load_photo(encode(Image.fromarray(ramp), "PNG"))
    seen = np.asarray(photo)[10, :, 0]
    np.testing.assert_allclose(seen, ramp[10] / 257, atol=0.5)


def test_sixteen_bit_colour_is_scaled() -> None:
    rows = b"".join(b"\0" + struct.pack(">HHH", 0xFFFF, 0x8000, 0x0000) * 64 for _ in range(64))
    header = struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows))
    photo = load_photo(data + png_chunk(b"IEND", b""))
    np.testing.assert_allclose(photo.getpixel((9, 9)), (255, 128, 0), atol=1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_lies_on_white(kind: str) -> None:
    image = Image.new("RGBA", (64, 64), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    image.paste((0, 0, 255, 128), (32, 32, 64, 64))
    photo = load_photo(encode(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))
    assert photo.getpixel((5, 5)) == WHITE
    assert photo.getpixel((50, 5)) == RED
    np.testing.assert_allclose(photo.getpixel((50, 50)), (127, 127, 255), atol=1)


def test_grey_with_alpha_and_transparent_palette_lie_on_white() -> None:
    assert load_photo(encode(Image.new("LA", (64, 64), (0, 0)), "PNG")).getpixel((5, 5)) == WHITE
    palette = quarters().convert("P", palette=Image.Palette.ADAPTIVE)
    palette.info["transparency"] = palette.getpixel((2, 2))
    assert load_photo(encode(palette, "PNG")).getpixel((2, 2)) == WHITE


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (BLUE, RED, GREEN)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **lossless)
    assert load_photo(data).getpixel((9, 9)) == BLUE


def test_a_phones_multi_picture_jpeg_is_a_jpeg() -> None:
    data = encode(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64))], quality=95)
    assert_quarters(load_photo(data), tolerance=8)


@pytest.mark.parametrize("kind", ["PPM", "TGA", "JPEG2000", "ICO"])
def test_other_formats_are_unsupported(kind: str) -> None:
    with pytest.raises(PictureUnsupported, match="TIFF or AVIF") as caught:
        load_photo(encode(quarters(), kind))
    assert caught.value.status == 415


@pytest.mark.parametrize(
    "data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"hello", b"\0", bytes(99)]
)
def test_what_is_no_picture_is_unsupported(data: bytes) -> None:
    with pytest.raises(PictureUnsupported):
        load_photo(data)


def test_a_heic_photo_is_told_what_it_is() -> None:
    with pytest.raises(PictureUnsupported, match=r"HEIC photo.*Save it as JPEG"):
        load_photo(b"\0\0\0\x18ftypheic" + bytes(50), Limits(formats=FORMATS))


def test_an_empty_file_says_so() -> None:
    with pytest.raises(PictureInvalid, match="empty"):
        load_photo(b"")


@pytest.mark.parametrize("path", ["no/such/photo.jpg", "nul\0.jpg", "."])
def test_a_path_that_cannot_be_read_is_named(path: str) -> None:
    with pytest.raises(PictureInvalid, match="cannot be read"):
        load_photo(path)


@pytest.mark.parametrize("size", [(1, 1), (63, 500), (500, 63)])
def test_small_pictures_are_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(PictureTooSmall, match="at least 64 px"):
        load_photo(encode(Image.new("RGB", size), "PNG"))
    assert load_photo(encode(Image.new("RGB", (64, 64)), "PNG")).size == (64, 64)


@pytest.mark.parametrize(
    ("width", "height"),
    [(7072, 7071), (10_000, 6000), (11_000, 9000), (50_000, 50_000), (2**31 - 1, 2**31 - 1)],
    ids=["just over", "60 MP", "Pillow warns", "Pillow refuses", "absurd"],
)
def test_bombs_are_refused_from_their_header(width: int, height: int) -> None:
    with pytest.raises(PictureTooLarge, match="Scale it down"):
        load_photo(png_claiming(width, height))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_pictures_are_invalid(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    data = encode(noise, kind)
    with pytest.raises(PictureInvalid, match="cut short") as caught:
        load_photo(data[: int(len(data) * share)])
    assert type(caught.value) is PictureInvalid


@pytest.mark.parametrize("head", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
@given(tail=st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_random_bytes_give_only_our_errors(head: bytes, tail: bytes) -> None:
    for data in (tail, head + tail):
        with pytest.raises(InversionError):
            load_photo(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=6))
@settings(max_examples=200, deadline=None)
def test_mutated_pictures_load_or_give_only_our_errors(kind: str, changes: list[tuple[float, bytes]]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = bytearray(encode(quarters(), kind, exif=exif))
    for place, values in changes:
        start = int(place * len(data))
        data[start : start + len(values)] = values
    try:
        photo = load_photo(bytes(data))
    except InversionError:
        return
    assert photo.mode == "RGB"


def test_tensor_round_trip_is_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image_BCHW = to_tensor(Image.fromarray(pixels))
    assert image_BCHW.shape == (1, 3, 20, 30)
    assert image_BCHW.dtype == torch.float32
    assert image_BCHW.min() >= -1
    assert image_BCHW.max() <= 1
    np.testing.assert_array_equal(np.asarray(to_image(image_BCHW[0])), pixels)
    np.testing.assert_array_equal(np.asarray(to_image(image_BCHW)), pixels)


def test_to_tensor_maps_black_and_white_to_the_ends() -> None:
    image = Image.new("RGB", (2, 1))
    image.putpixel((1, 0), WHITE)
    assert to_tensor(image)[0, :, 0].tolist() == [[-1.0, 1.0]] * 3


def test_to_image_clips_and_survives_nan() -> None:
    image_CHW = torch.tensor([-5.0, 5.0, float("nan"), float("inf")]).expand(3, 1, 4)
    assert np.asarray(to_image(image_CHW))[0, :, 0].tolist() == [0, 255, 128, 255]


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 8, 8), (8, 8)])
def test_to_image_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        to_image(torch.zeros(shape))


def test_strip_and_grid_place_pictures_with_gaps() -> None:
    images = [Image.new("RGB", (10, 8), colour) for colour in (RED, GREEN, BLUE)]
    row = strip(images, gap_px=2)
    assert row.size == (34, 8)
    assert [row.getpixel((x, 4)) for x in (5, 11, 17, 29)] == [RED, WHITE, GREEN, BLUE]
    sheet = grid(images, columns=2, gap_px=2)
    assert sheet.size == (22, 18)
    assert [sheet.getpixel(p) for p in ((5, 4), (17, 4), (5, 14), (17, 14))] == [RED, GREEN, BLUE, WHITE]


def test_strip_needs_pictures_of_one_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        strip([])
    with pytest.raises(ValueError, match="one size"):
        strip([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5))])


def test_centre_crop_takes_the_middle() -> None:
    image = Image.new("RGB", (300, 100), RED)
    image.paste(GREEN, (100, 0, 200, 100))
    crop = centre_crop(image, 50)
    assert crop.size == (50, 50)
    np.testing.assert_allclose(np.asarray(crop), np.full((50, 50, 3), GREEN), atol=20)  # the edge may ring
    assert crop.getpixel((25, 25)) == GREEN
