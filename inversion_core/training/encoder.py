"""Training of an encoder for a frozen generator, domain-guided (Zhu 2020): the picture must come back through G.

The loss is that of the pictures (real ones through G(E(x)), with the pack's own features beside pixels), on
synthetic pairs that of the codes, and, where there is a discriminator, how far G(E(x)) is from passing as real.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from inversion_core.models import DiscriminatorConfig, Encoder
from inversion_core.models.encoder import is_deepened
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.packs import Pack
from inversion_core.training.base import BaseTrainer
from inversion_core.training.critics import STYLEGAN, Critic, check_critic, make_critic
from inversion_core.training.data import PictureSet
from inversion_core.training.identity import IdentityDistance
from inversion_core.training.objectives import picture_distance
from inversion_core.training.options import TrainingOptions
from inversion_core.training.precision import synthesize
from inversion_core.training.projected import ProjectedAdversary
from inversion_core.training.recording import recordable_adam
from inversion_core.training.run import RunFolder
from inversion_core.training.schedule import move_average, rate_factor, set_rates

GENERATOR = "generator_sha256"
"""The fact that ties a run to its generator."""


@dataclass(frozen=True, kw_only=True)
class EncoderTraining(TrainingOptions):
    """Everything that shapes a run; kept in its checkpoint."""

    discriminator: DiscriminatorConfig | None = None
    """StyleGAN's; None, and no projected critic: no adversarial term."""
    critic: str = STYLEGAN
    """Who judges: "stylegan", the discriminator where there is one, or "projected" (projected.py)."""
    steps: int = 10_000
    batch_size: int = 8
    """Real pictures a step; as many synthetic ones are drawn beside them."""
    rate: float = 1e-3
    """Adam's."""
    feature_weight: float = 1.0
    """Weight of the pack's own loss (equation 1) between pictures and their reconstructions."""
    latent_weight: float = 0.5
    """Weight of the mean square distance of the codes on synthetic pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_critic(self.critic)
        if min(self.steps, self.feature_weight, self.latent_weight) < 0:
            raise ValueError("steps, feature_weight and latent_weight must not be negative")


class EncoderTrainer(BaseTrainer[EncoderTraining]):
    """The encoder, its average and optimizer; `run` goes on from the folder's checkpoint to the last step."""

    title: ClassVar[str] = "encoder"

    def __init__(self, config: EncoderTraining, pack: Pack, pictures: PictureSet, held_out: PictureSet,
                 folder: RunFolder, *, lpips: LPIPSSqueeze | None = None, identity: IdentityDistance | None = None,
                 critic: Mapping[str, Mapping[str, Tensor]] | None = None):  # fmt: skip
        """`critic` holds what a new run's begins with, where it has one: states by the names of `modules`."""
        super().__init__(config, pictures, held_out, folder, lpips=lpips, identity=identity, device=pack.device)
        self.pack = pack
        self.e = Encoder(config.encoder).to(self.device)
        if isinstance(pack.encoder, Encoder) and is_deepened(config.encoder, pack.encoder.config):
            self.e.take_over(pack.encoder)
        self.e_ema = copy.deepcopy(self.e).requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(
            self.e.parameters(), lr=config.rate, betas=(0.9, 0.99), **recordable_adam(self.device)
        )
        self.optimizer.param_groups[0]["rate"] = config.rate
        self.adversary = self._adversary(config, critic)
        if not self.restore() and critic is None and isinstance(self.adversary, ProjectedAdversary):
            self.adversary.calibrate(self.pictures)

    def _adversary(self, config: EncoderTraining, states: Mapping[str, Mapping[str, Tensor]] | None) -> Critic | None:
        if config.discriminator is None and config.critic == STYLEGAN:
            return None
        critic = make_critic(
            config.critic, config.discriminator, config, lpips=self.lpips, rate=config.rate, autocast=self.autocast,
            device=self.device,
        )  # fmt: skip
        if states is not None:
            for name, state in states.items():
                critic.modules()[name].load_state_dict(state)
        return critic

    @property
    def total_steps(self) -> int:
        return self.config.steps

    def modules(self) -> dict[str, nn.Module]:
        own: dict[str, nn.Module] = {"e": self.e, "e_ema": self.e_ema}
        return own if self.adversary is None else {**own, **self.adversary.modules()}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        own: dict[str, torch.optim.Optimizer] = {"e": self.optimizer}
        return own if self.adversary is None else {**own, "d": self.adversary.optimizer}

    def facts(self) -> dict[str, Any]:
        manifest = self.pack.manifest
        return {**super().facts(), GENERATOR: manifest.files.get(manifest.weight_files["generator"])}

    # -- one step --------------------------------------------------------------------------------------------

    def learn(self, real_BCHW: Tensor) -> Mapping[str, Tensor]:
        """One step on real pictures and as many synthetic ones."""
        factor = rate_factor(
            self.step, self.config.steps, warmup_steps=self.config.warmup_steps, final=self.config.final_rate
        )
        set_rates(self.optimizer, "rate", factor)
        kind: tuple[Hashable, ...] = (self.first_identity(len(real_BCHW)),)
        if self.adversary is not None:
            set_rates(self.adversary.optimizer, "rate", factor)
            kind = *kind, self.adversary.kind_of(self.step)
        losses = self.recorder(kind, self._update, real_BCHW)
        batch = len(real_BCHW)
        images = self.step * batch
        move_average(self.e_ema, self.e, batch=batch, images=images, half_life=self.config.ema_images)
        return losses

    def _update(self, real_BCHW: Tensor) -> dict[str, Tensor]:
        """The step itself: losses, gradients, Adam."""
        batch = len(real_BCHW)
        target_BCHW = self.target(real_BCHW)
        with torch.no_grad():
            w_BLD = self.pack.map(torch.randn(batch, self.pack.z_dim, device=self.device))
            synthetic_BCHW = self._synthesize(w_BLD)
        code_BLD = self._codes(self.e, torch.cat([target_BCHW, synthetic_BCHW]))
        image_BCHW = self._synthesize(code_BLD[:batch])
        losses = {
            "picture": picture_distance(image_BCHW, target_BCHW, self.lpips, self.config),
            "latent": self.config.latent_weight * (code_BLD[batch:] - w_BLD).square().mean(),
            **self.identity_loss(image_BCHW, target_BCHW),
        }
        if self.config.feature_weight:
            losses["features"] = self.config.feature_weight * self.pack.loss(image_BCHW, target_BCHW).mean()
        total = torch.stack(list(losses.values())).sum()
        if self.adversary is not None:
            losses["g"] = self.adversary.fooled(image_BCHW)
            total = total + self.config.adversarial_weight * losses["g"]
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.clip(self.e)
        self.optimizer.step()
        if self.adversary is not None:
            losses |= self.adversary.train_step(real_BCHW, image_BCHW.detach(), step=self.step)
        return losses

    def _synthesize(self, w_BLD: Tensor) -> Tensor:
        return synthesize(self.pack.generator.synthesis, w_BLD, self.config.precision)

    def _codes(self, encoder: Encoder, image_BCHW: Tensor) -> Tensor:
        with self.autocast():
            w_BLD: Tensor = encoder(image_BCHW)
        return w_BLD.float()

    # -- what a person looks at ------------------------------------------------------------------------------

    def reconstruct(self, image_BCHW: Tensor) -> Tensor:
        return self._synthesize(self._codes(self.e_ema, image_BCHW))

    def distances(self, image_BCHW: Tensor, real_BCHW: Tensor) -> dict[str, Tensor]:
        """The pack's own loss beside the others."""
        own = {"held_out_loss": self.pack.loss(image_BCHW, real_BCHW).mean()}
        return super().distances(image_BCHW, real_BCHW) | own

    def rows(self, real_BCHW: Tensor) -> list[Tensor]:
        return [self.reconstruct(real_BCHW)]
