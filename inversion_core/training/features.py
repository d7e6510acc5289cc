"""Training of a perceptual network F for a frozen generator: its gradient is to lead where others' distances would.

F is compared by the mean square (equation 1), and what an inversion takes from it is a gradient with respect to the
code. So that is what is taught: where a code w makes G(w) of a picture x, the gradient of |F(G(w)) - F(x)|^2 is to be
that of LPIPS and of the identity distance, whose networks are given by path and are too slow, and not ours, to ship:

    mean over layers of |dF/dw - dT/dw|^2 / |dT/dw|^2,    T = lpips_weight LPIPS + identity_weight (1 - cos)

A pool of inversions, which Adam brings on with each step by the pixels and by F as it is, shows the codes that are met
on the way from the encoder's; each begins anew with another picture after a number of steps that is left to chance.

Suffixes: N inversion of the pool, B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from inversion_core.latents import Latent
from inversion_core.loss import focus_map, mean_square
from inversion_core.models import DiscriminatorConfig
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.models.perceptual import DiscriminatorFeatures
from inversion_core.optimizers.adam import Adam, AdamState
from inversion_core.optimizers.schedule import Schedule
from inversion_core.packs import Pack
from inversion_core.pictures import grid, to_image
from inversion_core.training.calibration import PERCEPTUAL_SHARE
from inversion_core.training.data import PictureSet
from inversion_core.training.identity import IdentityDistance
from inversion_core.training.jitter import varied
from inversion_core.training.loop import train
from inversion_core.training.options import Variety, check_counts, check_precision
from inversion_core.training.precision import synthesize
from inversion_core.training.run import RunFolder
from inversion_core.training.schedule import move_average, rate_factor, set_rates

LOSS_WEIGHT = "loss_weight"
"""The fact that says lambda."""
PROBES = 8
"""Held-out pictures, each at two codes, by which the log measures."""
PROBE_STEPS = 10
"""Updates of Adam, by pixels alone, from the encoder's code to the second."""
SMALLEST = 1e-20


@dataclass(frozen=True, kw_only=True)
class FeatureTraining(Variety):
    """Everything that shapes a run; kept in its checkpoint."""

    jitter_probability: float = 0.5
    warp_probability: float = 0.5
    exchange_probability: float = 0.5
    surround_probability: float = 0.2
    features: DiscriminatorConfig
    """F is a trunk of this."""
    until_px: int
    """Size of the feature map."""
    steps: int = 3_000
    batch_size: int = 8
    """Inversions a step."""
    pool_batches: int = 4
    """Batches in the pool; they take turns."""
    restart_every: int = 25
    """Updates of an inversion before it begins anew, on the mean."""
    focus: float = 5.0
    """Of the pixels that lead the pool's inversions (equation 2)."""
    learning_rate: float = 0.16
    """Adam's, for the pool's codes."""
    rate: float = 1e-3
    """Adam's, for F."""
    warmup_steps: int = 100
    final_rate: float = 0.05
    ema_images: int = 4_000
    """Half life, in images, of the moving average."""
    lpips_weight: float = 1.0
    identity_weight: float = 0.5
    seed: int = 0
    precision: str = "float32"
    """"float32", or "bfloat16" for the generator's style layers; all else is float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "batch_size", "pool_batches", "restart_every")
        check_precision(self.precision)
        for name in ("steps", "focus", "learning_rate", "rate", "warmup_steps", "final_rate", "ema_images",
                     "lpips_weight", "identity_weight"):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")


class Pool(nn.Module):
    """Inversions on their way: targets, codes, Adam's state."""

    target_NCHW: Tensor
    w_NLD: Tensor
    mean_NLD: Tensor
    square_NLD: Tensor
    count_N: Tensor
    """Updates of each; -1: it has not begun."""

    def __init__(self, count: int, pack: Pack):
        super().__init__()
        shape = count, pack.num_layers, pack.w_dim
        self.register_buffer("target_NCHW", torch.zeros(count, 3, pack.resolution, pack.resolution))
        for name in ("w_NLD", "mean_NLD", "square_NLD"):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("count_N", torch.full((count,), -1.0, dtype=torch.float64))


class Probe(NamedTuple):
    """A code, what it is to draw, and where the teachers would lead it."""

    target_BCHW: Tensor
    w_BLD: Tensor
    taught_BLD: Tensor


class FeatureTrainer:
    """F, its average and optimizer, and the pool; `run` goes on from the folder's checkpoint to the last step."""

    def __init__(self, config: FeatureTraining, pack: Pack, pictures: PictureSet, held_out: PictureSet,
                 folder: RunFolder, *, lpips: LPIPSSqueeze | None, identity: IdentityDistance | None):  # fmt: skip
        """
        Raises:
            ValueError: no teacher is given.
        """
        if lpips is None and identity is None:
            raise ValueError("neither LPIPS nor a face recognition network is given, and there is nothing to learn")
        torch.manual_seed(config.seed)
        self.config, self.pack, self.folder, self.device = config, pack, folder, pack.device
        self.pictures, self.held_out = pictures.to(self.device), held_out.to(self.device)
        self.lpips = None if lpips is None else lpips.to(self.device).requires_grad_(False)
        self.identity = None if identity is None else identity.to(self.device)
        self.weight_1HW = focus_map(config.focus, pack.resolution).to(self.device)[None]
        self.step = 0
        self.f = DiscriminatorFeatures(config.features, config.until_px).to(self.device)
        self.pool = Pool(config.batch_size * config.pool_batches, pack).to(self.device)
        self.mover = Adam(learning_rate=config.learning_rate, schedule=Schedule(warmup_steps=5))
        self.optimizer = torch.optim.Adam(self.f.parameters(), lr=config.rate, betas=(0.9, 0.99))
        self.optimizer.param_groups[0]["rate"] = config.rate
        self.probes = self._probes()
        """Of held-out pictures."""
        self._begin()
        self.f_ema = copy.deepcopy(self.f).requires_grad_(False)
        facts = self.folder.load(self._modules(), {"f": self.optimizer})
        if facts is not None:
            self.step = int(facts["step"])

    def run(self, *, until: int | None = None, sample_every: int = 500, stop_after_s: float = math.inf) -> None:
        """Train to the last step, or to `until`, or for so many seconds."""
        last = min(self.config.steps if until is None else until, self.config.steps)
        batches = (self.pictures.batch(k, self.config.batch_size, self.config.seed) for k in itertools.count(self.step))
        train(self, batches, until=last, sample_every=sample_every, stop_after_s=stop_after_s, title="features")

    # -- one step --------------------------------------------------------------------------------------------

    def train_step(self, real_BCHW: Tensor) -> dict[str, Tensor]:
        """One step of F, and one update of the codes it was shown; real pictures are for inversions that begin."""
        config = self.config
        torch.manual_seed(config.seed * 7_919 + self.step)  # a resumed run draws what an unbroken one draws
        set_rates(
            self.optimizer, "rate",
            rate_factor(self.step, config.steps, warmup_steps=config.warmup_steps, final=config.final_rate),
        )  # fmt: skip
        rows = self._rows(real_BCHW.to(self.device))
        target_BCHW, w_BLD = self.pool.target_NCHW[rows], self.pool.w_NLD[rows].clone().requires_grad_()
        image_BCHW = self._synthesize(w_BLD)
        distance_B = self._distance(self.f, image_BCHW, target_BCHW)
        (led_BLD,) = torch.autograd.grad(distance_B.sum(), w_BLD, create_graph=True)
        taught_BLD = self._gradient(self._teachers(image_BCHW, target_BCHW), w_BLD)
        pixel_BLD = self._gradient(self._pixels(image_BCHW, target_BCHW), w_BLD)
        loss = apart(led_BLD, taught_BLD).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        move_average(self.f_ema, self.f, batch=len(w_BLD), images=self.step * len(w_BLD), half_life=config.ema_images)
        self._move(rows, w_BLD.detach(), pixel_BLD + self.weight * led_BLD.detach())
        cosine_BL = torch.cosine_similarity(led_BLD.detach(), taught_BLD, dim=2)
        return {"apart": loss.detach(), "cosine": cosine_BL.mean()}

    def _rows(self, real_BCHW: Tensor) -> slice:
        """Whose turn it is; those that begin have a picture and its code then."""
        config, pool = self.config, self.pool
        first = self.step % config.pool_batches * config.batch_size
        rows = slice(first, first + config.batch_size)
        ends_B = torch.rand(config.batch_size, device=self.device) < 1 / config.restart_every
        begins_B = ends_B | (pool.count_N[rows] < 0)
        with torch.no_grad():
            target_BCHW = varied(real_BCHW, config)
            w_BLD = self.pack.encode(target_BCHW)
        begins_B11, begins_B111 = begins_B[:, None, None], begins_B[:, None, None, None]
        pool.target_NCHW[rows] = torch.where(begins_B111, target_BCHW, pool.target_NCHW[rows])
        pool.w_NLD[rows] = torch.where(begins_B11, w_BLD, pool.w_NLD[rows])
        for moment_NLD in (pool.mean_NLD, pool.square_NLD):
            moment_NLD[rows] = torch.where(begins_B11, 0.0, moment_NLD[rows])
        pool.count_N[rows] = torch.where(begins_B, 0.0, pool.count_N[rows])
        return rows

    def _move(self, rows: slice, w_BLD: Tensor, grad_BLD: Tensor) -> None:
        pool = self.pool
        state = AdamState(pool.mean_NLD[rows], pool.square_NLD[rows], pool.count_N[rows])
        update_BLD, state = self.mover.update(grad_BLD, state)
        pool.w_NLD[rows] = w_BLD + update_BLD
        pool.mean_NLD[rows], pool.square_NLD[rows], pool.count_N[rows] = state

    # -- distances -------------------------------------------------------------------------------------------

    def _teachers(self, image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        total_B = torch.zeros(len(image_BCHW), device=self.device)
        if self.lpips is not None:
            total_B = total_B + self.config.lpips_weight * self.lpips(image_BCHW, target_BCHW)
        if self.identity is not None:
            total_B = total_B + self.config.identity_weight * self.identity(image_BCHW, target_BCHW)
        return total_B

    def _distance(self, features: nn.Module, image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return mean_square(features(image_BCHW) - features(target_BCHW))

    def _pixels(self, image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return mean_square(image_BCHW - target_BCHW, self.weight_1HW)

    def _synthesize(self, w_BLD: Tensor) -> Tensor:
        return synthesize(self.pack.generator.synthesis, w_BLD, self.config.precision)

    def _gradient(self, distance_B: Tensor, w_BLD: Tensor) -> Tensor:
        return torch.autograd.grad(distance_B.sum(), w_BLD, retain_graph=True)[0]

    # -- the beginning ---------------------------------------------------------------------------------------

    def _probes(self) -> list[Probe]:
        """Held-out pictures at the encoder's codes, and some updates further on."""
        target_BCHW = self.held_out.take(torch.arange(min(PROBES, len(self.held_out))))
        with torch.no_grad():
            w_BLD = self.pack.encode(target_BCHW)
        probes, state = [self._probe(target_BCHW, w_BLD)], self.mover.init(Latent(w_BLD=w_BLD))
        for _ in range(PROBE_STEPS):
            w_BLD = w_BLD.detach().requires_grad_()
            pixel_BLD = self._gradient(self._pixels(self._synthesize(w_BLD), target_BCHW), w_BLD)
            update_BLD, state = self.mover.update(pixel_BLD, state)
            w_BLD = w_BLD.detach() + update_BLD
        return [*probes, self._probe(target_BCHW, w_BLD)]

    def _probe(self, target_BCHW: Tensor, w_BLD: Tensor) -> Probe:
        w_BLD = w_BLD.detach().requires_grad_()
        taught_BLD = self._gradient(self._teachers(self._synthesize(w_BLD), target_BCHW), w_BLD)
        return Probe(target_BCHW, w_BLD, taught_BLD)

    @torch.no_grad()
    def loss_weight(self) -> float:
        """lambda of equation 1 at which the averaged F counts PERCEPTUAL_SHARE of the pixels at the encoder's codes."""
        target_BCHW, w_BLD, _ = self.probes[0]
        image_BCHW = self._synthesize(w_BLD)
        perceptual = self._distance(self.f_ema, image_BCHW, target_BCHW).mean()
        return float(f"{PERCEPTUAL_SHARE * mean_square(image_BCHW - target_BCHW).mean() / perceptual:.3g}")

    def _begin(self) -> None:
        """Scale a new F so that its gradients are as long as the teachers', and its weight in the pool accordingly."""
        target_BCHW, w_BLD, taught_BLD = self.probes[0]
        image_BCHW = self._synthesize(w_BLD)
        led_BLD = self._gradient(self._distance(self.f, image_BCHW, target_BCHW), w_BLD)
        scale_features(self.f, math.sqrt(float(taught_BLD.norm() / led_BLD.norm().clamp(min=SMALLEST))))
        with torch.no_grad():
            pixel = self._pixels(image_BCHW, target_BCHW).mean()
            self.weight = float(PERCEPTUAL_SHARE * pixel / self._teachers(image_BCHW, target_BCHW).mean())

    # -- what a person looks at ------------------------------------------------------------------------------

    def measure(self) -> dict[str, float]:
        """Cosine of F's gradient and the teachers' on held-out pictures, mean over layers, at the encoder's codes and
        later."""
        cosines = []
        for target_BCHW, w_BLD, taught_BLD in self.probes:
            led_BLD = self._gradient(self._distance(self.f_ema, self._synthesize(w_BLD), target_BCHW), w_BLD)
            cosines.append(float(torch.cosine_similarity(led_BLD, taught_BLD, dim=2).mean()))
        return {"held_out_cosine": round(cosines[0], 4), "held_out_cosine_later": round(cosines[1], 4)}

    def compare(self) -> dict[str, float]:
        """Nothing more."""
        return {}

    @torch.no_grad()
    def sample(self) -> Path:
        """Write a sheet: the pool's targets, and below what its codes draw now."""
        columns = self.config.batch_size
        image_BCHW = self._synthesize(self.pool.w_NLD[:columns])
        file = self.folder.path / f"sample-{self.step:07d}.png"
        rows = self.pool.target_NCHW[:columns], image_BCHW
        grid([to_image(image) for row in rows for image in row.cpu()], columns).save(file)
        return file

    # -- keeping ---------------------------------------------------------------------------------------------

    def _modules(self) -> dict[str, nn.Module]:
        return {"f": self.f, "f_ema": self.f_ema, "pool": self.pool}

    def save(self) -> None:
        facts = {"step": self.step, "config": dataclasses.asdict(self.config), LOSS_WEIGHT: self.loss_weight()}
        self.folder.save(self._modules(), {"f": self.optimizer}, facts)


def apart(led_BLD: Tensor, taught_BLD: Tensor) -> Tensor:
    """(B, L): squared distance of two gradients in each layer, as a share of the second's own square."""
    square_BL = taught_BLD.square().sum(dim=2)
    return (led_BLD - taught_BLD).square().sum(dim=2) / square_BL.clamp(min=SMALLEST)


@torch.no_grad()
def scale_features(features: DiscriminatorFeatures, factor: float) -> None:
    """Multiply what F gives by a positive factor: its last block is linear in these weights, up to a leaky ReLU."""
    last = features.trunk.blocks[-1]
    for name, parameter in last.named_parameters():
        if name.startswith(("conv2.", "skip.")):
            parameter.mul_(factor)
