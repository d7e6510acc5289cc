"""Training of a generator, its encoder and its discriminator together, on few pictures and little hardware.

Two phases, one command. *Reconstruction*: encoder and generator are an autoencoder through W+; on a CPU
this finds faces hundreds of times sooner than adversarial training from nothing does
(docs/experiments/2026-11-22-autoencoder-rates.md).
*Adversarial*: the mapping network is fitted to the codes found, then StyleGAN's own training goes on
(non-saturating loss, lazy R1, adaptive augmentation, style mixing, moving averages) while the autoencoder keeps
its loss. Either phase may have no steps: without the first, this is StyleGAN from nothing.

Suffixes: B image, Z latent z, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from inversion_core.benchmark.distribution import kid
from inversion_core.benchmark.features import embedders
from inversion_core.errors import OptionInvalid
from inversion_core.models import DiscriminatorConfig, Encoder, GeneratorConfig, StyleGANGenerator
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.packs import load_networks
from inversion_core.training.adversary import Adversary
from inversion_core.training.base import BaseTrainer
from inversion_core.training.critics import STYLEGAN, Critic, check_critic, make_critic
from inversion_core.training.data import PictureSet
from inversion_core.training.growing import Architectures, Fade, grow
from inversion_core.training.identity import IdentityDistance
from inversion_core.training.mapping import fit_mapping
from inversion_core.training.objectives import picture_distance
from inversion_core.training.options import TrainingOptions
from inversion_core.training.projected import ProjectedAdversary
from inversion_core.training.recording import recordable_adam
from inversion_core.training.run import CHECKPOINT, RunFolder, read_facts
from inversion_core.training.schedule import move_average, rate_factor, set_rates

COMPARED = 500
"""Samples, and training pictures, behind the KID in the log."""
PSIS = (1.0, 0.7, 0.5, 0.3, 0.0, -0.5)
"""Truncations of the sample sheet, the same z in each; below 0 a face turns into its opposite."""
W_AVG_SHARE = 0.005
"""By which w_avg moves each step to the mean of the codes drawn (Karras 2019's code)."""


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining(TrainingOptions):
    """Everything that shapes a run; kept in its checkpoint."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    reconstruction_steps: int = 10_000
    """Steps of the first phase."""
    adversarial_steps: int = 10_000
    """Steps of the second phase."""
    adversarial_batch_size: int | None = None
    """Real pictures a step of the second phase, and as many samples; None: as in the first."""
    generator_rate: float = 3e-3
    """Adam's rate for the generator in the first phase."""
    encoder_rate: float = 1e-3
    adversarial_rate: float = 1e-3
    """Adam's rate for generator and discriminator in the second phase; the encoder's is half of it."""
    reconstruction_weight: float = 1.0
    """Weight of the autoencoder's losses in the second phase; 0: the encoder rests, and fakes are samples alone."""
    judges_reconstructions: bool = True
    """Whether the discriminator sees reconstructions beside samples; without them a step is a third cheaper for D."""
    delta_weight: float = 5e-3
    """Weight of the squared distance of a layer's code from the mean over layers: keeps W+ near W (Tov 2021)."""
    norm_weight: float = 1e-3
    """Weight of the mean square of the codes, so that their noise means something."""
    w_share: float = 0.5
    """Share of the pictures that are reconstructed through W alone: G then makes faces of plain w too, and W+ only
    adds detail."""
    code_noise: float = 0.03
    """Standard deviation of noise on the codes in reconstruction: a smooth latent space."""
    mapping_fit_steps: int = 1_500
    """Steps of the regression that fits the mapping network to the codes between the phases; 0: it is kept."""
    mixing_probability: float = 0.5
    critic: str = STYLEGAN
    """Who judges in the second phase: "stylegan", StyleGAN's own discriminator, or "projected", small heads on frozen
    features (projected.py), which needs an LPIPS network."""
    fade_images: int = 0
    """Real pictures over which the last resolution of a grown run comes in; 0: the run did not grow."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.reconstruction_steps, self.adversarial_steps, self.mapping_fit_steps, self.fade_images) < 0:
            raise ValueError("reconstruction_steps, adversarial_steps, mapping_fit_steps and fade_images are counts")
        if self.adversarial_batch_size is not None and self.adversarial_batch_size < 1:
            raise ValueError(f"adversarial_batch_size is {self.adversarial_batch_size}; it must be at least 1")
        check_critic(self.critic)
        if not 0 <= self.w_share <= 1:
            raise ValueError(f"w_share is {self.w_share}; it must be from 0 to 1")

    @property
    def total_steps(self) -> int:
        return self.reconstruction_steps + self.adversarial_steps

    def batch_size_at(self, step: int) -> int:
        """Real pictures of a step."""
        own = self.adversarial_batch_size if step >= self.reconstruction_steps else None
        return own or self.batch_size

    def images_before(self, step: int) -> int:
        """Real pictures shown before a step."""
        first = min(step, self.reconstruction_steps)
        return first * self.batch_size + (step - first) * self.batch_size_at(self.reconstruction_steps)


class GeneratorTrainer(BaseTrainer[GeneratorTraining]):
    """The networks, their averages and optimizers; `run` goes on from the folder's checkpoint to the last step."""

    title: ClassVar[str] = "generator"

    def __init__(self, config: GeneratorTraining, pictures: PictureSet, held_out: PictureSet, folder: RunFolder, *,
                 lpips: LPIPSSqueeze | None = None, identity: IdentityDistance | None = None,
                 device: str | torch.device = "cpu", grow_from: Path | None = None,
                 start_from: Path | None = None):  # fmt: skip
        """`grow_from` is the run that a run with `fade_images` begins from, `start_from` a pack with the networks
        that a run begins with; one that has begun reads neither.

        Raises:
            OptionInvalid: the networks do not grow from that run, or a projected critic has no LPIPS network.
            PackInvalid: the pack is broken.
            ValueError: a run that grows is new and was given none, or one was given and there are no `fade_images`.
        """
        super().__init__(config, pictures, held_out, folder, lpips=lpips, identity=identity, device=device)
        self.g = StyleGANGenerator(config.generator).to(self.device)
        self.e = Encoder(config.encoder).to(self.device)
        self.adversary = self._adversary()
        self.g_ema = copy.deepcopy(self.g).requires_grad_(False)
        self.e_ema = copy.deepcopy(self.e).requires_grad_(False)
        second = config.adversarial_rate
        self.g_opt = torch.optim.Adam([
            {"params": self.g.synthesis.parameters(), "first": config.generator_rate, "second": second},
            {"params": self.g.mapping.parameters(), "first": 0.0, "second": second},
            {"params": self.e.parameters(), "first": config.encoder_rate, "second": second / 2},
        ], betas=(0.5, 0.99), **recordable_adam(self.device))  # fmt: skip
        self.fade: Fade | None = None
        if config.fade_images:
            self.fade = Fade(_architectures(config)).to(self.device)
            if isinstance(self.adversary, Adversary):
                self.adversary.trunk = self._faded_trunk
        if (config.fade_images > 0) != (grow_from is not None) and not self.folder.has_checkpoint:
            raise ValueError("a run that grows needs both fade_images and the run that it grows from")
        if not self.restore():
            if self.fade is not None and grow_from is not None:
                grow(grow_from, self.modules(), self.fade)
            if start_from is not None:
                self._take_over(start_from)
            if isinstance(self.adversary, ProjectedAdversary):
                self.adversary.calibrate(self.pictures)
        self._move_fade()

    def _adversary(self) -> Critic:
        config, facts = self.config, read_facts(self.folder.path / CHECKPOINT)
        if facts is not None and (begun := facts["config"].get("critic", STYLEGAN)) != config.critic:
            raise OptionInvalid(f"{self.folder.path} was begun with the critic {begun}; go on with --critic {begun}")
        return make_critic(
            config.critic, config.discriminator, config, lpips=self.lpips, rate=config.adversarial_rate,
            autocast=self.autocast, device=self.device,
        )  # fmt: skip

    def _take_over(self, pack: Path) -> None:
        """Generator and encoder of a pack, live and averaged."""
        networks = load_networks(pack, ("generator", "encoder"))
        encoder = networks["encoder"]
        assert isinstance(encoder, Encoder)
        for g, e in ((self.g, self.e), (self.g_ema, self.e_ema)):
            g.load_state_dict(networks["generator"].state_dict())
            e.take_over(encoder)

    @property
    def total_steps(self) -> int:
        return self.config.total_steps

    def batch_size_at(self, step: int) -> int:
        return self.config.batch_size_at(step)

    def modules(self) -> dict[str, nn.Module]:
        modules = {"g": self.g, "e": self.e, "g_ema": self.g_ema, "e_ema": self.e_ema, **self.adversary.modules()}
        return modules if self.fade is None else {**modules, "fade": self.fade}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"g": self.g_opt, "d": self.adversary.optimizer}

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "fade": None if self.fade is None else self.fade.alpha}

    # -- one step --------------------------------------------------------------------------------------------

    def learn(self, real_BCHW: Tensor) -> Mapping[str, Tensor]:
        """One step of all networks that this phase trains."""
        is_adversarial = self.step >= self.config.reconstruction_steps
        if self.step == self.config.reconstruction_steps:
            self._start_adversarial()
        self._move_fade()
        factor = self._rate_factor(is_adversarial)
        set_rates(self.g_opt, "second" if is_adversarial else "first", factor)
        set_rates(self.adversary.optimizer, "rate", factor)
        d_kind = self.adversary.kind_of(self.step) if is_adversarial else None
        kind = is_adversarial, self.fade is None, self.first_identity(len(real_BCHW)), d_kind
        losses = self.recorder(kind, lambda each_BCHW: self._update(each_BCHW, is_adversarial), real_BCHW)
        self._average(len(real_BCHW))
        return losses

    def _update(self, real_BCHW: Tensor, is_adversarial: bool) -> dict[str, Tensor]:
        """The step itself: losses, gradients, Adam."""
        target_BCHW = self.target(real_BCHW)
        if self.fade is not None:
            real_BCHW, target_BCHW = self.fade.real(real_BCHW), self.fade.real(target_BCHW)
        total, losses, fakes = self._forward(target_BCHW, is_adversarial)
        self.g_opt.zero_grad(set_to_none=True)
        total.backward()
        self.clip(self.e)
        self.g_opt.step()
        if is_adversarial:
            fakes = [fake_BCHW.detach() for fake_BCHW in fakes]
            losses |= self.adversary.train_step(real_BCHW, *fakes, step=self.step)
        return losses

    def _forward(self, target_BCHW: Tensor, is_adversarial: bool) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """What generator and encoder minimise, its parts by name, and the pictures made: samples last."""
        weight = self.config.reconstruction_weight if is_adversarial else 1.0
        codes: list[Tensor] = []
        losses: dict[str, Tensor] = {}
        if weight:
            code_BLD, losses = self._encode(target_BCHW)
            codes.append(code_BLD)
        if is_adversarial:
            codes.append(self._sample_w(len(target_BCHW)))
        # Noise is drawn anew for each picture: a fixed one would become a fixed blemish.
        images_BCHW = self._synthesize(torch.cat(codes), random_noise=True)
        fakes = list(images_BCHW.split(len(target_BCHW)))
        total = torch.zeros((), device=self.device)
        if weight:
            losses["reconstruction"] = picture_distance(fakes[0], target_BCHW, self.lpips, self.config)
            losses |= self.identity_loss(fakes[0], target_BCHW)
            total = weight * torch.stack(list(losses.values())).sum()
        if is_adversarial:
            fakes = fakes if self.config.judges_reconstructions else fakes[-1:]
            losses["g"] = self.adversary.fooled(*fakes)
            total = total + self.config.adversarial_weight * losses["g"]
        return total, losses, fakes

    def _encode(self, target_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes for the reconstruction, and their penalties."""
        w_BLD = self._codes(target_BCHW)
        mean_B1D = w_BLD.mean(dim=1, keepdim=True)
        delta_BLD = w_BLD - mean_B1D
        in_w_plus_B11 = torch.rand(len(w_BLD), 1, 1, device=w_BLD.device) < 1 - self.config.w_share
        code_BLD = mean_B1D + torch.where(in_w_plus_B11, delta_BLD, torch.zeros_like(delta_BLD))
        return code_BLD + self.config.code_noise * torch.randn_like(mean_B1D), {
            "delta": self.config.delta_weight * delta_BLD.square().mean(),
            "norm": self.config.norm_weight * mean_B1D.square().mean(),
        }

    def _sample_w(self, count: int) -> Tensor:
        """W+ codes of random z, some of two z each (style mixing); moves w_avg along."""
        z_BZ = torch.randn(2 * count, self.config.generator.z_dim, device=self.device)
        w_BLD, other_BLD = self.g.mapping(z_BZ).split(count)
        self.g.truncation.w_avg_D.lerp_(w_BLD.detach().mean(dim=(0, 1)), W_AVG_SHARE)
        layers = self.config.generator.num_layers
        crossover_B = torch.randint(1, layers, (count,), device=self.device)
        is_mixed_B = torch.rand(count, device=self.device) < self.config.mixing_probability
        crossover_B = torch.where(is_mixed_B, crossover_B, layers)
        layer_L = torch.arange(layers, device=self.device)
        return torch.where((layer_L < crossover_B[:, None])[..., None], w_BLD, other_BLD)

    # -- the networks, fading in where the run grows -----------------------------------------------------------

    def _synthesize(self, w_BLD: Tensor, *, averaged: bool = False, random_noise: bool = False) -> Tensor:
        """Codes to pictures: style layers in the chosen precision, the last step to RGB in float32."""
        network = (self.g_ema if averaged else self.g).synthesis
        if self.fade is None:
            with self.autocast():
                x = network.features(w_BLD, random_noise=random_noise)
            return network.rgb(x.float())
        with self.autocast():
            low, high = self.fade.features(network, w_BLD, random_noise=random_noise)
        return self.fade.picture(network, low.float(), high.float(), averaged=averaged)

    def _codes(self, image_BCHW: Tensor, *, averaged: bool = False) -> Tensor:
        encoder = self.e_ema if averaged else self.e
        with self.autocast():
            if self.fade is None:
                w_BLD: Tensor = encoder(image_BCHW)
            else:
                w_BLD = self.fade.encode(encoder, image_BCHW, averaged=averaged)
        return w_BLD.float()

    def _faded_trunk(self, image_BCHW: Tensor) -> Tensor:
        assert self.fade is not None
        assert isinstance(self.adversary, Adversary)
        return self.fade.trunk(self.adversary.d.trunk, image_BCHW)

    def _move_fade(self) -> None:
        """Let the new layers come in further; once they are in, the old ones go."""
        if self.fade is None:
            return
        self.fade.alpha = self.config.images_before(self.step) / self.config.fade_images
        if self.fade.alpha >= 1:
            self.fade = None
            if isinstance(self.adversary, Adversary):
                self.adversary.trunk = self.adversary.d.trunk

    # -- schedules, averages, the change of phase --------------------------------------------------------------

    def _rate_factor(self, is_adversarial: bool) -> float:
        start = self.config.reconstruction_steps if is_adversarial else 0
        length = self.config.adversarial_steps if is_adversarial else self.config.reconstruction_steps
        return rate_factor(
            self.step - start, length, warmup_steps=self.config.warmup_steps, final=self.config.final_rate
        )

    def _average(self, batch: int) -> None:
        images = self.config.images_before(self.step)  # also of a grown run: its new layers begin as noise
        for average, live in ((self.g_ema, self.g), (self.e_ema, self.e)):
            move_average(average, live, batch=batch, images=images, half_life=self.config.ema_images)

    def _start_adversarial(self) -> None:
        """Fit the mapping network to the distribution of the codes, and w_avg to their mean; D starts from nothing."""
        if not (self.config.reconstruction_steps and self.config.mapping_fit_steps):
            return
        code_ND = torch.cat([self._codes(batch, averaged=True).mean(dim=1) for batch in self._all_pictures()])
        fit_mapping(self.g, code_ND, seed=self.config.seed, steps=self.config.mapping_fit_steps)
        self.g_ema.mapping.load_state_dict(self.g.mapping.state_dict())
        self.g_ema.truncation.load_state_dict(self.g.truncation.state_dict())

    def _all_pictures(self) -> Iterator[Tensor]:
        """In batches: as float32 they are four times the archive."""
        return map(self.pictures.take, torch.arange(len(self.pictures)).split(64))

    # -- what a person looks at --------------------------------------------------------------------------------

    def reconstruct(self, image_BCHW: Tensor) -> Tensor:
        return self._synthesize(self._codes(image_BCHW, averaged=True), averaged=True)

    def rows(self, real_BCHW: Tensor) -> list[Tensor]:
        """W+ and W reconstructions, then samples of the same z at every truncation."""
        w_BLD = self._codes(real_BCHW, averaged=True)
        in_w_BLD = w_BLD.mean(1, keepdim=True).expand_as(w_BLD)
        z_BZ = self._latents(len(real_BCHW))
        codes = [w_BLD, in_w_BLD, *(self.g_ema.map(z_BZ, psi=psi) for psi in PSIS)]
        return [self._synthesize(each, averaged=True) for each in codes]

    @torch.no_grad()
    def compare(self) -> dict[str, float]:
        """KID of samples and training pictures, on the features of each network that was given."""
        embeds = embedders(self.lpips, self.identity)
        if not embeds:
            return {}
        count = min(COMPARED, len(self.pictures))
        index_N = torch.randperm(len(self.pictures), generator=torch.Generator().manual_seed(0))[:count]
        real = [self.pictures.take(part) for part in index_N.split(64)]
        codes = (self.g_ema.map(z_BZ, psi=1.0) for z_BZ in self._latents(COMPARED).split(64))
        fake = [self._synthesize(w_BLD, averaged=True) for w_BLD in codes]
        figures: dict[str, float] = {}
        for name, embed in embeds.items():
            estimate = kid(torch.cat([*map(embed, fake)]), torch.cat([*map(embed, real)]))
            figures |= {f"kid_{name}": round(estimate.value, 6), f"kid_{name}_error": round(estimate.error, 6)}
        return figures

    def _latents(self, count: int) -> Tensor:
        """The same z each time, on whatever device."""
        draw = torch.Generator().manual_seed(0)
        return torch.randn(count, self.config.generator.z_dim, generator=draw).to(self.device)


def _architectures(config: GeneratorTraining) -> Architectures:
    return Architectures(generator=config.generator, encoder=config.encoder, discriminator=config.discriminator)
