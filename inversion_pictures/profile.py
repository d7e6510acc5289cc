"""An ICC profile of primaries and a curve, for those files that say their colours otherwise (ICC.1:2010)."""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np

from inversion_pictures.signals import Chromaticities, Cicp, Gamma, adapted, curve, primaries, to_xyz, white_of

_D50 = np.array([0.9642, 1.0, 0.8249])
_CURVE_SAMPLES = 4096


@lru_cache(maxsize=16)
def profile_of(description: Cicp | Gamma, *, is_grey: bool) -> bytes | None:
    """A profile that says the same; None where the description is unknown or brighter than white."""
    found, to_light = primaries(description), curve(description)
    if found is None or to_light is None:
        return None
    light = to_light(np.linspace(0, 1, _CURVE_SAMPLES))
    values = (light.clip(0, 1) * 65535).round().astype(">u2").tobytes()
    trc = b"curv\0\0\0\0" + struct.pack(">I", _CURVE_SAMPLES) + values
    if is_grey:
        return _file(b"GRAY", {b"wtpt": _xyz(_D50), b"kTRC": trc})
    return _file(b"RGB ", {b"wtpt": _xyz(_D50), **_columns(found), **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), trc)})


def _columns(found: Chromaticities) -> dict[bytes, bytes]:
    matrix = adapted(to_xyz(found), white_of(found), _D50)
    return {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)}


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def _text(text: str) -> bytes:
    packed = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(packed), 28) + packed


def _file(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _text("from the file's header"), b"cprt": _text("none"), **tags}
    places: dict[bytes, int] = {}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", places[data], len(data))
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x04300000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
