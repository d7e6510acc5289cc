"""Local edits: features of several latents in one picture (Image2StyleGAN++, Abdal 2020, section 5).

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from inversion_core.editing.masks import draw
from inversion_core.editing.shapes import Mask
from inversion_core.latents import Latent, base_features, detail_layer
from inversion_core.packs import Pack


def blended(pack: Pack, around: Latent, within: Sequence[tuple[Mask, Latent]]) -> Latent:
    """`around`, with the features of the other latents within their masks; where masks overlap, changes add up.

    Outside of every mask the picture is that of `around`. Without masks it is `around` itself.
    """
    if not within:
        return around
    around_BCHW = last_features(pack, around)
    blend_BCHW = around_BCHW
    for mask, latent in within:
        mask_HW = draw(mask, pack.resolution).to(around_BCHW)
        blend_BCHW = blend_BCHW + mask_HW * (last_features(pack, latent) - around_BCHW)
    plain_BCHW = last_features(pack, Latent(w_BLD=around.w_BLD))
    return Latent(w_BLD=around.w_BLD, detail_BCHW=blend_BCHW - plain_BCHW)


def last_features(pack: Pack, latent: Latent) -> Tensor:
    """What the picture is made of, pixel by pixel: the output (B, C, H, W) of the last style layer."""
    synthesis = pack.generator.synthesis
    if latent.detail_BCHW is None:
        return synthesis.features(latent.w_BLD)
    px = latent.detail_BCHW.shape[-1]
    x_BCHW = base_features(pack.generator, latent.w_BLD, px) + latent.detail_BCHW
    return synthesis.features(latent.w_BLD, x_BCHW=x_BCHW, start=detail_layer(px) + 1)
