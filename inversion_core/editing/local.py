"""Local edits: features of several latents in one picture (Image2StyleGAN++, Abdal 2020, section 5).

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

from inversion_core.editing.masks import draw
from inversion_core.editing.shapes import Mask
from inversion_core.latents import Latent, last_features
from inversion_core.packs import Pack


def blended(pack: Pack, around: Latent, within: Sequence[tuple[Mask, Latent]]) -> Latent:
    """`around`, with the features of the other latents within their masks; where masks overlap, changes add up.

    Outside of every mask the picture is that of `around`. Without masks it is `around` itself.
    """
    if not within:
        return around
    around_BCHW = last_features(pack.generator, around)
    blend_BCHW = around_BCHW
    for mask, latent in within:
        mask_HW = draw(mask, pack.resolution).to(around_BCHW)
        blend_BCHW = blend_BCHW + mask_HW * (last_features(pack.generator, latent) - around_BCHW)
    plain_BCHW = last_features(pack.generator, Latent(w_BLD=around.w_BLD))
    return Latent(w_BLD=around.w_BLD, detail_BCHW=blend_BCHW - plain_BCHW)
