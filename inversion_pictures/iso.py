"""AVIF: the colours that its boxes tell of the picture, which Pillow does not (ISO/IEC 23008-12 and 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from inversion_pictures.signals import Cicp

MAX_BOXES = 4096
"""As many boxes or entries are looked at."""


def with_brand(data: bytes, brand: bytes) -> bytes:
    """The file with another major brand: decoders look at that alone."""
    return data[:8] + brand + data[12:]


def code_points(data: bytes) -> Cicp | None:
    """What the primary item's `nclx` says; None where there is none, or the boxes make no sense."""
    try:
        return _code_points(data)
    except (struct.error, IndexError):
        return None


def _code_points(data: bytes) -> Cicp | None:
    meta = _child(data, 0, len(data), b"meta")
    if meta is None:
        return None
    inside = (meta[0] + 4, meta[1])
    properties = _child(data, *inside, b"iprp")
    if properties is None or (container := _child(data, *properties, b"ipco")) is None:
        return None
    wanted = _properties_of(data, _child(data, *properties, b"ipma"), _primary(data, _child(data, *inside, b"pitm")))
    for index, (kind, start, stop) in enumerate(_boxes(data, *container), start=1):
        is_ours = wanted is None or index in wanted
        if kind == b"colr" and data[start : start + 4] == b"nclx" and stop - start >= 11 and is_ours:
            primaries, transfer = struct.unpack_from(">HH", data, start + 4)
            return Cicp(primaries=primaries, transfer=transfer)  # the decoder has widened a narrow range
    return None


def _boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start and stop of what is inside) of each box."""
    for _ in range(MAX_BOXES):
        if start + 8 > stop:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        end = stop if size == 0 else start + size
        if (size and size < head) or end > stop:
            return
        yield kind, start + head, end
        start = end


def _child(data: bytes, start: int, stop: int, kind: bytes) -> tuple[int, int] | None:
    return next(((begin, end) for name, begin, end in _boxes(data, start, stop) if name == kind), None)


def _primary(data: bytes, place: tuple[int, int] | None) -> int | None:
    """The number of the item that is the picture."""
    if place is None:
        return None
    return int(struct.unpack_from(">H" if data[place[0]] == 0 else ">I", data, place[0] + 4)[0])


def _properties_of(data: bytes, place: tuple[int, int] | None, item: int | None) -> set[int] | None:
    """The numbers of the item's properties; None where nothing is said of any."""
    if place is None or item is None:
        return None
    at, (version, is_wide) = place[0] + 8, (data[place[0]], data[place[0] + 3] & 1)
    (count,) = struct.unpack_from(">I", data, place[0] + 4)
    for _ in range(min(count, MAX_BOXES)):
        (number,) = struct.unpack_from(">H" if version == 0 else ">I", data, at)
        at += 2 if version == 0 else 4
        size, many = (2, data[at]) if is_wide else (1, data[at])
        at += 1
        entries = [int.from_bytes(data[at + size * n : at + size * (n + 1)], "big") for n in range(many)]
        at += size * many
        if number == item:
            return {entry & (0x7FFF if is_wide else 0x7F) for entry in entries}
    return None
