"""Pictures that are brighter than white (PQ and HLG, ITU-R BT.2100) as sRGB.

White is 203 nits (BT.2408), and what is not brighter comes out as it is. Where highlights are, they are rolled off
so that the picture's own brightest part is white (BT.2390, section 5.4.1), each channel by itself: bright colours pale
towards white, as on film.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from inversion_pictures.signals import (
    HLG,
    PQ,
    SRGB_PRIMARIES,
    Cicp,
    Floats,
    adapted,
    hlg_to_light,
    light_to_srgb,
    pq_to_nits,
    primaries,
    to_xyz,
    white_of,
)

WHITE_NITS = 203.0
"""BT.2408: what paper white is shown as."""
HLG_PEAK_NITS, _HLG_SYSTEM_GAMMA = 1000.0, 1.2
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
_BRIGHTEST = 0.999
"""The share of pixels that are no brighter than what counts as the brightest."""
_NODES = 65
"""Along each side of the table of colours; the most that Pillow takes."""


def is_hdr(description: Cicp) -> bool:
    return description.transfer in (PQ, HLG)


def tone_mapped(image: Image.Image, description: Cicp) -> Image.Image | None:
    """The RGB picture as sRGB; None where the primaries are not known."""
    found = primaries(description)
    if found is None:
        return None
    peak = max(1.0, float(_light(np.full((1, 3), _brightest(image)), description).max()))
    samples = np.linspace(0, 1, _NODES)
    blue, green, red = np.meshgrid(samples, samples, samples, indexing="ij")
    light = _light(np.stack([red, green, blue], axis=-1).reshape(-1, 3), description)
    to_srgb = np.linalg.inv(to_xyz(SRGB_PRIMARIES)) @ adapted(to_xyz(found), white_of(found), white_of(SRGB_PRIMARIES))
    light = _rolled_off(light, peak) @ to_srgb.T
    table = light_to_srgb(light).astype(np.float32)
    return image.filter(ImageFilter.Color3DLUT(_NODES, table.ravel().tolist()))


def _light(samples: Floats, description: Cicp) -> Floats:
    """(N, 3) samples as linear light, white at 1."""
    if description.transfer == PQ:
        return pq_to_nits(samples) / WHITE_NITS
    scene = hlg_to_light(samples)
    luma = (scene @ _LUMA_2020)[:, None]
    shown: Floats = HLG_PEAK_NITS / WHITE_NITS * np.maximum(luma, 1e-9) ** (_HLG_SYSTEM_GAMMA - 1) * scene
    return shown


def _brightest(image: Image.Image) -> float:
    """The sample, in 0..1, that hardly a pixel's largest channel exceeds."""
    red, green, blue = image.split()
    counts = np.cumsum(ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram())
    return float(np.searchsorted(counts, _BRIGHTEST * counts[-1])) / 255


def _rolled_off(light: Floats, peak: float) -> Floats:
    """Light of `peak` comes out as 1, smoothly from a knee on; all below is left alone."""
    if peak <= 1:
        return light
    scale = _to_pq(np.array(peak))
    most = float(_to_pq(np.array(1.0)) / scale)
    knee = max(1.5 * most - 0.5, 0.0)
    at = (_to_pq(light) / scale).clip(0, 1)
    t = ((at - knee) / (1 - knee)).clip(0, 1)
    curved = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_to_nits(np.where(at < knee, at, curved) * scale) / WHITE_NITS


def _to_pq(light: Floats) -> Floats:
    power = (light.clip(0) * WHITE_NITS / 10_000) ** 0.1593017578125
    found: Floats = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    return found
