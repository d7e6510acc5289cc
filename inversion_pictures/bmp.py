"""BMP: colours by its longer headers (BITMAPV4HEADER and BITMAPV5HEADER), and alpha that nobody meant."""

from __future__ import annotations

import struct

from PIL import Image

from inversion_pictures.signals import Description, Gamma, Icc

_FILE_HEADER, _V4, _V5 = 14, 108, 124
_CALIBRATED, _EMBEDDED = 0, b"DEBM"


def colours(data: bytes) -> list[Description]:
    """What the header says: a profile in the file, or primaries with exponents."""
    size = int.from_bytes(data[14:18], "little")
    if size < _V4 or len(data) < _FILE_HEADER + size:
        return []
    space = data[70:74]
    if size >= _V5 and space == _EMBEDDED:
        start, length = struct.unpack_from("<II", data, _FILE_HEADER + 112)
        profile = data[_FILE_HEADER + start : _FILE_HEADER + start + length]
        return [Icc(profile=profile)] if profile else []
    if int.from_bytes(space, "little") == _CALIBRATED:
        return _calibrated(struct.unpack_from("<12I", data, 74))
    return []


def _calibrated(values: tuple[int, ...]) -> list[Description]:
    """XYZ of red, green and blue, and an exponent for each; writers that know nothing leave zeros."""
    points, gammas = [value / 2**30 for value in values[:9]], [value / 2**16 for value in values[9:]]
    sums = [sum(points[index : index + 3]) for index in (0, 3, 6)]
    if not all(sums) or not all(gammas):
        return []
    white = [sum(points[index::3]) for index in range(3)]
    corners = [points[3 * index + axis] / sums[index] for index in range(3) for axis in (0, 1)]
    found = (white[0] / sum(white), white[1] / sum(white), *corners)
    return [Gamma(exponent=1 / gammas[1], chromaticities=found)]


def without_empty_alpha(image: Image.Image) -> Image.Image:
    """The loaded picture; an alpha channel of nothing but zeros was never filled in, and is taken as none."""
    if image.mode != "RGBA" or image.getchannel("A").getextrema() != (0, 0):
        return image
    return image.convert("RGB")
