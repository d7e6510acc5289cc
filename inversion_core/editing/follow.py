"""Detail follows an edit: it moves with the face (docs/math.md, equation 10).

Detail is bound to places. Left where it is, it keeps the old mouth and jaw after an edit: double lips, ghost chins. So
it is warped by the optical flow between the pictures of the codes before and after, both without detail.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from inversion_core.errors import OptionInvalid
from inversion_core.flow import GREY, flow_between
from inversion_core.latents import Latent, plain_pictures
from inversion_core.packs import Pack

REMAPPED = 4
"""Channels that OpenCV warps at once."""


@torch.no_grad()
def follow(pack: Pack, latent: Latent, edited_BLD: Tensor, *, before_BCHW: Tensor | None = None) -> Latent:
    """The latent with the codes `edited_BLD`, and detail where the edited face needs it.

    Each image is on its own. An image whose code stays keeps its detail, to the bit.

    Args:
        edited_BLD: codes (B, L, D), as many as the latent has.
        before_BCHW: pictures of the latent's codes without detail, where they are known: saves half of the time.
    Raises:
        ValueError: a shape is wrong.
    """
    edited_BLD = pack.check_codes(edited_BLD)
    if edited_BLD.shape != latent.w_BLD.shape:
        raise ValueError(
            f"the edited codes have shape {tuple(edited_BLD.shape)}; the latent {tuple(latent.w_BLD.shape)}"
        )
    if torch.equal(edited_BLD, latent.w_BLD):
        return latent
    if latent.detail_BCHW is None:
        return Latent(w_BLD=edited_BLD)
    px = latent.detail_BCHW.shape[-1]
    before_BCHW = _pictures(pack, latent.w_BLD, px) if before_BCHW is None else before_BCHW
    flow_B2HW = flows(before_BCHW, _pictures(pack, edited_BLD, px), px)
    same_B = (edited_BLD == latent.w_BLD).flatten(1).all(1)
    moved_BCHW = warp_sharply(latent.detail_BCHW, flow_B2HW)
    detail_BCHW = torch.where(same_B[:, None, None, None], latent.detail_BCHW, moved_BCHW)
    return Latent(w_BLD=edited_BLD, detail_BCHW=detail_BCHW)


def gathered(pack: Pack, sources: Sequence[tuple[Latent, float]], w_BLD: Tensor) -> Latent:
    """The codes `w_BLD` with detail of several latents: of each its share, where the face of `w_BLD` needs it.

    Args:
        sources: latents and their shares; a latent of one image serves all.
    Raises:
        OptionInvalid: their details have different sizes.
    """
    sources = [(latent, share) for latent, share in sources if share and latent.detail_BCHW is not None]
    if len({latent.detail_BCHW.shape[1:] for latent, _ in sources if latent.detail_BCHW is not None}) > 1:
        raise OptionInvalid("the detail of the two faces differs in size; invert both with the same detail_px")
    carried = [(follow(pack, spread(latent, len(w_BLD)), w_BLD).detail_BCHW, share) for latent, share in sources]
    details = [share * detail_BCHW for detail_BCHW, share in carried if detail_BCHW is not None]
    return Latent(w_BLD=w_BLD, detail_BCHW=sum(details[1:], details[0]) if details else None)


def spread(latent: Latent, count: int) -> Latent:
    """A latent of one image for `count` of them."""
    return latent if len(latent) == count else latent.mapped(lambda x: x.expand(count, *x.shape[1:]))


@torch.no_grad()
def without_detail(pack: Pack, latent: Latent) -> Tensor | None:
    """Pictures (B, 3, H, W) of the latent's codes alone, which `follow` takes; None where it has no detail to carry."""
    return None if latent.detail_BCHW is None else _pictures(pack, latent.w_BLD, latent.detail_BCHW.shape[-1])


def _pictures(pack: Pack, w_BLD: Tensor, px: int) -> Tensor:
    """One by one: in a batch they would round in another way, and the flow with them."""
    return torch.cat([plain_pictures(pack.generator, pack.check_codes(w_1LD), px) for w_1LD in w_BLD.split(1)])


def flows(before_BCHW: Tensor, after_BCHW: Tensor, px: int) -> Tensor:
    """For each place of the pictures after, how far away it was before: (B, 2, px, px), x and y, in pixels of `px`."""
    pairs = zip(_grey(before_BCHW), _grey(after_BCHW), strict=True)
    found = [torch.from_numpy(flow_between(before_HW, after_HW, px)).movedim(-1, 0) for before_HW, after_HW in pairs]
    return torch.stack(found).to(before_BCHW)


def warp(x_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """`x_BCHW` fetched from where the flow points, bicubically and differentiably; beyond the rim is the rim."""
    height, width = x_BCHW.shape[-2:]
    y_HW, x_HW = torch.meshgrid(
        torch.arange(height, device=x_BCHW.device), torch.arange(width, device=x_BCHW.device), indexing="ij"
    )
    at_B2HW = torch.stack([x_HW, y_HW]) + flow_B2HW
    size_211 = torch.tensor([width, height], device=x_BCHW.device)[:, None, None]
    grid_BHW2 = ((2 * at_B2HW + 1) / size_211 - 1).movedim(1, -1)
    return F.grid_sample(x_BCHW, grid_BHW2, mode="bicubic", padding_mode="border", align_corners=False)


def warp_sharply(x_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """As `warp`, by Lanczos and without a gradient. Softer sampling softens skin, which makes a face younger."""
    rows = zip(x_BCHW.cpu().numpy(), flow_B2HW.cpu().numpy(), strict=True)
    return torch.stack([torch.from_numpy(_warped(x_CHW, flow_2HW)) for x_CHW, flow_2HW in rows]).to(x_BCHW)


def _warped(x_CHW: NDArray[np.float32], flow_2HW: NDArray[np.float32]) -> NDArray[np.float32]:
    y_HW, x_HW = np.indices(x_CHW.shape[1:], dtype=np.float32)
    at = x_HW + flow_2HW[0], y_HW + flow_2HW[1]
    x_HWC = x_CHW.transpose(1, 2, 0)
    groups = [np.ascontiguousarray(x_HWC[..., c : c + REMAPPED]) for c in range(0, x_HWC.shape[2], REMAPPED)]
    found = [cv2.remap(each, *at, cv2.INTER_LANCZOS4, None, cv2.BORDER_REPLICATE) for each in groups]
    x_HWC = np.concatenate([each if each.ndim == 3 else each[..., None] for each in found], axis=2)
    return np.ascontiguousarray(x_HWC.transpose(2, 0, 1), dtype=np.float32)


def _grey(image_BCHW: Tensor) -> NDArray[np.float32]:
    """In levels from 0 to 255, (B, H, W)."""
    weight_311 = torch.tensor(GREY, device=image_BCHW.device)[:, None, None]
    return np.asarray(((image_BCHW.clamp(-1, 1) + 1) * 127.5 * weight_311).sum(1).cpu().numpy(), dtype=np.float32)
