"""What the discriminator sees of a picture: changes by chance, against overfitting on small sets (Karras 2020 ADA).

Of ADA's changes those stay that it found useful (its section 4: pixel blitting, geometry, colour) and that leave
a face a face. Left out: rotation by 90 degrees, upside-down faces and the luma flip, since an aligned set has
nothing of the kind and a small discriminator would spend its width on negatives and heads that stand on their
crown; image filters, noise and cutout, since they helped little or did harm there.

All geometry is one affine map a picture and one `grid_sample`, all colour one 3x4 matrix; each change is chosen
for each picture on its own, on the device, and the host waits for nothing.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRANSLATION = 0.125
"""Largest shift by whole pixels, as a share of the side."""
SCALE_DEVIATION = 0.2
"""Of the binary logarithm of isotropic and anisotropic scale."""
LARGEST_ANGLE = math.pi / 6
"""ADA turns by any angle; beyond 30 degrees no aligned face is found."""
BRIGHTNESS_DEVIATION = 0.2
CONTRAST_DEVIATION = 0.5
SATURATION_DEVIATION = 1.0
"""Both of the binary logarithm of the factor."""
ADAPT_EVERY = 4
"""Steps between two changes of an adapting probability."""


class Augmentation(nn.Module):
    """The changes with their probability, which adapts to how surely D knows real pictures.

    The state is three buffers: it goes into the checkpoint as any network's.
    """

    probability: Tensor
    sign_sum: Tensor
    sign_count: Tensor

    def __init__(self, probability: float, *, target: float | None = None, images: int = 500_000):
        """`target` is that of r_t, None for a fixed probability; `images` in which it can go from 0 to 1."""
        super().__init__()
        self.target, self.images = target, images
        self.is_off = target is None and probability == 0
        for name, value in (("probability", probability), ("sign_sum", 0.0), ("sign_count", 0.0)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return image_BCHW if self.is_off else augment(image_BCHW, self.probability)

    def moves_at(self, step: int) -> bool:
        """Whether `adapt` changes the probability after this step."""
        return self.target is not None and (step + 1) % ADAPT_EVERY == 0

    @torch.no_grad()
    def adapt(self, real_logit_B: Tensor, step: int) -> Tensor:
        """Take in the logits of one step's real pictures and, every few steps, move; returns r_t of this step.

        r_t = E[sign D(real)] (Karras 2020 ADA eq. 1): 0 where D does not know them at all, 1 where it does surely.
        """
        sign_B = real_logit_B.sign()
        if self.target is not None:
            self.sign_sum += sign_B.sum()
            self.sign_count += len(sign_B)
            if self.moves_at(step):
                direction = (self.sign_sum / self.sign_count - self.target).sign()
                self.probability.add_(direction * self.sign_count / self.images).clamp_(0, 1)
                self.sign_sum.zero_()
                self.sign_count.zero_()
        return sign_B.mean()


def augment(image_BCHW: Tensor, probability: Tensor | float) -> Tensor:
    """Change place, shape and colour, each with `probability` and for each picture on its own; differentiable."""
    batch, side, device = len(image_BCHW), image_BCHW.shape[-1], image_BCHW.device
    moved_BCHW = move(image_BCHW, _geometry(batch, side, probability, device))
    matrix_B33, offset_B = _colour(batch, probability, device)
    return colour(moved_BCHW, matrix_B33, offset_B[:, None, None])


def move(image_BCHW: Tensor, map_B23: Tensor, field_B2HW: Tensor | None = None) -> Tensor:
    """Each pixel from where its picture's map says, and a field moves that point, in coordinates from -1 to 1; the
    edge is a mirror."""
    grid_BHW2 = F.affine_grid(map_B23, list(image_BCHW.shape), align_corners=False)
    if field_B2HW is not None:
        grid_BHW2 = grid_BHW2 + field_B2HW.permute(0, 2, 3, 1)
    return F.grid_sample(image_BCHW, grid_BHW2, padding_mode="reflection", align_corners=False)


def colour(image_BCHW: Tensor, matrix_B33: Tensor, offset_BC1: Tensor) -> Tensor:
    """Each pixel's RGB times its picture's matrix, plus an offset (one channel stands for all)."""
    return (torch.bmm(matrix_B33, image_BCHW.flatten(2)) + offset_BC1).view_as(image_BCHW)


def _geometry(batch: int, side: int, probability: Tensor | float, device: torch.device) -> Tensor:
    """Where each pixel comes from: maps (B, 2, 3) in coordinates from -1 to 1."""
    zero_B = torch.zeros(batch, device=device)
    one_B = torch.ones(batch, device=device)

    def chosen(drawn_B: Tensor, else_B: Tensor, p: Tensor | float = probability) -> Tensor:
        return torch.where(torch.rand(batch, device=device) < p, drawn_B, else_B)

    def normal() -> Tensor:
        return torch.randn(batch, device=device)

    def uniform() -> Tensor:
        return torch.rand(batch, device=device) * 2 - 1

    flip_B = chosen(uniform().sign(), one_B)
    shift_B = [chosen((uniform() * TRANSLATION * side).round() * 2 / side, zero_B) for _ in range(2)]
    scale_B = chosen(torch.exp2(normal() * SCALE_DEVIATION), one_B)
    stretch_B = chosen(torch.exp2(normal() * SCALE_DEVIATION), one_B)
    p_turn = 1 - (1 - torch.as_tensor(probability)) ** 0.5  # two turns: one of them at least with the probability
    before, after = (turn(chosen(uniform() * LARGEST_ANGLE, zero_B, p_turn)) for _ in range(2))
    stretch_B22 = torch.diag_embed(torch.stack([scale_B * stretch_B * flip_B, scale_B / stretch_B], dim=1))
    return torch.cat([after @ stretch_B22 @ before, torch.stack(shift_B, dim=1)[..., None]], dim=2)


def turn(angle_B: Tensor) -> Tensor:
    """Rotations (B, 2, 2) by angles in radians."""
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    return torch.stack([cos_B, -sin_B, sin_B, cos_B], dim=1).view(-1, 2, 2)


def _colour(batch: int, probability: Tensor | float, device: torch.device) -> tuple[Tensor, Tensor]:
    """A matrix (B, 3, 3) and an offset (B,) for RGB: contrast (x + brightness), then hue and saturation."""

    def chosen(drawn_B: Tensor, neutral: float) -> Tensor:
        is_chosen_B = torch.rand(batch, device=device) < probability
        return torch.where(is_chosen_B, drawn_B, torch.full_like(drawn_B, neutral))

    brightness_B = chosen(torch.randn(batch, device=device) * BRIGHTNESS_DEVIATION, 0.0)
    contrast_B = chosen(torch.exp2(torch.randn(batch, device=device) * CONTRAST_DEVIATION), 1.0)
    hue_B = chosen((torch.rand(batch, device=device) * 2 - 1) * math.pi, 0.0)
    saturation_B = chosen(torch.exp2(torch.randn(batch, device=device) * SATURATION_DEVIATION), 1.0)
    # Hue turns RGB around the grey axis (1, 1, 1), saturation scales across it (Rodrigues' formula).
    index = torch.arange(3, device=device)
    identity_33 = (index[:, None] == index).float()
    grey_33 = torch.full((3, 3), 1 / 3, device=device)
    cross_33 = (identity_33.roll(1, 0) - identity_33.roll(-1, 0)) / math.sqrt(3)
    turned_B33 = hue_B.cos().view(-1, 1, 1) * (identity_33 - grey_33) + hue_B.sin().view(-1, 1, 1) * cross_33
    matrix_B33 = contrast_B.view(-1, 1, 1) * (grey_33 + saturation_B.view(-1, 1, 1) * turned_B33)
    return matrix_B33, contrast_B * brightness_B
