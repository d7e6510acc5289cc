"""Training of a generator, its encoder and its discriminator together, on few pictures and little hardware.

Two phases, one command. *Reconstruction*: encoder and generator are an autoencoder through W+; on a CPU
this finds faces hundreds of times sooner than adversarial training from nothing does (docs/log.md).
*Adversarial*: the mapping network is fitted to the codes found, then StyleGAN's own training goes on
(non-saturating loss, lazy R1, style mixing, moving averages) while the autoencoder keeps its loss.

Suffixes: B image, Z latent z, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models import (
    Discriminator,
    DiscriminatorConfig,
    Encoder,
    EncoderConfig,
    GeneratorConfig,
    StyleGANGenerator,
)
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.pictures import grid, to_image
from inversion_core.training.augment import augment
from inversion_core.training.data import PictureSet
from inversion_core.training.loop import train
from inversion_core.training.objectives import picture_distance
from inversion_core.training.run import RunFolder
from inversion_core.training.schedule import move_average, rate_factor


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining:
    """Everything that shapes a run; kept in its checkpoint."""

    generator: GeneratorConfig
    encoder: EncoderConfig
    discriminator: DiscriminatorConfig
    reconstruction_steps: int = 10_000
    """Steps of the first phase."""
    adversarial_steps: int = 10_000
    """Steps of the second phase."""
    batch_size: int = 4
    generator_rate: float = 3e-3
    """Adam's rate for generator and discriminator in the first phase."""
    encoder_rate: float = 1e-3
    adversarial_rate: float = 1e-3
    """Adam's rate for generator and discriminator in the second phase; the encoder's is half of it."""
    warmup_steps: int = 100
    final_rate: float = 0.2
    """Factor of the rates at the end of a phase, reached by a cosine over its last half."""
    lpips_weight: float = 0.5
    """Weight of LPIPS beside twice the L1 distance; 0 where no such network is given."""
    delta_weight: float = 5e-3
    """Weight of the squared distance of a layer's code from the mean over layers: keeps W+ near W (Tov 2021)."""
    norm_weight: float = 1e-3
    """Weight of the mean square of the codes, so that their noise means something."""
    code_noise: float = 0.03
    """Standard deviation of noise on the codes in reconstruction: a smooth latent space."""
    adversarial_weight: float = 0.1
    """Weight of the adversarial terms beside the reconstruction."""
    r1_gamma: float = 1.0
    r1_every: int = 16
    """Steps between two R1 terms, each weighted by as much (lazy regularisation, Karras 2020)."""
    mapping_fit_steps: int = 1_500
    """Steps of the regression that fits the mapping network to the codes between the phases."""
    mixing_probability: float = 0.5
    augment_probability: float = 0.5
    ema_images: int = 8_000
    """Half life, in images, of the moving averages of generator and encoder."""
    seed: int = 0

    @property
    def total_steps(self) -> int:
        return self.reconstruction_steps + self.adversarial_steps


class GeneratorTrainer:
    """The networks, their averages and optimizers; `run` goes on from the folder's checkpoint to the last step."""

    def __init__(self, config: GeneratorTraining, pictures: PictureSet, held_out: PictureSet, folder: RunFolder, *,
                 lpips: LPIPSSqueeze | None = None, device: str = "cpu"):  # fmt: skip
        torch.manual_seed(config.seed)
        self.config, self.pictures, self.held_out, self.folder, self.device = (
            config,
            pictures,
            held_out,
            folder,
            device,
        )
        self.lpips = lpips.to(device) if lpips is not None else None
        self.g = StyleGANGenerator(config.generator).to(device)
        self.e = Encoder(config.encoder).to(device)
        self.d = Discriminator(config.discriminator).to(device)
        self.g_ema, self.e_ema = (
            copy.deepcopy(self.g).requires_grad_(False),
            copy.deepcopy(self.e).requires_grad_(False),
        )
        synthesis = [*self.g.synthesis.parameters()]
        betas = (0.5, 0.99)
        self.g_opt = torch.optim.Adam([
            {"params": synthesis, "rate": config.generator_rate, "adversarial": config.adversarial_rate},
            {"params": self.g.mapping.parameters(), "rate": 0.0, "adversarial": config.adversarial_rate},
            {"params": self.e.parameters(), "rate": config.encoder_rate, "adversarial": config.adversarial_rate / 2},
        ], betas=betas)  # fmt: skip
        self.d_opt = torch.optim.Adam(
            [
                {
                    "params": self.d.parameters(),
                    "rate": config.adversarial_rate,
                    "adversarial": config.adversarial_rate,
                }
            ],
            betas=(0.0, 0.99),
        )
        self.step = 0
        self._restore()

    # -- one step --------------------------------------------------------------------------------------------

    def run(self, *, until: int | None = None, sample_every: int = 500) -> None:
        """Train to the last step, or to `until`."""
        last = min(until or self.config.total_steps, self.config.total_steps)
        batches = self.pictures.batches(self.config.batch_size, self.config.seed, start=self.step)
        train(self, batches, until=last, sample_every=sample_every, title="generator")

    def train_step(self, real_BCHW: Tensor) -> dict[str, float]:
        """One step of all networks that this phase trains; the losses by name."""
        real_BCHW = real_BCHW.to(self.device)
        torch.manual_seed(self.config.seed * 7_919 + self.step)  # a resumed run draws what an unbroken one draws
        is_adversarial = self.step >= self.config.reconstruction_steps
        if self.step == self.config.reconstruction_steps:
            self._start_adversarial()
        self._set_rates(is_adversarial)
        reconstructed_BCHW, losses = self._reconstruct(real_BCHW)
        total = losses["reconstruction"] + losses["delta"] + losses["norm"]
        fake_BCHW = None
        if is_adversarial:
            fake_BCHW = torch.cat(
                [self.g.synthesis(self._sample_w(len(real_BCHW)), random_noise=True), reconstructed_BCHW]
            )
            self.d.requires_grad_(False)
            losses["g"] = F.softplus(-self._judge(fake_BCHW)).mean()
            self.d.requires_grad_(True)
            total = total + self.config.adversarial_weight * losses["g"]
        self.g_opt.zero_grad(set_to_none=True)
        total.backward()
        self.g_opt.step()
        if fake_BCHW is not None:
            losses |= self._discriminate(real_BCHW, fake_BCHW.detach())
        self._average(len(real_BCHW))
        return {key: float(value.detach()) for key, value in losses.items()}

    # -- the two losses --------------------------------------------------------------------------------------

    def _reconstruct(self, real_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        w_BLD = self.e(real_BCHW)
        mean_B1D = w_BLD.mean(dim=1, keepdim=True)
        delta_BLD = w_BLD - mean_B1D
        # Half of the images go through W alone, so that G makes faces of plain w too, and W+ only adds detail.
        in_w_plus_B11 = torch.rand(len(w_BLD), 1, 1, device=w_BLD.device) < 0.5
        code_BLD = mean_B1D + torch.where(in_w_plus_B11, delta_BLD, torch.zeros_like(delta_BLD))
        code_BLD = code_BLD + self.config.code_noise * torch.randn_like(mean_B1D)
        image_BCHW = self.g.synthesis(code_BLD, random_noise=True)  # fixed noise would become a fixed blemish
        loss = picture_distance(image_BCHW, real_BCHW, self.lpips, self.config.lpips_weight)
        return image_BCHW, {
            "reconstruction": loss,
            "delta": self.config.delta_weight * delta_BLD.square().mean(),
            "norm": self.config.norm_weight * mean_B1D.square().mean(),
        }

    def _sample_w(self, count: int) -> Tensor:
        """W+ codes of random z, some of two z each (style mixing); moves w_avg along."""
        w_BLD = self.g.mapping(torch.randn(count, self.config.generator.z_dim, device=self.device))
        w_avg_D = self.g.truncation.w_avg_D
        w_avg_D.lerp_(w_BLD.detach().mean(dim=(0, 1)), 0.005)
        other_BLD = self.g.mapping(torch.randn(count, self.config.generator.z_dim, device=self.device))
        layers = self.config.generator.num_layers
        crossover_B = torch.randint(1, layers, (count,), device=self.device)
        crossover_B = torch.where(
            torch.rand(count, device=self.device) < self.config.mixing_probability, crossover_B, layers
        )
        layer_L = torch.arange(layers, device=self.device)
        return torch.where((layer_L < crossover_B[:, None])[..., None], w_BLD, other_BLD)

    def _judge(self, image_BCHW: Tensor) -> Tensor:
        logit_B: Tensor = self.d(augment(image_BCHW, self.config.augment_probability))
        return logit_B

    def _discriminate(self, real_BCHW: Tensor, fake_BCHW: Tensor) -> dict[str, Tensor]:
        """One step of D: non-saturating loss, and every few steps R1 on the real pictures (Mescheder 2018)."""
        real_logit_B, fake_logit_B = self._judge(real_BCHW), self._judge(fake_BCHW)
        loss = F.softplus(-real_logit_B).mean() + F.softplus(fake_logit_B).mean()
        losses = {"d": loss, "d_real": real_logit_B.mean(), "d_fake": fake_logit_B.mean()}
        if self.step % self.config.r1_every == 0:
            input_BCHW = real_BCHW.detach().requires_grad_()
            (grad_BCHW,) = torch.autograd.grad(self.d(input_BCHW).sum(), input_BCHW, create_graph=True)
            penalty = grad_BCHW.square().sum(dim=(1, 2, 3)).mean()
            loss = loss + self.config.r1_gamma / 2 * self.config.r1_every * penalty
        self.d_opt.zero_grad(set_to_none=True)
        loss.backward()
        self.d_opt.step()
        return losses

    # -- schedules, averages, the change of phase --------------------------------------------------------------

    def _set_rates(self, is_adversarial: bool) -> None:
        start = self.config.reconstruction_steps if is_adversarial else 0
        length = self.config.adversarial_steps if is_adversarial else self.config.reconstruction_steps
        factor = rate_factor(
            self.step - start, length, warmup_steps=self.config.warmup_steps, final=self.config.final_rate
        )
        for group in [*self.g_opt.param_groups, *self.d_opt.param_groups]:
            group["lr"] = factor * group["adversarial" if is_adversarial else "rate"]

    def _average(self, batch: int) -> None:
        for average, live in ((self.g_ema, self.g), (self.e_ema, self.e)):
            move_average(average, live, batch=batch, step=self.step, half_life=self.config.ema_images)

    def _start_adversarial(self) -> None:
        """Fit the mapping network to the distribution of the codes, and w_avg to their mean; D starts from nothing."""
        code_ND = torch.cat([self.e_ema(batch).mean(dim=1) for batch in self._all_pictures()])
        fit_mapping(self.g, code_ND, seed=self.config.seed, steps=self.config.mapping_fit_steps)
        self.g_ema.mapping.load_state_dict(self.g.mapping.state_dict())
        self.g_ema.truncation.load_state_dict(self.g.truncation.state_dict())

    @torch.no_grad()
    def _all_pictures(self) -> list[Tensor]:
        return [self.pictures.take(index).to(self.device) for index in torch.arange(len(self.pictures)).split(64)]

    # -- what a person looks at --------------------------------------------------------------------------------

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Distances of the averaged autoencoder on held-out pictures: MSE in [-1, 1] and LPIPS."""
        real = self.held_out.take(torch.arange(min(32, len(self.held_out)))).to(self.device)
        image = self.g_ema.synthesis(self.e_ema(real))
        result = {"held_out_mse": round(float((image - real).square().mean()), 5)}
        if self.lpips is not None:
            result["held_out_lpips"] = round(float(self.lpips(image, real).mean()), 5)
        return result

    @torch.no_grad()
    def sample(self, columns: int = 12) -> Path:
        """Write a sheet: held-out pictures, their W+ and W reconstructions, samples without and with truncation."""
        columns = min(columns, len(self.held_out))
        real = self.held_out.take(torch.arange(columns)).to(self.device)
        w_BLD = self.e_ema(real)
        rows = [
            real,
            self.g_ema.synthesis(w_BLD),
            self.g_ema.synthesis(w_BLD.mean(1, keepdim=True).expand_as(w_BLD)),
        ]
        generator = torch.Generator().manual_seed(0)
        z_BZ = torch.randn(columns, self.config.generator.z_dim, generator=generator).to(self.device)
        rows += [self.g_ema.synthesis(self.g_ema.map(z_BZ, psi=psi)) for psi in (1.0, 0.7)]
        sheet = grid([to_image(image) for row in rows for image in row.cpu()], columns)
        file = self.folder.path / f"sample-{self.step:07d}.png"
        sheet.save(file)
        return file

    # -- keeping -----------------------------------------------------------------------------------------------

    def _modules(self) -> dict[str, nn.Module]:
        return {"g": self.g, "e": self.e, "d": self.d, "g_ema": self.g_ema, "e_ema": self.e_ema}

    def save(self) -> None:
        facts: dict[str, Any] = {"step": self.step, "config": dataclasses.asdict(self.config)}
        self.folder.save(self._modules(), {"g": self.g_opt, "d": self.d_opt}, facts)

    def _restore(self) -> None:
        facts = self.folder.load(self._modules(), {"g": self.g_opt, "d": self.d_opt})
        if facts is not None:
            self.step = int(facts["step"])


def fit_mapping(generator: StyleGANGenerator, code_ND: Tensor, *, seed: int, steps: int, batch: int = 256) -> None:
    """Fit the mapping network by regression so that normal z gives codes with the mean and covariance of `code_ND`.

    The target for z is mean + A z with A A^T the covariance: the Gaussian nearest to the codes.
    """
    mean_D = code_ND.mean(dim=0)
    covariance_DD = torch.cov(code_ND.T) + 1e-5 * torch.eye(code_ND.shape[1], device=code_ND.device)
    values, vectors = torch.linalg.eigh(covariance_DD.double())
    root_DD = (vectors * values.clamp_min(0).sqrt()).float().T  # rows: principal axes times their deviation
    z_dim = generator.config.z_dim
    axes = min(z_dim, len(mean_D))
    root_ZD = torch.zeros(z_dim, len(mean_D), device=code_ND.device)
    root_ZD[:axes] = root_DD.flip(0)[:axes]
    generator.truncation.w_avg_D.copy_(mean_D)
    rate = 0.2  # 2e-3 as an ordinary network feels it: the mapping layers multiply theirs by 0.01
    optimizer = torch.optim.Adam(generator.mapping.parameters(), lr=rate, betas=(0.9, 0.99))
    draw = torch.Generator().manual_seed(seed)
    for step in range(steps):
        z_BZ = torch.randn(batch, z_dim, generator=draw).to(code_ND.device)
        target_BD = mean_D + (z_BZ * z_dim**0.5 / z_BZ.norm(dim=1, keepdim=True)) @ root_ZD
        loss = F.mse_loss(generator.mapping(z_BZ)[:, 0], target_BD)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
