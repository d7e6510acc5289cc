"""Training of a learned optimizer on synthetic pairs: algorithm 1 of the paper, and unrolls longer than its one step.

At each step the loss of equation 1 is differentiated to the code; that gradient, with the latent loss's own beside
it, goes on through the last update into the optimizer's weights (docs/math.md, equation 9). So one pass through G
gives both what the optimizer sees and what it learns from.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inversion_core.inverter import BestSteps, differentiate, iterate
from inversion_core.latents import Latent
from inversion_core.loss import InversionLoss, focus_map
from inversion_core.optimizers import AnyOptimizer, Evaluation, looks
from inversion_core.options import check_focus
from inversion_core.packs import Pack
from inversion_core.progress import progress
from inversion_core.training.options import check_counts, check_precision
from inversion_core.training.pairs import Mixture, Pairs, draw_pairs
from inversion_core.training.precision import autocast
from inversion_core.training.run import RunFolder
from inversion_core.training.schedule import rate_factor


@dataclass(frozen=True, kw_only=True)
class OptimizerTraining:
    """Everything that shapes a run; kept in its checkpoint. The defaults are the paper's where it states one."""

    start: str = "encoder"
    """"encoder" or "random" (section 3.3); "any": batches of either in turn, for weights that serve both."""
    pairs: int = 5_000
    """Synthetic pictures; drawn from in turn until the run stops."""
    batch_size: int = 8
    iterations: int = 50
    """Updates of each picture's code, T of algorithm 1."""
    objective: str = "loss"
    """"loss", or "log-loss": then a late step, where the loss is small, counts as much as an early one."""
    targets: str = "mapped"
    """"mapped": pictures of mapped z, as the paper has them; "mixed": harder ones; "pictures": these and the
    archive's own training pictures. See pairs.Mixture."""
    unroll: int = 1
    """Updates through which the loss reaches the weights; the paper's is 1."""
    rate: float = 1e-4
    """Adam's, for the weights."""
    final_rate: float = 1.0
    """Factor of the rate after the last of `max_pictures`, to which it falls by a cosine from the middle on."""
    begun_rate: float = 1.0
    """Factor of the rate for those weights that begin as another network's."""
    warmup_batches: int = 0
    """Batches until the rate is whole."""
    focus: float = 0.0
    """Largest focus of the training pictures' pixel terms (loss.py): half of them have none, the others one between.
    What is measured on real pictures has none. 0: the paper's loss."""
    latent_weight: float = 1.0
    """Of the mean square distance from the true code (the paper's Gt loss)."""
    last_weight: float = 1.0
    """Of both losses after the last update; the first has 1, those between lie on a line."""
    averaging: float = 0.0
    """Decay of a moving average of the weights, one step of which is a step of theirs. The average is what is measured
    and kept; 0: the weights themselves."""
    clip: float = 1.0
    """Largest norm of the weights' gradient; a picture that diverges would else undo what was learned."""
    evaluate_every: int = 100
    """Training pictures between two evaluations on real pictures."""
    patience: int = 1_000
    """Training pictures without a lower loss on real pictures after which the run stops."""
    max_pictures: int = 20_000
    """Training pictures after which it stops in any case."""
    precision: str = "float32"
    """Of the generator and F in training steps, "float32" or "bfloat16"; what is measured is always float32."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.start not in ("encoder", "random", "any"):
            raise ValueError(f"start is {self.start!r}; choose encoder, random or any")
        if self.objective not in ("loss", "log-loss"):
            raise ValueError(f"objective is {self.objective!r}; choose loss or log-loss")
        if self.targets not in ("mapped", "mixed", "pictures"):
            raise ValueError(f"targets is {self.targets!r}; choose mapped, mixed or pictures")
        check_precision(self.precision)
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging is {self.averaging}; it must be from 0 to below 1")
        check_counts(self, "pairs", "batch_size", "iterations", "unroll", "evaluate_every", "patience", "max_pictures")
        for name in ("final_rate", "begun_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0, and 1 at most")
        if self.warmup_batches < 0:
            raise ValueError(f"warmup_batches is {self.warmup_batches}; it must be 0 or more")
        check_focus(self.focus)
        if not (self.rate > 0 and self.clip > 0 and self.latent_weight >= 0 and self.last_weight > 0):
            raise ValueError("rate, clip and last_weight must be above 0, latent_weight 0 or more")

    def weight(self, t: int) -> float:
        """Of the losses after update t, counted from 1."""
        return 1 + (self.last_weight - 1) * (t - 1) / max(self.iterations - 1, 1)


class OptimizerTrainer:
    """The network and its best weights so far; `run` goes on from the folder's checkpoint until it has to stop."""

    def __init__(
        self,
        config: OptimizerTraining,
        pack: Pack,
        network: nn.Module,
        optimizer: Callable[[nn.Module], AnyOptimizer],
        real_BCHW: Tensor,
        folder: RunFolder,
        *,
        mixture: Mixture | None = None,
        begun: Iterable[nn.Parameter] = (),
        facts: Mapping[str, Any] | None = None,
    ):
        """`optimizer` makes an optimizer of the network; `real_BCHW` are the real pictures that say when to stop.

        `mixture` is what mixed targets are made of. `begun` are the weights that `config.begun_rate` is for. `facts`
        say what the network is; they are kept in the checkpoint.
        """
        self.config, self.pack, self.folder = config, pack, folder
        self.network = network.to(pack.device)
        self.best = {key: value.detach().clone() for key, value in network.state_dict().items()}
        self._make_optimizer = optimizer
        self.optimizer = optimizer(self.network)
        self.real_BCHW = real_BCHW.to(pack.device)
        self._parameters = list(self.network.parameters())
        self._adam = torch.optim.Adam(_groups(self._parameters, begun, config.begun_rate), lr=config.rate)
        self._average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(config.averaging))
        self._average.requires_grad_(False)
        self.batch, self.best_loss, self.best_pictures = 0, math.inf, 0
        self.untrained_loss = math.nan  # on real pictures
        self.facts = dict(facts or {})
        self._mixture = mixture
        self._restore()

    @property
    def pictures(self) -> int:
        """Training pictures seen."""
        return self.batch * self.config.batch_size

    @property
    def is_done(self) -> bool:
        """Early stopping, or the end of the budget; or nothing in the network is trained."""
        if not self._parameters:
            return math.isfinite(self.best_loss)
        waited = self.pictures - self.best_pictures
        return self.pictures >= self.config.max_pictures or (self.pictures > 0 and waited > self.config.patience)

    # -- the run -----------------------------------------------------------------------------------------------

    def run(self, *, until: int | None = None) -> None:
        """Train until the loss on real pictures has stopped falling, or for `until` training pictures."""
        last = min(until or self.config.max_pictures, self.config.max_pictures)
        batches = self._batches()
        if self.pictures == 0:
            self.untrained_loss = self.measure()
            self._evaluate({}, self.untrained_loss)
        with progress(total=last, initial=self.pictures, unit="picture", desc="optimizer") as bar:
            while self.pictures < last and not self.is_done:
                losses = self.train_batch(next(batches))
                self.batch += 1
                bar.update(self.config.batch_size)
                if self._is_due():
                    bar.set_postfix(self._evaluate(losses, self.measure()), refresh=False)

    def train_batch(self, pairs: Pairs) -> dict[str, float]:
        """Algorithm 1 on one batch; mean losses of the first and of the last step."""
        loss = self._loss(pairs.target_BCHW, self._drawn_weights(len(pairs.target_BCHW)))
        latent = Latent(w_BLD=pairs.start_BLD)
        state = self.optimizer.init(latent)
        window: list[tuple[Tensor, Tensor]] = []
        means = []
        for t in range(self.config.iterations + 1):
            found = self._evaluation(loss, latent)
            means.append(float(found.loss_B.nanmean()))
            w_BLD, grad_BLD = _without_diverged(latent.w_BLD, found.grad, pairs.w_BLD)
            if t > 0:
                cotangent_BLD = self._cotangent(grad_BLD, found.loss_B, w_BLD.detach(), pairs.w_BLD)
                window.append((w_BLD, self.config.weight(t) * cotangent_BLD))
            if len(window) == self.config.unroll:
                self._learn(window)
                window.clear()
                w_BLD, state = w_BLD.detach(), _detached(state)
            if t < self.config.iterations:
                latent, state = self.optimizer.step(Latent(w_BLD=w_BLD), replace(found, grad=grad_BLD), state)
        if window:
            self._learn(window)
        return {"first_loss": means[0], "last_loss": means[-1]}

    def _loss(self, target_BCHW: Tensor, weight_B1HW: Tensor | None = None) -> InversionLoss:
        return InversionLoss(
            target_BCHW, features=self.pack.features, perceptual_weight=self.pack.perceptual_weight,
            weight_B1HW=weight_B1HW,
        )  # fmt: skip

    def _drawn_weights(self, batch: int) -> Tensor | None:
        """Of the pixels of a batch; a resumed run draws what an unbroken one draws."""
        if not self.config.focus:
            return None
        seed = self.config.seed * 1_000_003 + self.batch
        weights_B1HW = drawn_focus(self.config.focus, self.pack.resolution, batch=batch, seed=seed)
        return weights_B1HW.to(self.pack.device)

    def _evaluation(self, loss: InversionLoss, latent: Latent) -> Evaluation:
        """Of equation 1; its gradient is to the code alone, not to what made it."""
        leaf = latent.mapped(lambda w_BLD: w_BLD.detach().requires_grad_())
        with autocast(leaf.w_BLD.device, self.config.precision):
            image_BCHW = self.pack.synthesize(leaf)
            terms = loss.terms(image_BCHW)
        return differentiate(loss, terms, leaf, image_BCHW, with_look=looks(self.optimizer))

    def _cotangent(self, grad_BLD: Tensor, loss_B: Tensor, w_BLD: Tensor, truth_BLD: Tensor) -> Tensor:
        """What flows into the updates: both losses' gradients to the code, of the mean over the batch."""
        if self.config.objective == "log-loss":
            grad_BLD = (grad_BLD / loss_B[:, None, None]).nan_to_num(0.0, 0.0, 0.0)
        latent_BLD = self.config.latent_weight * 2 * (w_BLD - truth_BLD) / truth_BLD[0].numel()
        return (grad_BLD + latent_BLD) / len(w_BLD)

    def _learn(self, window: list[tuple[Tensor, Tensor]]) -> None:
        """One step of the weights, from the updates of the window; none where their gradient is not finite."""
        self._adam.zero_grad(set_to_none=True)
        codes, cotangents = zip(*window, strict=True)
        torch.autograd.backward(codes, cotangents)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        if norm.isfinite():
            for group in self._adam.param_groups:  # not `set_rates`: this Adam is not recorded, its rate is a float
                group["lr"] = group["factor"] * self._rate()
            self._adam.step()
            self._average.update_parameters(self.network)

    def _rate(self) -> float:
        config = self.config
        batches = config.max_pictures // config.batch_size
        return config.rate * rate_factor(
            self.batch, batches, warmup_steps=config.warmup_batches, final=config.final_rate
        )

    # -- when to stop --------------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        every, size = self.config.evaluate_every, self.config.batch_size
        return self.pictures // every > (self.pictures - size) // every

    def _evaluate(self, losses: dict[str, float], real_loss: float) -> dict[str, float]:
        """Log the loss on real pictures, keep the best weights, save."""
        if real_loss < self.best_loss:
            self.best_loss, self.best_pictures = real_loss, self.pictures
            self.best = {key: value.detach().clone() for key, value in self._measured.state_dict().items()}
        row = {**losses, "real_loss": real_loss, "best_real_loss": self.best_loss}
        self.folder.log({"pictures": self.pictures, **row})
        self.save()
        return row

    @property
    def _measured(self) -> nn.Module:
        """The network whose weights count."""
        measured: nn.Module = self._average.module if self.config.averaging else self.network
        return measured

    @torch.no_grad()
    def measure(self) -> float:
        """Mean over real pictures of the best loss within the iterations; no latent loss, the truth is not known."""
        loss = self._loss(self.real_BCHW)
        best = BestSteps()
        steps = iterate(
            self._real_starts(), synthesize=self.pack.synthesize, loss=loss,
            optimizer=self._make_optimizer(self._measured), num_steps=self.config.iterations,
        )  # fmt: skip
        for step in steps:
            best.update(step)
        return float(best.loss_B.mean())

    def _real_starts(self) -> Tensor:
        """Of start "any" every second picture begins at random."""
        if self.config.start == "encoder":
            return self.pack.encode(self.real_BCHW)
        z_NZ = torch.randn(
            len(self.real_BCHW), self.pack.z_dim, generator=torch.Generator().manual_seed(self.config.seed + 1)
        )
        random_BLD = self.pack.map(z_NZ.to(self.pack.device))
        if self.config.start == "random" or not self.pack.has_encoder:
            return random_BLD
        odd_B11 = (torch.arange(len(random_BLD), device=random_BLD.device) % 2 == 1)[:, None, None]
        return torch.where(odd_B11, random_BLD, self.pack.encode(self.real_BCHW))

    # -- keeping ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        facts = {
            "batch": self.batch,
            "best_loss": self.best_loss,
            "best_pictures": self.best_pictures,
            "untrained_loss": self.untrained_loss,
            "config": dataclasses.asdict(self.config),
            **self.facts,
        }
        self.folder.save(self._modules(), {"theta": self._adam}, facts)

    def _modules(self) -> dict[str, nn.Module]:
        return {**self._trained(), "best": _Kept(self.best)}

    def _trained(self) -> dict[str, nn.Module]:
        average: dict[str, nn.Module] = {"average": self._average} if self.config.averaging else {}
        return {"network": self.network, **average}

    def _restore(self) -> None:
        kept = _Kept(self.best)
        facts = self.folder.load({**self._trained(), "best": kept}, {"theta": self._adam})
        if facts is not None:
            self.best = kept.tensors()
            self.batch, self.best_loss = int(facts["batch"]), float(facts["best_loss"])
            self.best_pictures = int(facts["best_pictures"])
            self.untrained_loss = float(facts.get("untrained_loss", math.nan))

    def _batches(self, size: int | None = None, seed: int | None = None) -> Iterator[Pairs]:
        return draw_pairs(
            self.pack, self.config.start, pairs=self.config.pairs, batch_size=size or self.config.batch_size,
            seed=self.config.seed if seed is None else seed, first=0 if size else self.batch, mixture=self._mixture,
        )  # fmt: skip


def drawn_focus(largest: float, side_px: int, *, batch: int, seed: int) -> Tensor:
    """Weights of pixels (B, 1, H, W): of half of the pictures all 1, else those of a focus between 0 and `largest`."""
    drawn_B = torch.rand(batch, generator=torch.Generator().manual_seed(seed))
    focus_B = largest * (2 * drawn_B - 1).clamp(min=0)
    return torch.stack([focus_map(focus, side_px) for focus in focus_B.tolist()])[:, None]


def _groups(parameters: list[nn.Parameter], begun: Iterable[nn.Parameter], factor: float) -> list[dict[str, Any]]:
    """What Adam is made of: those at the whole rate, and those at a part of it."""
    slow = {id(parameter) for parameter in begun}
    fast = [parameter for parameter in parameters if id(parameter) not in slow]
    groups: list[dict[str, Any]] = [{"params": fast or [torch.zeros(())], "factor": 1.0}]
    if slow:
        groups.append({"params": [parameter for parameter in parameters if id(parameter) in slow], "factor": factor})
    return groups


class _Kept(nn.Module):
    """Tensors as a module, for the checkpoint; a dot is no part of a buffer's name."""

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__()
        for name, value in tensors.items():
            self.register_buffer(name.replace(".", "/"), value)

    def tensors(self) -> dict[str, Tensor]:
        return {name.replace("/", "."): value.clone() for name, value in self.named_buffers()}


def _without_diverged(w_BLD: Tensor, grad_BLD: Tensor, truth_BLD: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and gradients in which a picture that has diverged stands at its truth, where nothing is to be learned."""
    sound_B11 = (grad_BLD.isfinite() & w_BLD.detach().isfinite()).all(dim=2).all(dim=1)[:, None, None]
    if sound_B11.all():
        return w_BLD, grad_BLD
    return torch.where(sound_B11, w_BLD, truth_BLD), torch.where(sound_B11, grad_BLD, 0.0)


def _detached(state: tuple[Any, ...]) -> tuple[Any, ...]:
    return type(state)(*(value.detach() for value in state))
