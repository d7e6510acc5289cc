"""What the samples of a picture mean, as its file says it.

A description is an ICC profile, code points (ITU-T H.273, as PNG's cICP and AVIF's nclx have them), or an exponent
with chromaticities (PNG's gAMA and cHRM, BMP's header). `curve` and `primaries` give the latter two as numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Curve = Callable[[Floats], Floats]
"""From a sample in 0..1 to linear light in 0..1."""
Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class Icc:
    """A profile."""

    MAX_BYTES: ClassVar[int] = 4 * 2**20
    """Longest profile that is read; the largest real ones, of presses, have about 3 MB."""

    profile: bytes


@dataclass(frozen=True, kw_only=True)
class Cicp:
    """Code points of H.273, tables 2 and 3."""

    primaries: int
    transfer: int
    is_full_range: bool = True


@dataclass(frozen=True, kw_only=True)
class Gamma:
    """An exponent and chromaticities; sRGB's where one is missing."""

    exponent: float | None
    """Light ** exponent is the sample."""
    chromaticities: Chromaticities | None


Description = Icc | Cicp | Gamma

PQ, HLG = 16, 18
"""Transfers of pictures that are brighter than white."""
_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
_DCI = (0.314, 0.351)
_E = (1 / 3, 1 / 3)
SRGB_PRIMARIES: Chromaticities = (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
BT2020_PRIMARIES: Chromaticities = (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB_PRIMARIES,
    2: SRGB_PRIMARIES,  # not said
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: BT2020_PRIMARIES,
    10: (*_E, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (*_DCI, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}


def srgb_to_light(sample: Floats) -> Floats:
    """IEC 61966-2-1."""
    return np.where(sample <= 0.04045, sample / 12.92, ((sample + 0.055) / 1.055) ** 2.4)


def light_to_srgb(light: Floats) -> Floats:
    """Its inverse; what is outside of 0..1 is clipped."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def pq_to_nits(sample: Floats) -> Floats:
    """SMPTE ST 2084: candela per square metre, up to 10,000."""
    power = sample.clip(0, 1) ** (1 / 78.84375)
    return 10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)


def hlg_to_light(sample: Floats) -> Floats:
    """ARIB STD-B67's inverse curve: light of the scene in 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(sample <= 0.5, sample**2 / 3, (np.exp((sample - c) / a) + b) / 12)


def _power(exponent: float) -> Curve:
    return lambda sample: sample**exponent


# What is made for television (1, 6, 7 and others) is shown as sRGB, as browsers do.
_CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 2, 6, 7, 11, 12, 13, 14, 15), srgb_to_light),
    4: _power(2.2),
    5: _power(2.8),
    8: _power(1.0),
    17: lambda sample: (52.37 / 48 * sample**2.6).clip(0, 1),
}
_SRGB_EXPONENT, _NEAR = 0.45455, 0.005
"""What writers of sRGB put into gAMA."""


def curve(description: Cicp | Gamma) -> Curve | None:
    """None where it is not known, or brighter than white."""
    if isinstance(description, Cicp):
        return _CURVES.get(description.transfer)
    exponent = description.exponent
    if exponent is None or abs(exponent - _SRGB_EXPONENT) < _NEAR:
        return srgb_to_light
    return _power(1 / exponent) if 0.05 <= exponent <= 10 else None


def primaries(description: Cicp | Gamma) -> Chromaticities | None:
    """None where they are not known, or span no triangle."""
    if isinstance(description, Cicp):
        return _PRIMARIES.get(description.primaries)
    found = description.chromaticities
    if found is None:
        return SRGB_PRIMARIES
    return found if all(0 <= value <= 1.2 for value in found) and _is_triangle(found) else None


def is_srgb(description: Cicp | Gamma, *, is_grey: bool) -> bool:
    """Whether there is nothing to do."""
    return curve(description) is srgb_to_light and (is_grey or primaries(description) == SRGB_PRIMARIES)


def _is_triangle(found: Chromaticities) -> bool:
    white, red, green, blue = (np.array(found[index : index + 2]) for index in (0, 2, 4, 6))
    (a, b), (c, d) = green - red, blue - red
    return bool(abs(a * d - b * c) > 0.01 and white[1] > 0.01)


def to_xyz(found: Chromaticities) -> Floats:
    """The matrix from linear light of these primaries to XYZ, (3, 3), white at Y = 1."""
    columns = np.array([[x, y, 1 - x - y] for x, y in _pairs(found)[1:]]).T
    matrix: Floats = columns * np.linalg.solve(columns, white_of(found))
    return matrix


def _pairs(found: Chromaticities) -> list[tuple[float, float]]:
    return [(found[index], found[index + 1]) for index in range(0, 8, 2)]


def white_of(found: Chromaticities) -> Floats:
    """XYZ of its white."""
    x, y = _pairs(found)[0]
    return np.array([x / y, 1.0, (1 - x - y) / y])


_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def adapted(matrix: Floats, white: Floats, to_white: Floats) -> Floats:
    """The same colours as under another white (Bradford's way)."""
    gains = (_BRADFORD @ to_white) / (_BRADFORD @ white)
    found: Floats = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD @ matrix
    return found
