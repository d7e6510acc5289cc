"""The inversion loop: read this first.

`invert` takes a pack and pictures. It yields the start, then one Step after each update: first of the codes, then,
where detail is asked for, of detail (docs/math.md, equations 1, 3 and 10). It has no side effects.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from inversion_core.course import course_of
from inversion_core.detail import DetailStage, Render, check_goes_on, detail_stage
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
    latent: Latent
    state: dict[str, Tensor]
    detail_from: int | None = None
    """Index of the Step with which detail began; None: it has not begun."""

    @property
    def w_BLD(self) -> Tensor:
        return self.latent.w_BLD

    def to_bytes(self) -> bytes:
        """Serialize as safetensors."""
        tensors = self.latent.tensors() | {f"state.{key}": value for key, value in self.state.items()}
        contiguous = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        about = {"index": self.index, "detail_from": self.detail_from}
        return save_tensors(contiguous, {"checkpoint": json.dumps(about)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """Load what `to_bytes` returned.

        Raises:
            SafetensorError, KeyError, ValueError: the bytes are not a checkpoint.
        """
        tensors = load_tensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["checkpoint"])
        state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
        latent = Latent(w_BLD=tensors["w_BLD"], detail_BCHW=tensors.get("detail_BCHW"))
        detail_from = about.get("detail_from")  # programs of before know no detail
        if (detail_from is None) != (latent.detail_BCHW is None):
            raise ValueError(f"detail_from is {detail_from}, and detail is {'not ' * (not detail_from)}there")
        return cls(index=int(about["index"]), latent=latent, state=state, detail_from=detail_from)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The state of an inversion after some updates. Its latent, picture and loss belong together."""

    index: int
    """Number of updates so far; 0 is the start."""
    terms: LossTerms
    """The terms of the loss."""
    latent: Latent = field(repr=False)
    image_BCHW: Tensor
    """What the latent makes, in [-1, 1]."""
    state: tuple[Any, ...] = field(repr=False)
    """The optimizer's state, a NamedTuple of tensors."""
    detail_from: int | None = None
    """Index of the Step with which detail began; None: it has not begun."""

    @property
    def w_BLD(self) -> Tensor:
        """The codes, without detail."""
        return self.latent.w_BLD

    @property
    def loss_B(self) -> Tensor:
        return self.terms.total_B

    def checkpoint(self) -> Checkpoint:
        state = state_tensors(self.state)
        return Checkpoint(index=self.index, latent=self.latent, state=state, detail_from=self.detail_from)


def invert(pack: Pack, target_BCHW: Tensor, config: InvertConfig | None = None, *,
           start_BLD: Latent | Tensor | None = None, mask_B1HW: Tensor | None = None, resume: Checkpoint | None = None,
           optimizer: AnyOptimizer | None = None, loss: Loss | None = None) -> Iterator[Step]:  # fmt: skip
    """Invert pictures into latents: yield the start, then one Step per update.

    First the codes are updated, `config.num_steps` times; then detail, `config.detail_steps` times. The iterator ends
    earlier if the losses of all images have become infinite or NaN; divergence is not an error. `BestSteps` keeps the
    best finite Step of each image.

    Args:
        target_BCHW: pictures (B, 3, H, W) in [-1, 1], at the pack's resolution.
        start_BLD: codes to start from, instead of `config.start`; or latents. Their detail goes on where w stays.
        mask_B1HW: 1 where the result must match the picture, 0 where it is free; broadcast to (B, 1, H, W).
        resume: continue from this checkpoint. Its own Step is yielded again first.
        optimizer: your own optimizer of the codes, instead of `config.optimizer`: any object with the methods `init`
            and `step` of `inversion_core.optimizers.Optimizer`.
        loss: your own loss, instead of equation 1: a function of pictures and codes that returns (B,), or an object
            with the method `terms` of `InversionLoss`. It must handle mask, focus and regulariser itself.

    Raises:
        OptionInvalid: the pack does not support `config`, or `resume` is from another optimizer.
        ValueError: a tensor has the wrong shape.
    """
    config = config or InvertConfig()
    start = None if start_BLD is None else pack.check_latent(start_BLD)
    if optimizer is None:
        optimizer = make_optimizer(pack, config, start=start)
    elif config.optimizer is not None or config.learning_rate is not None:
        raise OptionInvalid("an optimizer of your own has its own name and rate; leave them out of the config")
    course = course_of(pack, config, start)
    target_BCHW = pack.check_targets(target_BCHW)
    w_BLD = start_codes(pack, target_BCHW, config) if start is None else start.w_BLD
    if loss is None:
        loss = _equation_1(pack, target_BCHW, config, mask_B1HW)
    elif mask_B1HW is not None or config.focus is not None or config.regulariser_weight:
        raise OptionInvalid("a loss of your own does its own masking and weighing; leave out mask, focus, regulariser")
    kept_BCHW = start.detail_BCHW if start is not None and course.keeps_start else None
    detail = detail_stage(pack, target_BCHW, course, kept_BCHW, mask_B1HW)
    return iterate(w_BLD, synthesize=pack.synthesize, loss=loss, optimizer=optimizer,
                   num_steps=course.num_steps, resume=resume, detail=detail)  # fmt: skip


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
            num_steps: int, resume: Checkpoint | None = None,
            detail: DetailStage | None = None) -> Iterator[Step]:  # fmt: skip
    """The loop itself, for any differentiable generator. It needs no pack.

    Args:
        w_BLD: codes to start from, (B, L, D); L = 1 for a generator that takes a single w.
        synthesize: codes to pictures (B, C, H, W), differentiable.
        loss: as in `invert`.
        optimizer: for example `build_optimizer("adam", {"learning_rate": 0.05}, total_steps=num_steps)`.
        num_steps: number of updates of the codes.
        resume: as in `invert`.
        detail: what comes after them; None: nothing.
    Raises:
        OptionInvalid: the optimizer needs to see the pictures, and the loss does not provide them.
    """
    loss, latent, first, detail_from = with_terms(loss), Latent(w_BLD=w_BLD), 0, None
    render: Render = _renderer(synthesize)
    state = optimizer.init(latent)
    if resume is not None:
        first, detail_from = resume.index, resume.detail_from
        if detail is None:
            check_goes_on(resume.latent, None)
        elif detail_from is not None:
            optimizer = detail.optimizer
        state, latent = restored(optimizer, w_BLD, resume)
        if detail is not None and detail_from is not None:
            latent, render = detail.enter(latent)
    for index in itertools.count(first):
        if detail is not None and detail_from is None and index >= num_steps:
            latent, render = detail.enter(latent)
            optimizer, detail_from = detail.optimizer, index
            state = optimizer.init(latent)
        latent, image_BCHW, terms = _evaluate(latent, render, loss)
        step = Step(
            index=index,
            terms=_detached(terms),
            latent=latent.mapped(torch.detach),
            image_BCHW=image_BCHW.detach(),
            state=state,
            detail_from=detail_from,
        )
        yield step
        last = num_steps if detail is None else (num_steps if detail_from is None else detail_from) + detail.num_steps
        if index >= last or not step.loss_B.isfinite().any():
            return
        evaluation = differentiate(loss, terms, latent, image_BCHW, with_look=looks(optimizer))
        latent, state = optimizer.step(step.latent, evaluation, state)


def _renderer(synthesize: Callable[[Tensor], Tensor]) -> Render:
    return lambda latent: synthesize(latent.w_BLD)


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


def make_optimizer(pack: Pack, config: InvertConfig, *, start: Latent | None = None) -> AnyOptimizer:
    """The optimizer of the codes that `config` names, with the pack's settings and a schedule over their updates.

    A learning rate in `config` is used as it is, without the pack's schedule, which was tuned for the pack's own rate.
    A resumed run follows the schedule for its own number of updates. If settings or learned weights depend on the
    start, those for this start are used.

    Args:
        start: where it starts, if that is passed in; it is treated like an encoder's code.
    Raises:
        OptionInvalid: the pack does not offer the optimizer, or it takes no learning rate and one is given.
    """
    name = config.optimizer or pack.default_optimizer
    if name not in pack.optimizers or name not in {*OPTIMIZERS, *DESIGNS}:
        raise OptionInvalid(f"optimizer is {name!r}; pack {pack.name} offers {', '.join(sorted(pack.optimizers))}")
    kind = start_kind(pack, config) if start is None else "encoder"
    if name in DESIGNS:
        return _make_learned(pack, config, name, kind)
    settings = dict(pack.settings(name, kind))
    if config.learning_rate is not None:
        settings = {key: value for key, value in settings.items() if key not in SCHEDULE_SETTINGS}
        settings["learning_rate"] = config.learning_rate
    return build_optimizer(name, settings, total_steps=course_of(pack, config, start).num_steps)


def _make_learned(pack: Pack, config: InvertConfig, name: str, kind: str) -> AnyOptimizer:
    if config.learning_rate is not None:
        raise OptionInvalid(
            f"learning_rate is {config.learning_rate}, and optimizer {name!r} takes none: its step is learned. "
            f"Leave learning_rate out, or choose a classic optimizer"
        )
    return DESIGNS[name].optimizer(pack.learned_network(name, kind))


class BestSteps:
    """Keeps the best finite Step of each image, so more steps never make the result worse: loss, latent and picture."""

    def __init__(self) -> None:
        self.index_B: Tensor | None = None

    def update(self, step: Step) -> None:
        """Take each image of `step` whose loss is finite and lower than its best so far."""
        loss_B = step.loss_B
        finite_B = loss_B.isfinite()
        if self.index_B is None:
            self.loss_B, self.image_BCHW = loss_B.clone(), step.image_BCHW.clone()
            self.latent = step.latent.mapped(torch.clone)
            self.index_B = torch.full_like(loss_B, step.index, dtype=torch.long)
            self.nonfinite_B = ~finite_B  # which images have ever had an infinite or NaN loss
            return
        better_B = finite_B & (~self.loss_B.isfinite() | (loss_B < self.loss_B))
        self.nonfinite_B = self.nonfinite_B | ~finite_B
        self.loss_B = torch.where(better_B, loss_B, self.loss_B)
        self.latent = _chosen(better_B, step.latent, self.latent)
        self.image_BCHW = torch.where(better_B[:, None, None, None], step.image_BCHW, self.image_BCHW)
        self.index_B = torch.where(better_B, step.index, self.index_B)

    @property
    def w_BLD(self) -> Tensor:
        """The codes, without detail."""
        return self.latent.w_BLD


def _chosen(which_B: Tensor, one: Latent, other: Latent) -> Latent:
    """Rows of `one` where `which_B` says so; what has no detail has detail 0, where others have some."""
    first, second = one.detail_BCHW, other.detail_BCHW
    if first is not None or second is not None:
        first = torch.zeros_like(second) if first is None else first  # type: ignore[arg-type]
        second = torch.zeros_like(first) if second is None else second
        first = torch.where(which_B[:, None, None, None], first, second)
    return Latent(w_BLD=torch.where(which_B[:, None, None], one.w_BLD, other.w_BLD), detail_BCHW=first)


@torch.enable_grad()
def _evaluate(latent: Latent, render: Render, loss: TermsLoss) -> tuple[Latent, Tensor, LossTerms]:
    latent = latent.with_free(latent.free.detach().requires_grad_())
    image_BCHW = render(latent)
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


def restored(optimizer: AnyOptimizer, w_BLD: Tensor, checkpoint: Checkpoint) -> tuple[tuple[Any, ...], Latent]:
    """Optimizer state and latent of a checkpoint; `w_BLD` gives shape and device.

    Raises:
        OptionInvalid: the checkpoint is from another batch or another optimizer.
    """
    if checkpoint.w_BLD.shape != w_BLD.shape:
        raise OptionInvalid(
            f"the checkpoint's codes have shape {tuple(checkpoint.w_BLD.shape)}, the pictures need {tuple(w_BLD.shape)}"
        )
    latent = checkpoint.latent.mapped(lambda x_B: x_B.to(w_BLD.device))
    try:
        state: tuple[Any, ...] = restore_state(optimizer.init(latent), checkpoint.state)
    except ValueError as error:
        raise OptionInvalid(f"the checkpoint belongs to another optimizer: {error}") from error
    return state, latent
