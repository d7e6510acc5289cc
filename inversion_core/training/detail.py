"""Training of the network that begins detail (`inversion_core.models.detail`) for a frozen pack.

It is to give, in one pass, detail with which the generator draws the photo. The easiest way there is to copy the photo
over whatever the code says, and then an edit of the code shows no longer. So each step also edits some codes along the
pack's directions, lets detail follow as an edit does (`inversion_core.editing.follow`), and asks that the edit changes
the picture with detail as it changes the picture without:

    |P(y') - P(y) - (P(g') - P(g))|^2 / |P(g') - P(g)|^2

with g and g' the pictures of the code before and after, y and y' those with detail, and P both the pixels, averaged
over squares of 4, and the pack's own F.

Codes are the encoder's and, in some batches, those after a few updates of the pack's own optimizer.

Suffixes: B image, E edited image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.editing.follow import flows, warp
from inversion_core.inverter import InvertConfig, invert
from inversion_core.latents import Latent, base_features, detail_shape, synthesize
from inversion_core.loss import focus_map, mean_square
from inversion_core.models import DetailPredictor, DetailPredictorConfig
from inversion_core.packs import Pack
from inversion_core.pictures import grid, to_image
from inversion_core.training.data import PictureSet
from inversion_core.training.jitter import varied
from inversion_core.training.loop import train
from inversion_core.training.options import Variety, check_counts, check_precision, check_shares
from inversion_core.training.precision import autocast
from inversion_core.training.run import RunFolder
from inversion_core.training.schedule import move_average, rate_factor, set_rates

GENERATOR = "generator_sha256"
"""The fact that ties a run to its generator."""
MEASURED = 16
"""Held-out pictures behind the figures in the log."""
SECOND_MOVE = 0.3
"""Share of the edits that go along two directions."""
COARSE = 4
"""Pixels along each side of a square within which an edit's effect is compared as a whole."""
LEAST_CHANGE = 0.003
"""Added to the mean square of an edit's change of the pixels: a small edit need not be met exactly."""
LEAST_SHARE = 0.05
"""Likewise for F, as a share of the mean square of its features."""


@dataclass(frozen=True, kw_only=True)
class DetailTraining(Variety):
    """Everything that shapes a run; kept in its checkpoint."""

    predictor: DetailPredictorConfig = field(default_factory=DetailPredictorConfig)
    px: int = 64
    """Side of the features that detail is added to."""
    steps: int = 1_500
    batch_size: int = 6
    edits: int = 3
    """Of a batch, those that are edited too."""
    edit_weight: float = 0.03
    """Weight of what an edit loses, beside equation 1."""
    later_share: float = 0.3
    """Of the batches, those whose codes are not the encoder's but come after some updates."""
    later_steps: int = 8
    """Most of these updates."""
    focus: float = 10.0
    """Of the pixels (equation 2)."""
    rate: float = 2e-3
    """AdamW's."""
    warmup_steps: int = 50
    final_rate: float = 0.02
    ema_images: int = 800
    """Half life, in images, of the moving average."""
    seed: int = 0
    precision: str = "float32"
    """"float32", or "bfloat16" for the networks' forward passes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "batch_size", "later_steps", "px")
        check_shares(self, "later_share")
        check_precision(self.precision)
        for name in ("steps", "edit_weight", "focus", "rate", "warmup_steps", "final_rate", "ema_images"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not 0 <= self.edits <= self.batch_size:
            raise ValueError(f"edits is {self.edits}; it must be from 0 to batch_size, {self.batch_size}")


class DetailTrainer:
    """The predictor, its average and optimizer; `run` goes on from the folder's checkpoint to the last step."""

    def __init__(
        self, config: DetailTraining, pack: Pack, pictures: PictureSet, held_out: PictureSet, folder: RunFolder
    ):
        """
        Raises:
            ValueError: the pack has no encoder, or no layer of that size.
        """
        if not pack.has_encoder:
            raise ValueError(f"pack {pack.name} has no encoder, and detail begins at its codes")
        torch.manual_seed(config.seed)
        self.config, self.pack, self.folder, self.device = config, pack, folder, pack.device
        self.pictures, self.held_out = pictures.to(self.device), held_out.to(self.device)
        self.weight_1HW = focus_map(config.focus, pack.resolution).to(self.device)[None]
        self.shape_CHW = detail_shape(pack.manifest.generator, config.px)
        predictor = DetailPredictor(
            config.predictor, resolution=pack.resolution, px=config.px, channels=self.shape_CHW[0]
        )  # fmt: skip
        self.p = predictor.to(self.device)
        self.p_ema = copy.deepcopy(self.p).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.p.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.optimizer.param_groups[0]["rate"] = config.rate
        self.step = 0
        facts = self.folder.load(self._modules(), {"p": self.optimizer})
        if facts is not None:
            self.step = int(facts["step"])

    def run(self, *, until: int | None = None, sample_every: int = 500, stop_after_s: float = math.inf) -> None:
        """Train to the last step, or to `until`, or for so many seconds."""
        last = min(self.config.steps if until is None else until, self.config.steps)
        batches = (self.pictures.batch(k, self.config.batch_size, self.config.seed) for k in itertools.count(self.step))
        train(self, batches, until=last, sample_every=sample_every, stop_after_s=stop_after_s, title="detail")

    # -- one step --------------------------------------------------------------------------------------------

    def train_step(self, real_BCHW: Tensor) -> dict[str, Tensor]:
        """One step on pictures in [-1, 1]; the losses by name."""
        config = self.config
        torch.manual_seed(config.seed * 7_919 + self.step)  # a resumed run draws what an unbroken one draws
        set_rates(
            self.optimizer, "rate",
            rate_factor(self.step, config.steps, warmup_steps=config.warmup_steps, final=config.final_rate),
        )  # fmt: skip
        target_BCHW = varied(real_BCHW.to(self.device), config)
        w_BLD = self._codes(target_BCHW)
        losses = self._losses(target_BCHW, w_BLD)
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.p.parameters(), 1.0)
        self.optimizer.step()
        batch = len(target_BCHW)
        move_average(self.p_ema, self.p, batch=batch, images=self.step * batch, half_life=config.ema_images)
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def _codes(self, target_BCHW: Tensor) -> Tensor:
        """The encoder's codes, or those after some updates."""
        config = self.config
        if float(torch.rand(())) >= config.later_share:
            return self.pack.encode(target_BCHW)
        count = 1 + int(torch.randint(config.later_steps, ()))
        *_, last = invert(self.pack, target_BCHW, InvertConfig(num_steps=count, detail_steps=0))
        return last.w_BLD

    def _losses(self, target_BCHW: Tensor, w_BLD: Tensor) -> dict[str, Tensor]:
        config, pack = self.config, self.pack
        with torch.no_grad(), self._autocast():
            base_BCHW = base_features(pack.generator, w_BLD, config.px)
            plain_BCHW = self._draw(w_BLD, self._nothing(base_BCHW), base_BCHW)
            wanted_BCHW = self._features(target_BCHW)
        with self._autocast():
            detail_BCHW = self.p(target_BCHW, plain_BCHW, base_BCHW).float()
            image_BCHW = self._draw(w_BLD, detail_BCHW, base_BCHW)
            found_BCHW = self._features(image_BCHW)
        losses = {
            "pixels": mean_square(image_BCHW - target_BCHW, self.weight_1HW).mean(),
            "features": pack.perceptual_weight * mean_square(found_BCHW - wanted_BCHW).mean(),
        }
        if config.edits and config.edit_weight:
            rows = slice(config.edits)
            before = Pictures(plain_BCHW[rows], image_BCHW[rows], found_BCHW[rows], wanted_BCHW[rows])
            lost = self._lost(before, w_BLD[rows], detail_BCHW[rows])
            losses |= {name: config.edit_weight * value for name, value in lost.items()}
        return losses

    # -- edits -----------------------------------------------------------------------------------------------

    def _lost(self, before: Pictures, w_ELD: Tensor, detail_ECHW: Tensor) -> dict[str, Tensor]:
        """What random edits lose by detail, as shares of what they do without."""
        px = self.config.px
        with torch.no_grad(), self._autocast():
            moved_ELD = w_ELD + self._moves(w_ELD)
            base_ECHW = base_features(self.pack.generator, moved_ELD, px)
            plain_ECHW = self._draw(moved_ELD, self._nothing(base_ECHW), base_ECHW)
            plain_change_ECHW = self._features(plain_ECHW) - self._features(before.plain_BCHW)
            flow_E2HW = flows(before.plain_BCHW, plain_ECHW, px)
        with self._autocast():
            image_ECHW = self._draw(moved_ELD, warp(detail_ECHW, flow_E2HW), base_ECHW)
            change_ECHW = self._features(image_ECHW) - before.found_BCHW
        pixels_E = self._missed_pixels(image_ECHW - before.image_BCHW, plain_ECHW - before.plain_BCHW)
        scale_E = mean_square(plain_change_ECHW) + LEAST_SHARE * mean_square(before.wanted_BCHW)
        features_E = mean_square(change_ECHW - plain_change_ECHW) / scale_E
        return {"edited_pixels": pixels_E.mean(), "edited_features": features_E.mean()}

    def _missed_pixels(self, change_ECHW: Tensor, plain_change_ECHW: Tensor) -> Tensor:
        weight_1HW = F.avg_pool2d(self.weight_1HW, COARSE)
        missed_E = mean_square(F.avg_pool2d(change_ECHW - plain_change_ECHW, COARSE), weight_1HW)
        return missed_E / (mean_square(F.avg_pool2d(plain_change_ECHW, COARSE), weight_1HW) + LEAST_CHANGE)

    def _moves(self, w_ELD: Tensor) -> Tensor:
        """Random steps along the pack's directions, anywhere in their ranges; without directions, part of the way to
        another code of the batch."""
        directions = list(self.pack.directions.values())
        if not directions:
            share_E11 = torch.rand(len(w_ELD), 1, 1, device=self.device)
            return share_E11 * (self.pack.map(torch.randn(len(w_ELD), self.pack.z_dim, device=self.device)) - w_ELD)
        moves = []
        for _ in range(len(w_ELD)):
            count = 2 if float(torch.rand(())) < SECOND_MOVE else 1
            chosen = [directions[k] for k in torch.randperm(len(directions))[:count].tolist()]
            low_high = [(direction.spec.range, float(torch.rand(()))) for direction in chosen]
            strengths = [low + share * (high - low) for (low, high), share in low_high]
            moves.append(sum(strength * each.step_LD for strength, each in zip(strengths, chosen, strict=True)))
        return torch.stack([torch.as_tensor(move) for move in moves])

    # -- networks --------------------------------------------------------------------------------------------

    def _draw(self, w_BLD: Tensor, detail_BCHW: Tensor, base_BCHW: Tensor) -> Tensor:
        latent = Latent(w_BLD=w_BLD, detail_BCHW=detail_BCHW)
        return synthesize(self.pack.generator, latent, base_BCHW).float()

    def _nothing(self, base_BCHW: Tensor) -> Tensor:
        return base_BCHW.new_zeros(len(base_BCHW), *self.shape_CHW)

    def _features(self, image_BCHW: Tensor) -> Tensor:
        features_BCHW: Tensor = self.pack.perceptual(image_BCHW)
        return features_BCHW.float()

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.config.precision)

    # -- what a person looks at ------------------------------------------------------------------------------

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Mean squared error in [-1, 1] of held-out pictures from the encoder's codes, after one pass."""
        target_BCHW = self._held_out(MEASURED)
        plain_BCHW, image_BCHW = self._passed(target_BCHW)
        errors = {"held_out_mse": image_BCHW, "held_out_mse_without": plain_BCHW}
        return {name: round(float(mean_square(image - target_BCHW).mean()), 5) for name, image in errors.items()}

    def compare(self) -> dict[str, float]:
        """Nothing more."""
        return {}

    @torch.no_grad()
    def sample(self, columns: int = 8) -> Path:
        """Write a sheet: held-out pictures, below those of their codes, and below those with detail."""
        target_BCHW = self._held_out(columns)
        file = self.folder.path / f"sample-{self.step:07d}.png"
        rows = target_BCHW, *self._passed(target_BCHW)
        grid([to_image(image) for row in rows for image in row.cpu()], len(target_BCHW)).save(file)
        return file

    def _held_out(self, count: int) -> Tensor:
        return self.held_out.take(torch.arange(min(count, len(self.held_out))))

    def _passed(self, target_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures of the encoder's codes, without and with detail."""
        w_BLD = self.pack.encode(target_BCHW)
        base_BCHW = base_features(self.pack.generator, w_BLD, self.config.px)
        plain_BCHW = self._draw(w_BLD, self._nothing(base_BCHW), base_BCHW)
        return plain_BCHW, self._draw(w_BLD, self.p_ema(target_BCHW, plain_BCHW, base_BCHW), base_BCHW)

    # -- keeping ---------------------------------------------------------------------------------------------

    def _modules(self) -> dict[str, nn.Module]:
        return {"p": self.p, "p_ema": self.p_ema}

    def save(self) -> None:
        manifest = self.pack.manifest
        facts = {
            "step": self.step, "config": dataclasses.asdict(self.config),
            GENERATOR: manifest.files.get(manifest.weight_files["generator"]),
        }  # fmt: skip
        self.folder.save(self._modules(), {"p": self.optimizer}, facts)


@dataclass(frozen=True)
class Pictures:
    """Of the images that are edited, before the edit."""

    plain_BCHW: Tensor
    """Pictures of the codes."""
    image_BCHW: Tensor
    """The same with detail."""
    found_BCHW: Tensor
    """F of those."""
    wanted_BCHW: Tensor
    """F of the targets."""
