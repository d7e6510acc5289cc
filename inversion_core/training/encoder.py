"""Training of an encoder for a frozen generator, domain-guided (Zhu 2020): the picture must come back through G.

The loss is that of the pictures (real ones through G(E(x)), with the pack's own features beside pixels) and,
on synthetic pairs, that of the codes.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inversion_core.models import Encoder, EncoderConfig
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.packs import Pack
from inversion_core.pictures import grid, to_image
from inversion_core.training.data import PictureSet
from inversion_core.training.loop import train
from inversion_core.training.objectives import picture_distance
from inversion_core.training.run import RunFolder
from inversion_core.training.schedule import move_average, rate_factor


@dataclass(frozen=True, kw_only=True)
class EncoderTraining:
    """Everything that shapes a run; kept in its checkpoint."""

    encoder: EncoderConfig
    steps: int = 10_000
    batch_size: int = 8
    """Real pictures a step; as many synthetic ones are drawn beside them."""
    rate: float = 1e-3
    """Adam's."""
    warmup_steps: int = 100
    final_rate: float = 0.2
    """Factor of the rate at the end."""
    lpips_weight: float = 0.5
    """Weight of LPIPS beside twice the L1 distance; 0 where no such network is given."""
    feature_weight: float = 1.0
    """Weight of the pack's own loss (equation 1) between pictures and their reconstructions."""
    latent_weight: float = 0.5
    """Weight of the mean square distance of the codes on synthetic pairs."""
    ema_images: int = 8_000
    """Half life of the moving average, in images."""
    seed: int = 0


class EncoderTrainer:
    """The encoder, its average and optimizer; `run` goes on from the folder's checkpoint to the last step."""

    def __init__(
        self,
        config: EncoderTraining,
        pack: Pack,
        pictures: PictureSet,
        held_out: PictureSet,
        folder: RunFolder,
        *,
        lpips: LPIPSSqueeze | None = None,
    ):
        torch.manual_seed(config.seed)
        self.config, self.pack, self.pictures, self.held_out, self.folder = config, pack, pictures, held_out, folder
        self.lpips = None if lpips is None else lpips.to(pack.device)
        self.e = Encoder(config.encoder).to(pack.device)
        if pack.encoder is not None and pack.encoder.config == config.encoder:
            self.e.load_state_dict(pack.encoder.state_dict())
        self.e_ema = copy.deepcopy(self.e).requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.e.parameters(), lr=config.rate, betas=(0.9, 0.99))
        facts = folder.load(self._modules(), {"e": self.optimizer})
        self.step = 0 if facts is None else int(facts["step"])

    def run(self, *, until: int | None = None, sample_every: int = 500) -> None:
        """Train to the last step, or to `until`."""
        last = min(until or self.config.steps, self.config.steps)
        batches = self.pictures.batches(self.config.batch_size, self.config.seed, start=self.step)
        train(self, batches, until=last, sample_every=sample_every, title="encoder")

    def train_step(self, real_BCHW: Tensor) -> dict[str, float]:
        """One step on real pictures and as many synthetic ones."""
        torch.manual_seed(self.config.seed * 7_919 + self.step)  # a resumed run draws what an unbroken one draws
        real_BCHW = real_BCHW.to(self.pack.device)
        batch = len(real_BCHW)
        with torch.no_grad():
            w_BLD = self.pack.map(torch.randn(batch, self.pack.z_dim, device=self.pack.device))
            synthetic_BCHW = self.pack.synthesize(w_BLD)
        code_BLD = self.e(torch.cat([real_BCHW, synthetic_BCHW]))
        image_BCHW = self.pack.synthesize(code_BLD[:batch])
        losses = {
            "picture": picture_distance(image_BCHW, real_BCHW, self.lpips, self.config.lpips_weight),
            "features": self.config.feature_weight * self.pack.loss(image_BCHW, real_BCHW).mean(),
            "latent": self.config.latent_weight * (code_BLD[batch:] - w_BLD).square().mean(),
        }
        self.optimizer.param_groups[0]["lr"] = self.config.rate * rate_factor(
            self.step, self.config.steps, warmup_steps=self.config.warmup_steps, final=self.config.final_rate
        )
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        move_average(self.e_ema, self.e, batch=batch, step=self.step, half_life=self.config.ema_images)
        return {name: float(value.detach()) for name, value in losses.items()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Distances on held-out pictures: MSE in [-1, 1], the pack's loss, LPIPS."""
        real = self.held_out.take(torch.arange(min(32, len(self.held_out)))).to(self.pack.device)
        image = self.pack.synthesize(self.e_ema(real))
        figures = {"held_out_mse": (image - real).square().mean(), "held_out_loss": self.pack.loss(image, real).mean()}
        if self.lpips is not None:
            figures["held_out_lpips"] = self.lpips(image, real).mean()
        return {name: round(float(value), 5) for name, value in figures.items()}

    @torch.no_grad()
    def sample(self, columns: int = 12) -> Path:
        """Write a sheet: held-out pictures above their reconstructions."""
        columns = min(columns, len(self.held_out))
        real = self.held_out.take(torch.arange(columns)).to(self.pack.device)
        rows = [real, self.pack.synthesize(self.e_ema(real))]
        file = self.folder.path / f"sample-{self.step:07d}.png"
        grid([to_image(image) for row in rows for image in row.cpu()], columns).save(file)
        return file

    def save(self) -> None:
        facts: dict[str, Any] = {"step": self.step, "config": dataclasses.asdict(self.config)}
        self.folder.save(self._modules(), {"e": self.optimizer}, facts)

    def _modules(self) -> dict[str, nn.Module]:
        return {"e": self.e, "e_ema": self.e_ema}
