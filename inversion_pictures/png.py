"""PNG, read chunk by chunk: what is no pixel is taken out before the decoder sees the file.

So texts of any length and wrong checksums of what nobody needs do no harm, the colour chunks are judged by their
precedence, and of an animation its first frame is decoded. Names of chunks are those of the PNG specification,
third edition.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image

from inversion_pictures.errors import damaged
from inversion_pictures.signals import Cicp, Description, Gamma, Icc

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 1_000_000
"""As many are looked at."""
MAX_TEXT_BYTES = 16 * 2**20
"""As much of a compressed text is unpacked to look for the orientation in it."""
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_ONCE = (b"tRNS", b"eXIf", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"acTL")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP, _RAW_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"
_TELLING = {_XMP, _RAW_EXIF}
"""Names of texts that may tell the orientation."""
_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")
_SCALE = {1: 255, 2: 85, 4: 17, 8: 1}
"""Bits of a grey sample -> what makes 8 of them."""


@dataclass(frozen=True, kw_only=True)
class Png:
    """What a decoder needs, and what it is not told."""

    data: bytes
    """A plain PNG: no animation, no text, no colour chunk."""
    canvas: tuple[int, int]
    """Width and height of the whole picture."""
    place: tuple[int, int] = (0, 0)
    """Where the decoded frame lies on it."""
    colours: list[Description] = field(default_factory=list)
    """What the samples mean; the first that can be used counts."""
    key: int | tuple[int, int, int] | None = None
    """The transparent grey or colour, as deep as what Pillow decodes."""
    orientation: int | None = None
    """Said by a text, where no EXIF is."""


@dataclass(kw_only=True)
class _Chunks:
    header: bytes = b""
    once: dict[bytes, bytes] = field(default_factory=dict)
    """The first chunk of each kind in `_ONCE`."""
    palette: bytes | None = None
    pixels: list[bytes] = field(default_factory=list)
    frame: bytes | None = None
    """The first fcTL that stands behind the pixels: they are no part of the animation."""
    frame_pixels: list[bytes] = field(default_factory=list)
    texts: set[bytes] = field(default_factory=set)
    """Names of those that have been looked into."""
    orientation: int | None = None


def prepare(data: bytes) -> Png | None:
    """The parts of a PNG; None where there is no header, which the decoder then says. Raises: PictureRefused."""
    chunks = _Chunks()
    frames = 0
    for kind, body, is_whole in _walk(data):
        if kind in (b"IDAT", b"fdAT", b"PLTE", b"IHDR") and not is_whole and len(body) == 0:
            raise damaged("PNG", f"is cut short within its {kind.decode()} chunk")
        if kind == b"IHDR" and not chunks.header:
            chunks.header = body
        elif kind == b"IDAT":
            chunks.pixels.append(body)
        elif kind == b"PLTE":
            chunks.palette = body
        elif kind == b"fcTL":
            frames += 1
            if frames == 1 and chunks.pixels:
                chunks.frame = body
        elif kind == b"fdAT" and chunks.frame is not None and frames == 1:
            chunks.frame_pixels.append(body[4:])
        elif kind in _ONCE:
            chunks.once.setdefault(kind, body)
        elif kind in _TEXTS and (name := body.partition(b"\0")[0]) in _TELLING - chunks.texts:
            chunks.texts.add(name)  # the first of each name: unpacking all of them could take long
            chunks.orientation = chunks.orientation or _orientation(kind, body)
    return _assembled(chunks) if len(chunks.header) == 13 else None


def _walk(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """(kind, body, whether it is whole) of each chunk that is not known to be wrong; the last may be cut short."""
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size] if kind in _CRITICAL + _ONCE + _TEXTS + (b"fcTL", b"fdAT") else b""
        checksum = data[at + 8 + size : at + 12 + size]
        is_whole = len(checksum) == 4
        at += 12 + size
        if kind == b"IEND":
            return
        if is_whole and body and zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            if kind in _CRITICAL:
                raise damaged("PNG", f"is damaged: the checksum of its {kind.decode()} chunk is wrong")
            continue  # a wrong remark is no reason to refuse the picture
        if is_whole or kind in (b"IDAT", b"fdAT"):
            yield kind, body, is_whole


def _assembled(chunks: _Chunks) -> Png:
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks.header)
    frame_size, place, pixels = (width, height), (0, 0), chunks.pixels
    if chunks.frame is not None and len(chunks.frame) >= 20 and chunks.frame_pixels and b"acTL" in chunks.once:
        frame_width, frame_height, left, top = struct.unpack_from(">4x4I", chunks.frame)
        if left + frame_width <= width and top + frame_height <= height:
            frame_size, place, pixels = (frame_width, frame_height), (left, top), chunks.frame_pixels
    kept = [_chunk(b"IHDR", struct.pack(">IIBBBBB", *frame_size, depth, colour, *rest))]
    kept += [_chunk(b"PLTE", chunks.palette)] if chunks.palette is not None else []
    kept += [_chunk(kind, chunks.once[kind]) for kind in (b"tRNS", b"eXIf") if kind in chunks.once]
    kept.append(_chunk(b"IDAT", b"".join(pixels)))  # one, however many there were
    return Png(
        data=b"".join([SIGNATURE, *kept, _chunk(b"IEND", b"")]),
        canvas=(width, height),
        place=place,
        colours=_colours(chunks.once, is_grey=colour in (0, 4)),
        key=_key(chunks.once.get(b"tRNS", b""), colour, depth),
        orientation=None if b"eXIf" in chunks.once else chunks.orientation,
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return b"".join([struct.pack(">I4s", len(body), kind), body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))])


def _colours(once: dict[bytes, bytes], *, is_grey: bool) -> list[Description]:
    """In the order in which they count: cICP, iCCP, sRGB, gAMA with cHRM (section 4.3)."""
    found: list[Description] = []
    if len(signal := once.get(b"cICP", b"")) == 4 and signal[2] == 0:  # a matrix is for video
        found.append(Cicp(primaries=signal[0], transfer=signal[1], is_full_range=signal[3] != 0))
    if (profile := _profile(once.get(b"iCCP", b""))) is not None:
        found.append(Icc(profile=profile))
    if b"sRGB" in once:
        found.append(Cicp(primaries=1, transfer=13))
    gamma = once.get(b"gAMA", b"")
    chromaticities = once.get(b"cHRM", b"")
    if len(gamma) == 4 or len(chromaticities) == 32:
        found.append(
            Gamma(
                exponent=int.from_bytes(gamma, "big") / 100_000 if len(gamma) == 4 else None,
                chromaticities=tuple(value / 100_000 for value in struct.unpack(">8I", chromaticities))
                if len(chromaticities) == 32 and not is_grey
                else None,
            )
        )
    return found


def _profile(body: bytes) -> bytes | None:
    name, _, packed = body.partition(b"\0")
    return _unpacked(packed[1:], Icc.MAX_BYTES) if name and packed[:1] == b"\0" else None


def _unpacked(packed: bytes, most: int) -> bytes | None:
    """None where it is damaged, or longer than `most`."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(packed, most)
    except zlib.error:
        return None
    return found if unpacker.eof else None


def _key(body: bytes, colour: int, depth: int) -> int | tuple[int, int, int] | None:
    """tRNS of a picture without palette: compared with samples, so as deep as they come from the decoder."""
    if colour == 0 and len(body) >= 2:
        grey = int.from_bytes(body[:2], "big")
        return grey * _SCALE.get(depth, 1)
    if colour == 2 and len(body) >= 6:
        red, green, blue = struct.unpack(">HHH", body[:6])
        return (red >> 8, green >> 8, blue >> 8) if depth == 16 else (red & 255, green & 255, blue & 255)
    return None


def _orientation(kind: bytes, body: bytes) -> int | None:
    """What XMP, or ImageMagick's copy of EXIF, says in a text."""
    name, _, rest = body.partition(b"\0")
    if name == _XMP and kind == b"iTXt":
        is_packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        found = _ORIENTATION.search((_unpacked(text, MAX_TEXT_BYTES) or b"") if is_packed else text)
        return int(found[1]) if found else None
    if name == _RAW_EXIF and kind in (b"tEXt", b"zTXt"):
        text = (_unpacked(rest[1:], MAX_TEXT_BYTES) or b"") if kind == b"zTXt" else rest
        return _of_raw_profile(text)
    return None


def _of_raw_profile(text: bytes) -> int | None:
    exif = Image.Exif()
    try:
        exif.load(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode()))
        return int(exif[0x0112])
    except Exception:  # Pillow's reader of EXIF leaks whatever it trips over; damaged EXIF says nothing
        return None
