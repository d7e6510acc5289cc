"""The discriminator's side of a training: its network, optimizer, augmentation and losses.

Non-saturating loss (Goodfellow 2014), lazy R1 (Mescheder 2018, Karras 2020), adaptive augmentation (ADA).
Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models import Discriminator, DiscriminatorConfig
from inversion_core.training.augment import Augmentation
from inversion_core.training.options import TrainingOptions
from inversion_core.training.recording import recordable_adam


class BaseAdversary:
    """What every critic has beside its network: augmentation, optimizer, precision."""

    def __init__(self, d: nn.Module, options: TrainingOptions, *, rate: float,
                 autocast: Callable[[], AbstractContextManager[object]], device: str | torch.device):  # fmt: skip
        """`autocast` makes the context of the dear part; `rate` is Adam's where the options name none."""
        self.options, self.autocast = options, autocast
        self._network = d
        self.augmentation = Augmentation(
            options.augment_probability, target=options.augment_target, images=options.augment_images
        ).to(device)
        rate = options.discriminator_rate or rate
        self.optimizer = torch.optim.Adam(
            d.parameters(), lr=rate, betas=(0.0, 0.99), **recordable_adam(torch.device(device))
        )
        self.optimizer.param_groups[0]["rate"] = rate

    def modules(self) -> dict[str, nn.Module]:
        """What goes into a checkpoint. A fixed probability is the configuration's affair."""
        return {"d": self._network} | ({} if self.options.augment_target is None else {"augment": self.augmentation})


class Adversary(BaseAdversary):
    """D and what belongs to it. Pictures of different kinds are judged in one call, but never in one group."""

    def __init__(self, config: DiscriminatorConfig, options: TrainingOptions, *, rate: float,
                 autocast: Callable[[], AbstractContextManager[object]], device: str | torch.device):  # fmt: skip
        self.d = Discriminator(config).to(device)
        super().__init__(self.d, options, rate=rate, autocast=autocast, device=device)
        self.trunk: Callable[[Tensor], Tensor] = self.d.trunk
        """Body of D; a growing run puts a fading one in its place."""

    def judge(self, *pictures_BCHW: Tensor) -> list[Tensor]:
        """Logits of several batches in one call; each batch has minibatch deviations of its own."""
        return self._logits(self.augmentation(torch.cat(pictures_BCHW)), [len(each) for each in pictures_BCHW])

    def fooled(self, *fakes_BCHW: Tensor) -> Tensor:
        """The generator's loss: how far the pictures are from passing as real. D gets no gradient."""
        self.d.requires_grad_(False)
        logits = self.judge(*fakes_BCHW)
        self.d.requires_grad_(True)
        return F.softplus(-torch.cat(logits)).mean()

    def kind_of(self, step: int) -> Hashable:
        """Equal for steps of D that do the same, its rate aside."""
        return step % self.options.r1_every == 0, self.augmentation.moves_at(step)

    def train_step(self, real_BCHW: Tensor, *fakes_BCHW: Tensor, step: int) -> dict[str, Tensor]:
        """One step of D, at the rate that was set; the losses by name."""
        if step % self.options.r1_every == 0:
            real_logit_B, penalty = self._judge_with_r1(real_BCHW)
            fake_logits = self.judge(*fakes_BCHW)
        else:
            real_logit_B, *fake_logits = self.judge(real_BCHW, *fakes_BCHW)
            penalty = None
        fake_logit_B = torch.cat(fake_logits)
        loss = F.softplus(-real_logit_B).mean() + F.softplus(fake_logit_B).mean()
        losses = {"d": loss, "d_real": real_logit_B.mean(), "d_fake": fake_logit_B.mean()}
        if penalty is not None:
            loss = loss + self.options.r1_gamma / 2 * self.options.r1_every * penalty
            losses["r1"] = penalty
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        losses["d_sign"] = self.augmentation.adapt(real_logit_B.detach(), step)
        losses["augment_p"] = self.augmentation.probability.clone()
        return losses

    def _judge_with_r1(self, real_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and R1: the mean squared gradient of D at the pictures as it sees them, changed ones, in float32.

        The changes lie before the point where the gradient is taken, so nothing of them needs a second derivative.
        """
        seen_BCHW = self.augmentation(real_BCHW).detach().requires_grad_()
        with torch.autocast(seen_BCHW.device.type, enabled=False):
            logit_B = self.d.head(self.trunk(seen_BCHW))
            (grad_BCHW,) = torch.autograd.grad(logit_B.sum(), seen_BCHW, create_graph=True)
        return logit_B, grad_BCHW.square().sum(dim=(1, 2, 3)).mean()

    def _logits(self, image_BCHW: Tensor, sizes: list[int]) -> list[Tensor]:
        with self.autocast():
            x = self.trunk(image_BCHW)
        return [self.d.head(part) for part in x.float().split(sizes)]
