"""A discriminator on frozen features (Sauer 2021, "Projected GANs Converge Faster"): for few pictures, on a CPU too.

Pictures are seen through SqueezeNet, which knows edges and textures of photographs already, at four scales; random
weights that never change mix its channels, then its scales, and a small network at each scale tells real from fake.
Only those small ones learn, and they need not learn first what an edge is
(docs/experiments/2026-11-29-projected-critic.md).

Suffixes: B image, C channel, H W height and width, S scale.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from inversion_core.models.lpips import FIRE_PLAN, LPIPSSqueeze
from inversion_core.training.adversary import BaseAdversary
from inversion_core.training.data import PictureSet
from inversion_core.training.options import TrainingOptions

PROJECTION = "projection"
"""Name of the frozen part in a checkpoint."""
CALIBRATED = 64
"""Training pictures on which the maps are brought to one size."""
SEEN_PX = 128
"""Side to which smaller pictures are enlarged: SqueezeNet halves them at once."""
TAPS = (0, 1, 2, 6)
"""Which of LPIPS's seven feature maps are looked at: the last of each size."""
TAP_WIDTHS = (64, 2 * FIRE_PLAN[4][2], 2 * FIRE_PLAN[7][2], 2 * FIRE_PLAN[12][2])
WIDTHS = (16, 32, 64, 128)
"""Channels that the mixing leaves of each map: fewer where it is large, so that all scales cost about the same."""


class Projection(nn.Module):
    """Frozen: pictures (B, 3, H, W) in [-1, 1] to mixed features at four scales, the finest first.

    Random 1x1 convolutions mix channels, random 3x3 ones bring coarser scales to finer ones (Sauer 2021 section 3.2),
    so that no part of the features can be left to one discriminator alone.
    """

    size_S: Tensor

    def __init__(self, lpips: LPIPSSqueeze, *, seed: int):
        super().__init__()
        self.features = copy.deepcopy(lpips).requires_grad_(False)
        draw = torch.Generator().manual_seed(seed)

        def kernel(out_channels: int, in_channels: int, side: int) -> nn.Parameter:
            weight = torch.randn(out_channels, in_channels, side, side, generator=draw)
            return nn.Parameter(weight / math.sqrt(in_channels * side * side), requires_grad=False)

        pairs = zip(WIDTHS, TAP_WIDTHS, strict=True)
        self.across_channels = nn.ParameterList(kernel(width, tap_width, 1) for width, tap_width in pairs)
        self.across_scales = nn.ParameterList(kernel(fine, coarse, 3) for fine, coarse in itertools.pairwise(WIDTHS))
        self.register_buffer("size_S", torch.ones(len(TAPS)))

    @torch.no_grad()
    def calibrate(self, image_BCHW: Tensor) -> None:
        """Bring each map to a root mean square of 1 on these pictures: SqueezeNet's grow from scale to scale."""
        sizes = [map_BCHW.float().square().mean().sqrt() for map_BCHW in self._taps(image_BCHW)]
        self.size_S.copy_(torch.stack(sizes))

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        scaled = [x / size for x, size in zip(self._taps(image_BCHW), self.size_S, strict=True)]
        mixed = [F.conv2d(x, weight) for x, weight in zip(scaled, self.across_channels, strict=True)]
        features = [mixed.pop()]
        for own, weight in zip(reversed(mixed), reversed(self.across_scales), strict=True):
            coarser = F.interpolate(features[0], size=own.shape[-2:], mode="bilinear", align_corners=False)
            features.insert(0, (own + F.conv2d(coarser, weight, padding=1)) / math.sqrt(2))
        return features

    def _taps(self, image_BCHW: Tensor) -> list[Tensor]:
        if image_BCHW.shape[-1] < SEEN_PX:
            image_BCHW = F.interpolate(image_BCHW, size=SEEN_PX, mode="bilinear", align_corners=False)
        maps = [*self.features.maps(image_BCHW)]
        return [maps[index] for index in TAPS]


class ScaleHeads(nn.Module):
    """What learns: at each scale some halving convolutions, spectrally normalised, to a small map of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head((*WIDTHS[scale:], WIDTHS[-1])) for scale in range(len(WIDTHS)))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """A logit map (B, H W) for each scale, higher for real."""
        return [head(x).float().flatten(1) for head, x in zip(self.heads, features, strict=True)]


def _head(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for in_channels, out_channels in itertools.pairwise(widths):
        layers += [spectral_norm(nn.Conv2d(in_channels, out_channels, 4, 2, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))


class ProjectedAdversary(BaseAdversary):
    """Heads, projection, augmentation and the heads' optimizer; in a trainer it stands where an `Adversary` would.

    Hinge loss, the mean over places and scales; no R1, spectral norms take its place.
    """

    def __init__(self, options: TrainingOptions, *, lpips: LPIPSSqueeze, rate: float,
                 autocast: Callable[[], AbstractContextManager[object]], device: str | torch.device):  # fmt: skip
        self.d = ScaleHeads().to(device)
        super().__init__(self.d, options, rate=rate, autocast=autocast, device=device)
        self.projection = Projection(lpips, seed=options.seed).to(device)
        self._fake_features: list[Tensor] = []

    def calibrate(self, pictures: PictureSet) -> None:
        """Bring the projection's maps to one size; at the start of a run."""
        self.projection.calibrate(pictures.take(torch.arange(min(CALIBRATED, len(pictures)))))

    def modules(self) -> dict[str, nn.Module]:
        """What goes into a checkpoint; the projection with it, since a run has to keep the one that it began with."""
        return {**super().modules(), PROJECTION: self.projection}

    def kind_of(self, step: int) -> Hashable:
        """Equal for steps that do the same, the rate aside."""
        return self.augmentation.moves_at(step)

    def fooled(self, *fakes_BCHW: Tensor) -> Tensor:
        """The generator's loss; the heads get no gradient. `train_step` goes on from the features computed here."""
        features = self._see(torch.cat(fakes_BCHW))
        self._fake_features = [x.detach() for x in features]
        self.d.requires_grad_(False)
        logits = self._logits(features)
        self.d.requires_grad_(True)
        return -_mean(logits)

    def train_step(self, real_BCHW: Tensor, *fakes_BCHW: Tensor, step: int) -> dict[str, Tensor]:
        """One step of the heads, at the rate that was set, on these pictures and the fakes of the last `fooled`, which
        `fakes_BCHW` are; the losses by name."""
        with torch.no_grad():
            real_features = self._see(real_BCHW)
        fakes, self._fake_features = self._fake_features, []
        count = len(real_BCHW)
        logits = self._logits([torch.cat(pair) for pair in zip(real_features, fakes, strict=True)])
        real, fake = [x[:count] for x in logits], [x[count:] for x in logits]
        loss = _mean([F.relu(1 - x) for x in real]) + _mean([F.relu(1 + x) for x in fake])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        real_B = torch.stack([x.detach().mean(dim=1) for x in real]).mean(dim=0)
        return {
            "d": loss,
            "d_real": real_B.mean(),
            "d_fake": _mean(fake),
            "d_sign": self.augmentation.adapt(real_B, step),
            "augment_p": self.augmentation.probability.clone(),
        }

    def _see(self, image_BCHW: Tensor) -> list[Tensor]:
        with self.autocast():
            features: list[Tensor] = self.projection(self.augmentation(image_BCHW))
        return features

    def _logits(self, features: list[Tensor]) -> list[Tensor]:
        with self.autocast():
            logits: list[Tensor] = self.d(features)
        return logits


def _mean(maps: list[Tensor]) -> Tensor:
    """Mean over pictures and places, then over scales."""
    return torch.stack([x.mean() for x in maps]).mean()
