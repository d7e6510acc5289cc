"""Semantic diffusion: a face in another picture's context (IDInvert, Zhu 2020, section 4.3).

The face is put into the context, the encoder takes the mix, and the masked loss keeps the face (docs/math.md, equation
2): hair, light and outline become what the generator thinks goes with it. IDInvert forgets the context at that point.
Here it counts too, but for a ring around the face in which the generator is free to join both.

Suffixes: B image, C channel, H W height and width, 1 a dimension of 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from inversion_core.editing.masks import draw
from inversion_core.editing.shapes import Mask
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import Step, invert
from inversion_core.options import InvertConfig
from inversion_core.packs import Pack

FACE = Mask(shape="ellipse", numbers=(0.5, 0.58, 0.24, 0.28))
"""Brows, eyes, nose and mouth of an FFHQ-aligned picture."""
IDINVERT_FACE = Mask(shape="box", numbers=(70 / 256, 90 / 256, 180 / 256, 200 / 256), feather=0.0)
"""The square of IDInvert's public code."""
MOST_RING = 0.5


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """What is taken from where."""

    mask: Mask = FACE
    """Where the result must be the face."""
    context: float = 0.5
    """How much the context counts, from 0, as IDInvert has it, to 1, as much as the face."""
    ring: float = 0.13
    """Width of the free ring around the mask, as a share of the picture's side."""

    def __post_init__(self) -> None:
        if not 0 <= self.context <= 1:
            raise OptionInvalid(f"context is {self.context}; give a number from 0 to 1")
        if not 0 <= self.ring <= MOST_RING:
            raise OptionInvalid(f"ring is {self.ring}; give a number from 0 to {MOST_RING}")


def diffuse(pack: Pack, face_BCHW: Tensor, context_BCHW: Tensor, config: InvertConfig | None = None,
            diffusion: Diffusion | None = None) -> Iterator[Step]:  # fmt: skip
    """Yield the start and then one Step per update, as `invert` does, of the face in its new context.

    Args:
        face_BCHW: aligned pictures (B, 3, H, W) in [-1, 1]; what the mask covers is kept.
        context_BCHW: aligned pictures, as many, or one for all.
    Raises:
        OptionInvalid: the mask covers nothing, or the pack does not support `config`.
        ValueError: a picture has the wrong shape.
    """
    mix_BCHW, weight_HW = mixed(pack, face_BCHW, context_BCHW, diffusion or Diffusion())
    return invert(pack, mix_BCHW, config, mask_B1HW=weight_HW[None, None])


def mixed(pack: Pack, face_BCHW: Tensor, context_BCHW: Tensor, diffusion: Diffusion) -> tuple[Tensor, Tensor]:
    """The faces in their contexts (B, 3, H, W), which are inverted, and how much each pixel counts (H, W), 0 to 1.

    Raises: as `diffuse`.
    """
    face_BCHW, context_BCHW = pack.check_targets(face_BCHW), pack.check_targets(context_BCHW)
    if len(context_BCHW) not in (1, len(face_BCHW)):
        raise ValueError(f"there are {len(face_BCHW)} faces and {len(context_BCHW)} contexts; give as many, or one")
    mask_HW = draw(diffusion.mask, pack.resolution).to(pack.device)
    if not mask_HW.any():
        raise OptionInvalid("the mask covers no pixel of the picture; make it larger, or move it")
    mix_BCHW = context_BCHW + mask_HW * (face_BCHW - context_BCHW)
    weight_HW = mask_HW + diffusion.context * _beyond(mask_HW, diffusion.ring)
    return mix_BCHW, weight_HW


def _beyond(mask_HW: Tensor, ring: float) -> Tensor:
    """1 further than the ring from the mask, 0 in it, with an edge half as wide as the ring."""
    reach = max(1, round(ring * mask_HW.shape[0]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    grown_HW = cv2.dilate(mask_HW.cpu().numpy(), kernel)
    soft = 2 * (reach // 4) + 1
    return 1 - torch.from_numpy(np.asarray(cv2.blur(grown_HW, (soft, soft)))).to(mask_HW).maximum(mask_HW)
