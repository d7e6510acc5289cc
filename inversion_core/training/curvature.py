"""The mean Gauss-Newton matrix of equation 1 within each layer of W+, from random pictures sent back through G and F.

For v with independent elements of variance 1, s = J^T v has E[s s^T] = J^T J: one pass backwards gives a sample of the
matrix at a code, without the Jacobian J (docs/math.md, equation 3g).

Suffixes: B image, L style layer, D E latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from inversion_core.packs import Pack
from inversion_core.progress import progress

PASSES = 2
"""Backward passes for each forward pass; codes near each other have much the same matrix."""


def layer_curvature(pack: Pack, codes: Iterator[Tensor], *, samples: int, seed: int = 0) -> Tensor:
    """Mean over codes of J^T J within each layer, (L, D, D), of the loss's pictures and features together.

    Args:
        codes: batches (B, L, D).
        samples: rank-one samples, at least; a few for each dimension of w are enough.
    """
    generator = torch.Generator(device=pack.device).manual_seed(seed)
    total_LDE = torch.zeros(pack.num_layers, pack.w_dim, pack.w_dim, device=pack.device)
    count = 0
    with progress(total=samples, unit="sample", desc="curvature") as bar:
        while count < samples:
            for s_BLD in _samples(pack, next(codes), generator):
                total_LDE += torch.einsum("bld,ble->lde", s_BLD, s_BLD)
                count += len(s_BLD)
            bar.update(PASSES * len(s_BLD))
    return total_LDE / count


def _samples(pack: Pack, w_BLD: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """J^T v at each code, (B, L, D), for PASSES draws of v."""
    with torch.enable_grad():
        w_BLD = w_BLD.detach().requires_grad_()
        image_BCHW = pack.synthesize(w_BLD)
        features_BCHW = pack.features(image_BCHW)
        for done in range(PASSES):
            v_image = _noise(image_BCHW, 1.0, generator)
            v_features = _noise(features_BCHW, pack.perceptual_weight, generator)
            (s_BLD,) = torch.autograd.grad(
                [image_BCHW, features_BCHW], w_BLD, [v_image, v_features], retain_graph=done + 1 < PASSES
            )
            yield s_BLD


def _noise(like_BCHW: Tensor, weight: float, generator: torch.Generator) -> Tensor:
    """Of the variance that a mean square with `weight` gives each element."""
    scale: float = (weight / like_BCHW[0].numel()) ** 0.5
    return scale * torch.randn(like_BCHW.shape, generator=generator, device=like_BCHW.device)
