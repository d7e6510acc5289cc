"""From the bytes of a file to its pixels: upright, in sRGB, and nothing else of it.

Format and size are judged from the header, so that a decompression bomb is refused before anything is decoded; the
whole picture is then decoded, so that a damaged file is found here and not later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from PIL import ExifTags, Image

from inversion_pictures import bmp, heif, iso, jpeg, png, tiff
from inversion_pictures.colours import WHITE, Key, bare, to_srgb
from inversion_pictures.errors import PictureRefused, damaged
from inversion_pictures.formats import HEAD_BYTES, MAX_PIXELS, MIN_SIDE_PX, NAMED, described, formats_taken, sniff
from inversion_pictures.signals import Cicp, Description, Icc

# EXIF 2.3, tag 0x0112: what undoes each orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NAMES = {"WEBP": "WebP", "HEIF": "HEIC"}
_SCALE_DOWN = "Scale it down and send that."


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is decoded at all."""

    formats: tuple[str, ...] = field(default_factory=formats_taken)
    min_side_px: int = MIN_SIDE_PX
    max_pixels: int = MAX_PIXELS
    greedy_pixels: Mapping[str, int] = field(default_factory=dict)
    """Most pixels of formats that take more memory or time than others, by name; also of `progressive JPEG`."""


PHOTO = Limits()
ANY_SIZE = Limits(min_side_px=1)


@dataclass(kw_only=True)
class _Opened:
    """A picture whose header has been read."""

    kind: str
    image: Image.Image
    canvas: tuple[int, int]
    place: tuple[int, int] = (0, 0)
    colours: list[Description]
    key: Key | None = None
    orientation: int | None = None
    """Where no EXIF says it."""
    completed: tuple[bytes, bytes] | None = None
    """The file with one thing and with another behind its data, where its end is missing."""
    is_progressive: bool = False


def read(data: bytes, limits: Limits = PHOTO) -> Image.Image:
    """The picture as upright 8-bit sRGB, nothing but pixels; of an animation the first frame, of a TIFF the full page.

    Raises: PictureRefused.
    """
    with _opening(data, limits) as opened:
        image = _loaded(opened)
        if opened.kind == "TIFF":
            image = tiff.shallow(image)
        orientation = _orientation(opened)
        rgb = to_srgb(image, _colours(opened, image), opened.key)
        return upright(_on_canvas(rgb, opened), orientation)


def measure(data: bytes, limits: Limits = PHOTO) -> tuple[int, int]:
    """Width and height of the upright picture, once all of it has been decoded. Raises: PictureRefused."""
    with _opening(data, limits) as opened:
        if opened.completed is None:
            # An eighth of the size still reads all of a JPEG, with 1/64 of the memory; other formats ignore it.
            opened.image.draft(None, (max(1, opened.image.width // 8), max(1, opened.image.height // 8)))
        image = _loaded(opened)
        width, height = image.size if opened.kind == "TIFF" else opened.canvas  # Pillow turns a TIFF upright itself
        return (height, width) if _orientation(opened) in (5, 6, 7, 8) else (width, height)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A picture as its file has it, for those that want numbers and no colours."""

    image: Image.Image
    key: Key | None
    """The transparent grey or colour, where `info` does not say one."""
    orientation: int
    bits: int
    """Of one sample, where it has more than 8."""


@contextmanager
def decoding(data: bytes, limits: Limits = PHOTO) -> Iterator[Stored]:
    """The loaded picture. Raises: PictureRefused."""
    with _opening(data, limits) as opened:
        image = _loaded(opened)
        bits = tiff.bits_of(image) if opened.kind == "TIFF" else 16
        yield Stored(image=image, key=opened.key, orientation=_orientation(opened), bits=bits)


@contextmanager
def _opening(data: bytes, limits: Limits) -> Iterator[_Opened]:
    if not data:
        raise PictureRefused("picture-invalid", "The file is empty.", f"Send a {NAMED} picture.")
    kind = sniff(data[:HEAD_BYTES])
    if kind is None or kind not in limits.formats:
        raise PictureRefused("picture-unsupported", *described(data))
    with _explained(kind):
        opened = _opened(data, kind)
        with opened.image:
            _check_size(opened, limits)
            yield opened


@contextmanager
def _explained(kind: str) -> Iterator[None]:
    """Whatever a decoder trips over is the file's fault, in our words: theirs name objects of the program."""
    try:
        yield
    except (PictureRefused, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        said = f"It has far more than {MAX_PIXELS / 1e6:.0f} megapixels, the most that is taken."
        raise PictureRefused("picture-too-large", said, _SCALE_DOWN) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...: all mean this
        is_short = any(word in str(error).lower() for word in ("truncated", "not enough", "unexpected end"))
        said = "is cut short: not all of its pixels are there" if is_short else "is damaged or cut short"
        raise damaged(_NAMES.get(kind, kind), said) from error


def _opened(data: bytes, kind: str) -> _Opened:
    if kind == "JPEG":
        return _opened_jpeg(data)
    if kind == "PNG" and (parts := png.prepare(data)) is not None:
        image = Image.open(BytesIO(parts.data), formats=[kind])
        return _Opened(
            kind=kind, image=image, canvas=parts.canvas, place=parts.place, colours=parts.colours, key=parts.key,
            orientation=parts.orientation,
        )  # fmt: skip
    if kind == "AVIF":
        data = iso.with_brand(data, b"avis" if data[8:12] == b"avis" else b"avif")
    if kind == "HEIF":
        heif.register()
    image = Image.open(BytesIO(data), formats=[kind])
    if kind == "TIFF":
        tiff.choose_page(image)
    return _Opened(kind=kind, image=image, canvas=image.size, colours=_said(data, kind))


def _opened_jpeg(data: bytes) -> _Opened:
    markers = jpeg.survey(data)
    jpeg.check_scans(markers)
    completed = None
    if not markers.has_end and markers.scans:
        completed = jpeg.completions(data)
        data = completed[0]
    image = Image.open(BytesIO(data), formats=["JPEG"])
    return _Opened(
        kind="JPEG",
        image=image,
        canvas=image.size,
        colours=[],
        completed=completed,
        is_progressive=markers.is_progressive,
    )


def _said(data: bytes, kind: str) -> list[Description]:
    """Colours that Pillow does not read."""
    if kind == "BMP":
        return bmp.colours(data)
    if kind == "AVIF" and (points := iso.code_points(data)) is not None:
        return [points]
    return []


def _check_size(opened: _Opened, limits: Limits) -> None:
    width, height = opened.canvas
    if min(width, height, *opened.image.size) < 1 or min(width, height) < limits.min_side_px:
        said = f"It has {width} x {height} px, and each side must have at least {limits.min_side_px} px."
        raise PictureRefused("picture-too-small", said, "Send a larger one.")
    kind = "progressive JPEG" if opened.is_progressive else opened.kind
    most = min(limits.max_pixels, limits.greedy_pixels.get(kind, limits.max_pixels))
    if width * height > most:
        of = f" of {_NAMES.get(kind, kind)}" if kind in limits.greedy_pixels else ""
        count = f"{width * height / 1e6:.2f} megapixels; at most {most / 1e6:.0f}{of} are taken"
        said = f"It has {width} x {height} px, {count}."
        raise PictureRefused("picture-too-large", said, _SCALE_DOWN)


def _loaded(opened: _Opened) -> Image.Image:
    """Every pixel decoded."""
    if opened.completed is not None and opened.image.width * opened.image.height > jpeg.LARGE_PX:
        jpeg.check_small(opened.completed, is_progressive=opened.is_progressive)
    opened.image.load()
    if opened.completed is not None:
        with Image.open(BytesIO(opened.completed[1]), formats=["JPEG"]) as other:
            other.load()
            jpeg.check_whole(opened.image, other, is_progressive=opened.is_progressive)
    if opened.kind == "BMP":
        return bmp.without_empty_alpha(opened.image)
    return opened.image


def _colours(opened: _Opened, image: Image.Image) -> list[Description]:
    """What the samples mean: a profile counts before code points."""
    if opened.kind == "PNG":
        return opened.colours
    icc = image.info.get("icc_profile")
    found: list[Description] = [Icc(profile=icc)] if isinstance(icc, bytes) and icc else []
    if opened.kind == "HEIF" and isinstance(points := image.info.get("nclx_profile"), dict):
        found.append(
            Cicp(primaries=points.get("color_primaries", 2), transfer=points.get("transfer_characteristics", 2))
        )
    return found + opened.colours


def _orientation(opened: _Opened) -> int:
    try:
        said = opened.image.getexif().get(ExifTags.Base.Orientation)
        return int(said if said is not None else opened.orientation or 1)
    except Exception:  # damaged metadata around a sound picture: common enough to be taken as upright
        return 1


def _on_canvas(rgb: Image.Image, opened: _Opened) -> Image.Image:
    """A frame that is smaller than its picture lies on white."""
    if rgb.size == opened.canvas or opened.kind != "PNG":
        return bare(rgb)
    whole = Image.new("RGB", opened.canvas, WHITE)
    whole.paste(rgb, opened.place)
    return whole


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """With an EXIF orientation undone."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
