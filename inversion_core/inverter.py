"""The inversion loop: read this first.

`invert` takes a pack and pictures. It yields the start, then one Step after each update of the codes
(docs/math.md, equations 1 and 3). It has no side effects.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from inversion_core.errors import OptionInvalid
from inversion_core.latents import Latent
from inversion_core.loss import InversionLoss, Loss, LossTerms, TermsLoss, focus_map, with_terms
from inversion_core.optimizers import (
    OPTIMIZERS,
    AnyOptimizer,
    Evaluation,
    Look,
    build_optimizer,
    looks,
    restore_state,
    state_tensors,
)
from inversion_core.optimizers.catalogue import SCHEDULE_SETTINGS
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.options import STARTS as STARTS
from inversion_core.options import InvertConfig as InvertConfig

if TYPE_CHECKING:
    from inversion_core.packs import Pack


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything needed to resume after a Step, with the same result."""

    index: int
    w_BLD: Tensor
    state: dict[str, Tensor]

    def to_bytes(self) -> bytes:
        """Serialize as safetensors."""
        tensors = {"w_BLD": self.w_BLD} | {f"state.{key}": value for key, value in self.state.items()}
        contiguous = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        return save_tensors(contiguous, {"checkpoint": json.dumps({"index": self.index})})

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """Load what `to_bytes` returned.

        Raises:
            SafetensorError, KeyError, ValueError: the bytes are not a checkpoint.
        """
        tensors = load_tensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        index = json.loads(header["__metadata__"]["checkpoint"])["index"]
        state = {key.removeprefix("state."): value for key, value in tensors.items() if key != "w_BLD"}
        return cls(index=int(index), w_BLD=tensors["w_BLD"], state=state)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The state of an inversion after some updates. Its code, picture and loss belong together."""

    index: int
    """Number of updates so far; 0 is the start."""
    terms: LossTerms
    """The terms of the loss."""
    w_BLD: Tensor
    image_BCHW: Tensor
    """G(w), in [-1, 1]."""
    state: tuple[Any, ...] = field(repr=False)
    """The optimizer's state, a NamedTuple of tensors."""

    @property
    def loss_B(self) -> Tensor:
        return self.terms.total_B

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(index=self.index, w_BLD=self.w_BLD, state=state_tensors(self.state))


def invert(pack: Pack, target_BCHW: Tensor, config: InvertConfig | None = None, *, start_BLD: Tensor | None = None,
           mask_B1HW: Tensor | None = None, resume: Checkpoint | None = None, optimizer: AnyOptimizer | None = None,
           loss: Loss | None = None) -> Iterator[Step]:  # fmt: skip
    """Invert pictures into W+ codes: yield the start, then one Step per update.

    The iterator ends after `config.num_steps` updates, or earlier if the losses of all images have become
    infinite or NaN; divergence is not an error. `BestSteps` keeps the best finite Step of each image.

    Args:
        target_BCHW: pictures (B, 3, H, W) in [-1, 1], at the pack's resolution.
        start_BLD: codes to start from, instead of `config.start`.
        mask_B1HW: 1 where the result must match the picture, 0 where it is free; broadcast to (B, 1, H, W).
        resume: continue from this checkpoint. Its own Step is yielded again first.
        optimizer: your own optimizer, instead of `config.optimizer`: any object with the methods `init` and `step`
            of `inversion_core.optimizers.Optimizer`.
        loss: your own loss, instead of equation 1: a function of pictures and codes that returns (B,), or an object
            with the method `terms` of `InversionLoss`. It must handle mask, focus and regulariser itself.

    Raises:
        OptionInvalid: the pack does not support `config`, or `resume` is from another optimizer.
        ValueError: a tensor has the wrong shape.
    """
    config = config or InvertConfig()
    if optimizer is None:
        optimizer = make_optimizer(pack, config, has_code=start_BLD is not None)
    elif config.optimizer is not None or config.learning_rate is not None:
        raise OptionInvalid("an optimizer of your own has its own name and rate; leave them out of the config")
    target_BCHW = pack.check_targets(target_BCHW)
    w_BLD = start_codes(pack, target_BCHW, config) if start_BLD is None else pack.check_codes(start_BLD)
    if loss is None:
        loss = _equation_1(pack, target_BCHW, config, mask_B1HW)
    elif mask_B1HW is not None or config.focus is not None or config.regulariser_weight:
        raise OptionInvalid("a loss of your own does its own masking and weighing; leave out mask, focus, regulariser")
    return iterate(w_BLD, synthesize=pack.synthesize, loss=loss, optimizer=optimizer,
                   num_steps=config.num_steps, resume=resume)  # fmt: skip


def _equation_1(pack: Pack, target_BCHW: Tensor, config: InvertConfig, mask_B1HW: Tensor | None) -> InversionLoss:
    return InversionLoss(
        target_BCHW,
        features=pack.features,
        perceptual_weight=pack.perceptual_weight,
        mask_B1HW=mask_B1HW,
        weight_B1HW=pixel_weights(pack, config),
        encode=pack.encode if config.regulariser_weight else None,
        regulariser_weight=config.regulariser_weight,
    )


def iterate(w_BLD: Tensor, *, synthesize: Callable[[Tensor], Tensor], loss: Loss, optimizer: AnyOptimizer,
            num_steps: int, resume: Checkpoint | None = None) -> Iterator[Step]:  # fmt: skip
    """The loop itself, for any differentiable generator. It needs no pack.

    Args:
        w_BLD: codes to start from, (B, L, D); L = 1 for a generator that takes a single w.
        synthesize: codes to pictures (B, C, H, W), differentiable.
        loss: as in `invert`.
        optimizer: for example `build_optimizer("adam", {"learning_rate": 0.05}, total_steps=num_steps)`.
        num_steps: number of updates.
        resume: as in `invert`.
    Raises:
        OptionInvalid: the optimizer needs to see the pictures, and the loss does not provide them.
    """
    loss = with_terms(loss)
    latent = Latent(w_BLD=w_BLD)
    state, first = optimizer.init(latent), 0
    if resume is not None:
        state, first, latent = restored(optimizer, latent, resume)
    for index in range(first, num_steps + 1):
        latent, image_BCHW, terms = _evaluate(latent, synthesize, loss)
        step = Step(
            index=index,
            terms=_detached(terms),
            w_BLD=latent.w_BLD.detach(),
            image_BCHW=image_BCHW.detach(),
            state=state,
        )
        yield step
        if index == num_steps or not step.loss_B.isfinite().any():
            return
        evaluation = differentiate(loss, terms, latent, image_BCHW, with_look=looks(optimizer))
        latent, state = optimizer.step(latent.mapped(torch.detach), evaluation, state)


def pixel_weights(pack: Pack, config: InvertConfig) -> Tensor | None:
    """Weights of the pixels (1, 1, H, W); None if they are uniform."""
    focus = pack.focus if config.focus is None else config.focus
    return focus_map(focus, pack.resolution)[None, None].to(pack.device) if focus else None


def start_codes(pack: Pack, target_BCHW: Tensor, config: InvertConfig) -> Tensor:
    """The codes (B, L, D) to start from. Random ones depend only on the seed and the position in the batch.

    Raises:
        OptionInvalid: the start is the encoder, and the pack has none.
    """
    kind = start_kind(pack, config)
    batch = len(target_BCHW)
    if kind == "encoder":
        if not pack.has_encoder:
            raise OptionInvalid(f"pack {pack.name} has no encoder; start from 'mean' or 'random'")
        with torch.no_grad():
            return pack.encode(target_BCHW)
    if kind == "mean":
        return pack.mean_codes(batch)
    draw = torch.Generator().manual_seed(config.seed)
    z_BZ = torch.stack([torch.randn(pack.z_dim, generator=draw) for _ in range(batch)])  # one by one: see above
    with torch.no_grad():
        return pack.map(z_BZ.to(pack.device))


def start_kind(pack: Pack, config: InvertConfig) -> str:
    """The start, one of STARTS, that `config` selects for this pack."""
    return config.start or ("encoder" if pack.has_encoder else "mean")


def make_optimizer(pack: Pack, config: InvertConfig, *, has_code: bool = False) -> AnyOptimizer:
    """The optimizer that `config` names, with the pack's settings and a schedule over `config.num_steps`.

    A learning rate in `config` is used as it is, without the pack's schedule, which was tuned for the pack's own rate.
    A resumed run follows the schedule for its own `num_steps`. If settings or learned weights depend on the start,
    those for this start are used.

    Args:
        has_code: the start is a code passed in, which is treated like an encoder's.
    Raises:
        OptionInvalid: the pack does not offer the optimizer, or it takes no learning rate and one is given.
    """
    name = config.optimizer or pack.default_optimizer
    if name not in pack.optimizers or name not in {*OPTIMIZERS, *DESIGNS}:
        raise OptionInvalid(f"optimizer is {name!r}; pack {pack.name} offers {', '.join(sorted(pack.optimizers))}")
    start = "encoder" if has_code else start_kind(pack, config)
    if name in DESIGNS:
        return _make_learned(pack, config, name, start)
    settings = dict(pack.settings(name, start))
    if config.learning_rate is not None:
        settings = {key: value for key, value in settings.items() if key not in SCHEDULE_SETTINGS}
        settings["learning_rate"] = config.learning_rate
    return build_optimizer(name, settings, total_steps=config.num_steps)


def _make_learned(pack: Pack, config: InvertConfig, name: str, start: str) -> AnyOptimizer:
    if config.learning_rate is not None:
        raise OptionInvalid(
            f"learning_rate is {config.learning_rate}, and optimizer {name!r} takes none: its step is learned. "
            f"Leave learning_rate out, or choose a classic optimizer"
        )
    return DESIGNS[name].optimizer(pack.learned_network(name, start))


class BestSteps:
    """Keeps the best finite Step of each image, so more steps never make the result worse."""

    def __init__(self) -> None:
        self.index_B: Tensor | None = None

    def update(self, step: Step) -> None:
        """Take each image of `step` whose loss is finite and lower than its best so far."""
        loss_B = step.loss_B
        finite_B = loss_B.isfinite()
        if self.index_B is None:
            self.loss_B, self.w_BLD, self.image_BCHW = (
                loss_B.clone(),
                step.w_BLD.clone(),
                step.image_BCHW.clone(),
            )
            self.index_B = torch.full_like(loss_B, step.index, dtype=torch.long)
            self.nonfinite_B = ~finite_B  # which images have ever had an infinite or NaN loss
            return
        better_B = finite_B & (~self.loss_B.isfinite() | (loss_B < self.loss_B))
        self.nonfinite_B = self.nonfinite_B | ~finite_B
        self.loss_B = torch.where(better_B, loss_B, self.loss_B)
        self.w_BLD = torch.where(better_B[:, None, None], step.w_BLD, self.w_BLD)
        self.image_BCHW = torch.where(better_B[:, None, None, None], step.image_BCHW, self.image_BCHW)
        self.index_B = torch.where(better_B, step.index, self.index_B)


@torch.enable_grad()
def _evaluate(
    latent: Latent, synthesize: Callable[[Tensor], Tensor], loss: TermsLoss
) -> tuple[Latent, Tensor, LossTerms]:
    latent = latent.with_free(latent.free.detach().requires_grad_())
    image_BCHW = synthesize(latent.w_BLD)
    return latent, image_BCHW, loss.terms(image_BCHW, latent.w_BLD)


@torch.enable_grad()
def differentiate(
    loss: TermsLoss, terms: LossTerms, latent: Latent, image_BCHW: Tensor, *, with_look: bool
) -> Evaluation:
    """What an optimizer is told: the gradient is of the sum over images, so that a batch never changes an image's own.

    Args:
        terms: of `image_BCHW`, which was made of `latent`; the graph between them is used up.
        with_look: for an optimizer that looks; it costs no further pass.
    """
    total_B = terms.total_B
    if not with_look:
        (grad,) = torch.autograd.grad(total_B.sum(), latent.free)
        return Evaluation(loss_B=total_B.detach(), image_BCHW=image_BCHW.detach(), grad=grad)
    if not isinstance(loss, InversionLoss) or terms.masked_BCHW is None or terms.features_BCHW is None:
        raise OptionInvalid(
            "this optimizer looks at the pictures and their features, which a loss of your own does not give: "
            "choose one that does not, such as 'learned-lbfgs' or 'adam', or take an InversionLoss"
        )
    grad, image_grad_BCHW = torch.autograd.grad(total_B.sum(), [latent.free, image_BCHW])
    look = Look(
        target_BCHW=loss.target_BCHW,
        image_BCHW=terms.masked_BCHW.detach(),
        image_grad_BCHW=image_grad_BCHW,
        target_features_BCHW=loss.target_features_BCHW,
        features_BCHW=terms.features_BCHW.detach(),
    )
    return Evaluation(loss_B=total_B.detach(), image_BCHW=image_BCHW.detach(), grad=grad, look=look)


def _detached(terms: LossTerms) -> LossTerms:
    return LossTerms(
        pixel_B=terms.pixel_B.detach(),
        perceptual_B=terms.perceptual_B.detach(),
        regulariser_B=None if terms.regulariser_B is None else terms.regulariser_B.detach(),
        perceptual_weight=terms.perceptual_weight,
        regulariser_weight=terms.regulariser_weight,
    )


def restored(optimizer: AnyOptimizer, latent: Latent, checkpoint: Checkpoint) -> tuple[tuple[Any, ...], int, Latent]:
    """Optimizer state, index and latent of a checkpoint; `latent` gives shape and device.

    Raises:
        OptionInvalid: the checkpoint is from another batch or another optimizer.
    """
    w_BLD = latent.w_BLD
    if checkpoint.w_BLD.shape != w_BLD.shape:
        raise OptionInvalid(
            f"the checkpoint's codes have shape {tuple(checkpoint.w_BLD.shape)}, the pictures need {tuple(w_BLD.shape)}"
        )
    try:
        state: tuple[Any, ...] = restore_state(optimizer.init(latent), checkpoint.state)
    except ValueError as error:
        raise OptionInvalid(f"the checkpoint belongs to another optimizer: {error}") from error
    return state, checkpoint.index, Latent(w_BLD=checkpoint.w_BLD.to(w_BLD.device))
