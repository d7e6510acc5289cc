"""The inversion loss (docs/math.md, equations 1 and 2), computed per image.

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
"""Weight of the in-domain regulariser in IDInvert's public code; the paper does not use one."""
FOCUS_CENTRE = (0.0, 0.15)
"""x and y of the nose in an FFHQ-aligned picture, from -1 to 1: the centre of the focus."""
FOCUS_WIDTH = 0.4
"""Standard deviation of the focus, in the same units; it covers eyes and mouth."""


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The unweighted terms of the loss, each (B,)."""

    pixel_B: Tensor
    """Mean squared difference of the pictures in [-1, 1], weighted if there is a focus."""
    perceptual_B: Tensor
    """Mean squared difference of their features."""
    regulariser_B: Tensor | None
    """Mean squared distance between w and E(G(w)); None if it is off."""
    perceptual_weight: float
    regulariser_weight: float
    masked_BCHW: Tensor | None = field(default=None, repr=False)
    """The picture after masking, for optimizers that see it. A Step keeps neither this nor the features."""
    features_BCHW: Tensor | None = field(default=None, repr=False)

    @property
    def total_B(self) -> Tensor:
        """Equation 1 (equation 2 with the regulariser; docs/math.md)."""
        total_B = self.pixel_B + self.perceptual_weight * self.perceptual_B
        return total_B if self.regulariser_B is None else total_B + self.regulariser_weight * self.regulariser_B


class TermsLoss(Protocol):
    """A loss with separate terms."""

    def terms(self, image_BCHW: Tensor, w_BLD: Tensor | None = None) -> LossTerms:
        """The terms, each (B,), differentiable in both arguments."""
        ...


Loss = TermsLoss | Callable[[Tensor, Tensor], Tensor]
"""An object with `terms`, or a function from pictures (B, C, H, W) and codes (B, L, D) to (B,)."""


def with_terms(loss: Loss) -> TermsLoss:
    """Wrap a plain function, whose value becomes the pixel term; other losses are returned as they are."""
    return FunctionLoss(loss) if not hasattr(loss, "terms") else cast(TermsLoss, loss)


class FunctionLoss:
    """Turns a function of pictures and codes into a loss."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function

    def terms(self, image_BCHW: Tensor, w_BLD: Tensor | None = None) -> LossTerms:
        """Raises ValueError if the function does not return one number per image."""
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
    """Loss against fixed targets; their features are computed once.

    Args:
        target_BCHW: pictures to invert, in [-1, 1].
        features: F, picture to features.
        perceptual_weight: lambda_vgg.
        mask_B1HW: 1 where the pictures must match, 0 where the result is free. Both pictures are multiplied by it
            before either term, as in IDInvert's semantic diffusion.
        weight_B1HW: weights of the pixel term with mean 1, see `focus_map`.
        encode: E, for the in-domain regulariser; not needed if its weight is 0.
        target_features_BCHW: F of the (masked) targets, if already computed.
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
            ValueError: the regulariser is on and `w_BLD` is missing.
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
        """The total loss, (B,)."""
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
    """(B,). Summed per channel first: a single sum would depend, in its last digit, on the number of threads."""
    square_BCHW = x_BCHW.square()
    if weight_B1HW is not None:
        square_BCHW = square_BCHW * weight_B1HW  # of weights 1 the result is the same to the last bit
    return square_BCHW.mean(dim=(2, 3)).mean(dim=1)


def pixel_centres(side_px: int, device: torch.device | None = None) -> Tensor:
    """Positions of the pixels in a row or column, (side_px,), from -1 to 1 over the picture."""
    return (2 * torch.arange(side_px, device=device) + 1) / side_px - 1


def focus_map(focus: float, side_px: int) -> Tensor:
    """Pixel weights (H, W) of mean 1: the centre of the face counts 1 + `focus` times as much as the border.

    Identity is in the eyes, nose and mouth, but most pixels are hair and background (docs/math.md, equation 2).
    """
    at_S = pixel_centres(side_px)
    x_S, y_S = (-0.5 * ((at_S - centre) / FOCUS_WIDTH).square() for centre in FOCUS_CENTRE)
    weight_HW = 1 + focus * (y_S[:, None] + x_S[None, :]).exp()
    return weight_HW / weight_HW.mean()
