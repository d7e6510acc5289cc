"""The second stage of an inversion: detail (docs/math.md, equation 10).

w stays as it is, so the features below the detail's layer are computed once, and a step runs only the layers above it.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inversion_core.errors import OptionInvalid
from inversion_core.latents import Latent, detail_shape
from inversion_core.optimizers import AnyOptimizer

if TYPE_CHECKING:
    from inversion_core.course import Course
    from inversion_core.packs import Pack

Render = Callable[[Latent], Tensor]
"""Latents to pictures, differentiable."""


@dataclass(frozen=True, kw_only=True)
class DetailStage:
    """What `iterate` does after the updates of w."""

    num_steps: int
    """Updates of detail."""
    optimizer: AnyOptimizer
    enter: Callable[[Latent], tuple[Latent, Render]]
    """Gives a latent its first detail, if it has none, and what renders it from now on."""


def begin_detail(
    pack: Pack, target_BCHW: Tensor, w_BLD: Tensor, base_BCHW: Tensor, mask_B1HW: Tensor | None = None
) -> Tensor:
    """The detail (B, C, H, W) to start from: what the pack's network says; of a pack without one, none.

    Args:
        target_BCHW: what is inverted.
        w_BLD: its codes so far.
        base_BCHW: `Pack.base_features` of the codes, at the detail's layer.
        mask_B1HW: 0 where the target does not count: there it is taken to be what the codes draw.
    """
    px = base_BCHW.shape[-1]
    nothing_BCHW = base_BCHW.new_zeros(len(base_BCHW), *detail_shape(pack.manifest.generator, px))
    if pack.detail_predictor is None or px != pack.detail.px:
        return nothing_BCHW
    image_BCHW = pack.synthesize(Latent(w_BLD=w_BLD, detail_BCHW=nothing_BCHW), base_BCHW)
    if mask_B1HW is not None:
        target_BCHW = torch.lerp(image_BCHW, target_BCHW, mask_B1HW)
    detail_BCHW: Tensor = pack.detail_predictor(target_BCHW, image_BCHW, base_BCHW)
    return detail_BCHW


def check_goes_on(latent: Latent, px: int | None) -> None:
    """Raises OptionInvalid where a checkpoint's latent has detail, and detail is off or of another size."""
    if latent.detail_BCHW is None:
        return
    if px is None:
        raise OptionInvalid("the checkpoint has detail, and detail_steps is 0; leave detail_steps out, or begin anew")
    own_px = latent.detail_BCHW.shape[-1]
    if own_px != px:
        raise OptionInvalid(f"the checkpoint has detail at {own_px} px, and detail_px is {px}; leave detail_px out")


def detail_stage(
    pack: Pack, target_BCHW: Tensor, course: Course, start_BCHW: Tensor | None = None,
    mask_B1HW: Tensor | None = None,
) -> DetailStage | None:  # fmt: skip
    """The second stage of `course`; None where it has none. `start_BCHW` is detail to start from."""
    px = course.detail_px
    if px is None:
        return None

    def enter(latent: Latent) -> tuple[Latent, Render]:
        check_goes_on(latent, px)
        with torch.no_grad():
            base_BCHW = pack.base_features(latent.w_BLD, px)
            detail_BCHW = start_BCHW if latent.detail_BCHW is None else latent.detail_BCHW
            if detail_BCHW is None:
                detail_BCHW = begin_detail(pack, target_BCHW, latent.w_BLD, base_BCHW, mask_B1HW)
        latent = Latent(w_BLD=latent.w_BLD, detail_BCHW=detail_BCHW)
        return latent, lambda latent: pack.synthesize(latent, base_BCHW)

    return DetailStage(num_steps=course.detail_steps, optimizer=pack.detail.adam(), enter=enter)
