"""The inversion loss of equation 1, each image on its own, and its three optional parts.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor

from inversion_core.models import PerceptualNetwork

PERCEPTUAL_WEIGHT = 5e-5
"""lambda_vgg of equation 1, for VGG-16's relu4_3."""
REGULARISER_WEIGHT = 2.0
"""What IDInvert's public code gives its in-domain regulariser; the paper leaves that out."""
FOCUS_CENTRE = (0.0, 0.15)
"""x and y of what makes a person, from -1 to 1 over a picture that is aligned as FFHQ is: the nose."""
FOCUS_WIDTH = 0.4
"""Standard deviation of the bell around it, in the same units: eyes and mouth lie within one."""


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The parts of the loss, unweighted, each (B,)."""

    pixel_B: Tensor
    """Mean square difference of the pictures, in [-1, 1]; with a focus the weighted mean."""
    perceptual_B: Tensor
    """Mean square difference of their features."""
    regulariser_B: Tensor | None
    """Mean square distance of w from E(G(w)), None where it is not asked for."""
    perceptual_weight: float
    regulariser_weight: float
    masked_BCHW: Tensor | None = field(default=None, repr=False)
    """The picture as it was compared, for whoever looks; a Step keeps neither this nor its features."""
    features_BCHW: Tensor | None = field(default=None, repr=False)

    @property
    def total_B(self) -> Tensor:
        """Equation 1 (equation 2 with the regulariser; docs/math.md)."""
        total_B = self.pixel_B + self.perceptual_weight * self.perceptual_B
        return total_B if self.regulariser_B is None else total_B + self.regulariser_weight * self.regulariser_B


class TermsLoss(Protocol):
    """A loss that tells its parts."""

    def terms(self, image_BCHW: Tensor, w_BLD: Tensor | None = None) -> LossTerms:
        """The parts, each (B,), differentiable in both arguments."""
        ...


Loss = TermsLoss | Callable[[Tensor, Tensor], Tensor]
"""What the loop takes: an object with `terms`, or a function of pictures (B, C, H, W) and codes (B, L, D) to (B,)."""


def with_terms(loss: Loss) -> TermsLoss:
    """A loss that tells its parts; all of a plain function's is its pixel term."""
    return FunctionLoss(loss) if not hasattr(loss, "terms") else cast(TermsLoss, loss)


class FunctionLoss:
    """A function of pictures and codes as the loop's loss."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function

    def terms(self, image_BCHW: Tensor, w_BLD: Tensor | None = None) -> LossTerms:
        """Raises ValueError where the function's result is not one number for each image."""
        assert w_BLD is not None
        total_B = self._function(image_BCHW, w_BLD)
        if total_B.shape != (len(image_BCHW),):
            raise ValueError(
                f"the loss has shape {tuple(total_B.shape)}; return one number for each of {len(image_BCHW)} images, "
                f"such as (image - target).square().mean(dim=(1, 2, 3))"
            )
        return LossTerms(
            pixel_B=total_B, perceptual_B=torch.zeros_like(total_B), regulariser_B=None, perceptual_weight=0.0,
            regulariser_weight=0.0,
        )  # fmt: skip


class InversionLoss:
    """Loss against fixed targets, whose features are computed once, here.

    Args:
        target_BCHW: pictures to be inverted, in [-1, 1].
        features: F, picture to features.
        perceptual_weight: lambda_vgg.
        mask_B1HW: 1 where the pictures must agree, 0 where anything goes; multiplies both pictures before
            either term, as IDInvert's semantic diffusion does.
        weight_B1HW: how much each pixel counts in the pixel term, see `focus_map`; 1 on the mean.
        encode: E, for the in-domain regulariser; not needed where its weight is 0.
        target_features_BCHW: F of the (masked) targets, where they are known already.
    """

    def __init__(
        self,
        target_BCHW: Tensor,
        *,
        features: PerceptualNetwork,
        perceptual_weight: float = PERCEPTUAL_WEIGHT,
        mask_B1HW: Tensor | None = None,
        weight_B1HW: Tensor | None = None,
        encode: Callable[[Tensor], Tensor] | None = None,
        regulariser_weight: float = 0.0,
        target_features_BCHW: Tensor | None = None,
    ):
        self._features = features
        self._perceptual_weight = perceptual_weight
        self._mask_B1HW = mask_B1HW
        self._weight_B1HW = weight_B1HW
        self._encode = encode if regulariser_weight else None
        self._regulariser_weight = regulariser_weight
        self.target_BCHW = self._masked(target_BCHW)
        if target_features_BCHW is None:
            target_features_BCHW = features(self.target_BCHW).detach()
        self.target_features_BCHW = target_features_BCHW

    def terms(self, image_BCHW: Tensor, w_BLD: Tensor | None = None) -> LossTerms:
        """Compare pictures with the targets; `w_BLD` are their codes, for the regulariser.

        Raises:
            ValueError: the regulariser is on and there are no codes.
        """
        masked_BCHW = self._masked(image_BCHW)
        features_BCHW = self._features(masked_BCHW)
        return LossTerms(
            pixel_B=mean_square(masked_BCHW - self.target_BCHW, self._weight_B1HW),
            perceptual_B=mean_square(features_BCHW - self.target_features_BCHW),
            regulariser_B=self._regulariser(image_BCHW, w_BLD),
            perceptual_weight=self._perceptual_weight,
            regulariser_weight=self._regulariser_weight,
            masked_BCHW=masked_BCHW,
            features_BCHW=features_BCHW,
        )

    def __call__(self, image_BCHW: Tensor, w_BLD: Tensor | None = None) -> Tensor:
        """The whole loss, (B,)."""
        return self.terms(image_BCHW, w_BLD).total_B

    def _masked(self, image_BCHW: Tensor) -> Tensor:
        """A tensor of its own even without a mask: a gradient is added up in the same order then, to the last bit."""
        return image_BCHW.view_as(image_BCHW) if self._mask_B1HW is None else image_BCHW * self._mask_B1HW

    def _regulariser(self, image_BCHW: Tensor, w_BLD: Tensor | None) -> Tensor | None:
        if self._encode is None:
            return None
        if w_BLD is None:
            raise ValueError("the in-domain regulariser compares codes: pass w_BLD too")
        return (w_BLD - self._encode(image_BCHW)).square().mean(dim=(1, 2))


def mean_square(x_BCHW: Tensor, weight_B1HW: Tensor | None = None) -> Tensor:
    """(B,). Channel by channel: one sum of all would depend, in its last digit, on how many threads share it."""
    square_BCHW = x_BCHW.square()
    if weight_B1HW is not None:
        square_BCHW = square_BCHW * weight_B1HW  # of weights 1 the result is the same to the last bit
    return square_BCHW.mean(dim=(2, 3)).mean(dim=1)


def pixel_centres(side_px: int, device: torch.device | None = None) -> Tensor:
    """Where the pixels of a row or column lie, (side_px,), from -1 to 1 over the picture."""
    return (2 * torch.arange(side_px, device=device) + 1) / side_px - 1


def focus_map(focus: float, side_px: int) -> Tensor:
    """Weights (H, W) of pixels, 1 on the mean: the face's middle counts 1 + `focus` times as much as the rim.

    A face recogniser looks at eyes, nose and mouth; to a mean over all pixels hair and background, of which there is
    more, are as dear (docs/math.md, equation 2).
    """
    at_S = pixel_centres(side_px)
    x_S, y_S = (-0.5 * ((at_S - centre) / FOCUS_WIDTH).square() for centre in FOCUS_CENTRE)
    weight_HW = 1 + focus * (y_S[:, None] + x_S[None, :]).exp()
    return weight_HW / weight_HW.mean()
