"""In which arithmetic a pack's step is computed: the fastest that leaves the final loss as it is, found by trying.

What is rounded more coarsely is the pictures and features of a step and the way back to the codes; codes, losses and
updates are float32 always. Whether that does harm depends on the optimizer more than on the network: a loss at one code
hardly changes, but L-BFGS takes differences of gradients, in which little is left beside the rounding
(docs/experiments/2026-11-28-bfloat16-inversion.md).

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor, nn

from inversion_core.detail import DetailStage, Render
from inversion_core.engine.capacity import default_slots
from inversion_core.inverter import BestSteps, InvertConfig, iterate, make_optimizer, start_codes
from inversion_core.latents import Latent, base_features, detail_layer, detail_shape, synthesize
from inversion_core.loss import InversionLoss
from inversion_core.models.serving import serving
from inversion_core.packs import Pack
from inversion_core.training.precision import faster_precision

log = logging.getLogger(__name__)

ALLOWED = 5e-3
"""Largest relative difference of the final loss that is the price of speed; of a single loss and gradient too."""
WORTH = 0.9
"""A precision is taken when its step takes no more than this part of float32's."""
PICTURES, PICTURES_ON_CUDA = 4, 32
"""That are stepped together in a trial; fewer fill no GPU, where then every arithmetic takes equally long."""
STEPS = 20
"""Updates of a trial inversion, by the pack's default optimizer."""
LEAST_STEPS = 8
BUDGET_S = 10.0
"""What the trial inversions of one precision may take; where LEAST_STEPS take longer, float32 it is."""


class Precision(StrEnum):
    """Arithmetic of a step."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    """CUDA alone: factors of products rounded to 10 bits."""
    BFLOAT16 = "bfloat16"
    """Weights and pictures of 8 bits."""


class Networks(Protocol):
    """What a step needs of a pack."""

    @property
    def perceptual_weight(self) -> float: ...

    def synthesize(self, code: Latent | Tensor, base_BCHW: Tensor | None = None) -> Tensor: ...

    def features(self, image_BCHW: Tensor) -> Tensor: ...

    def encode(self, image_BCHW: Tensor) -> Tensor: ...


class Bfloat16Networks:
    """A pack whose generator and perceptual network are rounded once, here; what goes in and comes out is float32."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._generator = copy.deepcopy(pack.generator)
        synthesis = self._generator.synthesis
        styles, synthesis.folded_styles = synthesis.folded_styles, nn.ModuleList()
        synthesis.bfloat16()
        synthesis.folded_styles = styles  # they take the codes, which are not rounded
        self._perceptual = copy.deepcopy(pack.perceptual).bfloat16()

    @property
    def perceptual_weight(self) -> float:
        return self._pack.perceptual_weight

    def synthesize(self, code: Latent | Tensor, base_BCHW: Tensor | None = None) -> Tensor:
        latent, synthesis = self._pack.check_latent(code), self._generator.synthesis
        if latent.detail_BCHW is None:
            return synthesize(self._generator, latent).float()
        px = latent.detail_BCHW.shape[-1]
        if base_BCHW is None:
            base_BCHW = base_features(self._generator, latent.w_BLD, px)
        x_BCHW = synthesis.with_detail(base_BCHW.float(), latent.detail_BCHW).bfloat16()  # rounded once, not thrice
        first = detail_layer(self._generator.config, px) + 1
        return synthesis.rgb(synthesis.features(latent.w_BLD, x_BCHW=x_BCHW, start=first)).float()

    def features(self, image_BCHW: Tensor) -> Tensor:
        features_BCHW: Tensor = self._perceptual(self._pack.check_pictures(image_BCHW).bfloat16())
        return features_BCHW.float()

    def encode(self, image_BCHW: Tensor) -> Tensor:
        return self._pack.encode(image_BCHW)


def networks_in(pack: Pack, precision: Precision) -> Networks:
    return Bfloat16Networks(pack) if precision is Precision.BFLOAT16 else pack


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within it, float32 means float32 on CUDA too, or TF32 where that is what `precision` asks for."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    is_tf32 = precision is Precision.TF32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of one precision. What was not measured any more is None."""

    precision: Precision
    verdict: str
    """Why it may be used, or why not."""
    loss_difference: float | None = None
    """Largest relative difference of the loss from float32's, at the codes that the trial starts from."""
    gradient_difference: float | None = None
    """The same of the gradient, as a part of its norm."""
    step_part: float | None = None
    """Time of a step as a part of float32's."""
    final_difference: float | None = None
    """By how much the lowest loss of a trial inversion is worse than float32's, both judged in float32; the mean."""
    is_allowed: bool = False


def choose_precision(pack: Pack, px: int | None = None) -> tuple[Precision, list[Trial]]:
    """The fastest precision that is allowed for a pack on its device, and what was found about each. Raises nothing.

    Args:
        px: size of the detail whose steps it is for; None: steps of w.
    """
    others = (Precision.TF32, Precision.BFLOAT16) if pack.device.type == "cuda" else (Precision.BFLOAT16,)
    trials = [_tried_safely(pack, px, precision) for precision in others]
    allowed = [(trial.step_part or 1.0, trial.precision) for trial in trials if trial.is_allowed]
    chosen = min(allowed)[1] if allowed else Precision.FLOAT32
    said = "; ".join(f"{trial.precision}: {trial.verdict}" for trial in trials)
    log.info("precision=%s pack=%s detail_px=%s %s", chosen, pack.name, px, said)
    return chosen, trials


def _tried_safely(pack: Pack, px: int | None, precision: Precision) -> Trial:
    try:
        return _tried(pack, px, precision)
    except Exception as error:  # no memory for it, or a kernel that is not there: a job has done nothing wrong
        log.warning("precision not tried precision=%s pack=%s error=%r", precision, pack.name, error)
        return Trial(precision=precision, verdict=f"trying it failed with {type(error).__name__}")


def _tried(pack: Pack, px: int | None, precision: Precision) -> Trial:
    """From what is cheap to find out to what is dear, as far as it takes."""
    if precision is Precision.BFLOAT16 and faster_precision(pack.device)[0] != "bfloat16":
        return Trial(precision=precision, verdict="its convolutions are not faster here")
    networks = networks_in(pack, precision)
    found = _Bench(pack, px, 1).compared(networks, precision)
    if found.verdict:
        return found
    most = PICTURES_ON_CUDA if pack.device.type == "cuda" else PICTURES
    return _Bench(pack, px, min(most, default_slots([pack], pack.device))).judged(found, networks)


class _Bench:
    """Some of a pack's own pictures, and the same starts for every precision."""

    def __init__(self, pack: Pack, px: int | None, count: int) -> None:
        self._pack = pack
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad(), serving(), arithmetic(Precision.FLOAT32, pack.device):
            z_BZ = torch.randn(count, pack.z_dim, generator=draw)
            self._target_BCHW = pack.synthesize(pack.map(z_BZ.to(pack.device)))
            self._features_BCHW = pack.features(self._target_BCHW)
            self._start = Latent(w_BLD=start_codes(pack, self._target_BCHW, InvertConfig()))
            self._base_BCHW = None
            if px is not None:
                self._base_BCHW = pack.base_features(self._start.w_BLD, px)
                nothing_BCHW = self._target_BCHW.new_zeros(count, *detail_shape(pack.manifest.generator, px))
                self._start = replace(self._start, detail_BCHW=nothing_BCHW)

    def compared(self, networks: Networks, precision: Precision) -> Trial:
        """Loss and gradient at the starts; a verdict where they differ too much already."""
        loss_B, grad = self._evaluated(networks, precision)
        exact_B, exact = self._evaluated(self._pack, Precision.FLOAT32)
        loss = float(((loss_B - exact_B) / exact_B).abs().max())
        gradient = float((grad - exact).norm() / exact.norm())
        verdict = ""
        if not gradient <= ALLOWED:
            verdict = f"the gradient is off by {gradient:.1%}"
        if not loss <= ALLOWED:
            verdict = f"the loss is off by {loss:.1%}"
        return Trial(precision=precision, verdict=verdict, loss_difference=loss, gradient_difference=gradient)

    def judged(self, found: Trial, networks: Networks) -> Trial:
        """With the time of a step, and where that pays the final loss."""
        exact_s = self._step_s(self._pack, Precision.FLOAT32)
        part = self._step_s(networks, found.precision) / exact_s
        found = replace(found, step_part=part)
        if part > WORTH:
            return replace(found, verdict=f"a step takes {part:.2f} of float32's time")
        steps = min(STEPS, int(BUDGET_S / (exact_s * (1 + part))))
        if steps < LEAST_STEPS:
            return replace(found, verdict="trying it would take too long")
        worse = self._final_difference(networks, found.precision, steps)
        verdict = f"a step takes {part:.2f} of float32's time, the final loss is {worse:+.2%}"
        return replace(found, verdict=verdict, final_difference=worse, is_allowed=worse <= ALLOWED)

    def _final_difference(self, networks: Networks, precision: Precision, steps: int) -> float:
        ours_B = self._final_losses(networks, precision, steps)
        exact_B = self._final_losses(self._pack, Precision.FLOAT32, steps)
        return float((ours_B / exact_B).mean() - 1)

    def _final_losses(self, networks: Networks, precision: Precision, steps: int) -> Tensor:
        """The lowest loss of each picture, as float32 judges the code that this precision takes for its best."""
        optimizer = make_optimizer(self._pack, InvertConfig(num_steps=steps, detail_steps=0))
        best = BestSteps()
        detail = None if self._base_BCHW is None else self._detail(networks, steps)
        with serving(), arithmetic(precision, self._pack.device):
            for step in iterate(self._start.w_BLD, synthesize=networks.synthesize, loss=self._loss(networks),
                                optimizer=optimizer, num_steps=0 if detail else steps, detail=detail):  # fmt: skip
                best.update(step)
        with torch.no_grad(), serving(), arithmetic(Precision.FLOAT32, self._pack.device):
            return self._loss(self._pack)(self._pack.synthesize(best.latent, self._base_BCHW))

    def _detail(self, networks: Networks, steps: int) -> DetailStage:
        def enter(_: Latent) -> tuple[Latent, Render]:
            return self._start, lambda latent: networks.synthesize(latent, self._base_BCHW)

        return DetailStage(num_steps=steps, optimizer=self._pack.detail.adam(), enter=enter)

    def _evaluated(self, networks: Networks, precision: Precision) -> tuple[Tensor, Tensor]:
        with torch.enable_grad(), serving(), arithmetic(precision, self._pack.device):
            free = self._start.free.detach().requires_grad_()
            loss_B = self._loss(networks)(networks.synthesize(self._start.with_free(free), self._base_BCHW))
            return loss_B.detach(), torch.autograd.grad(loss_B.sum(), free)[0]

    def _loss(self, networks: Networks) -> InversionLoss:
        return InversionLoss(self._target_BCHW, features=networks.features, target_features_BCHW=self._features_BCHW,
                             perceptual_weight=networks.perceptual_weight)  # fmt: skip

    def _step_s(self, networks: Networks, precision: Precision) -> float:
        return min(self._seconds(lambda: self._evaluated(networks, precision)) for _ in range(3))

    def _seconds(self, call: Callable[[], object]) -> float:
        self._wait()
        began_s = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - began_s

    def _wait(self) -> None:
        if self._pack.device.type == "cuda":
            torch.cuda.synchronize(self._pack.device)
