"""What a pack records of its own scale, measured on held-out pictures: lambda, and each optimizer's rate.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from inversion_core.inverter import BestSteps, InvertConfig, invert
from inversion_core.optimizers import CLASSIC, Scheduled
from inversion_core.packs import Pack
from inversion_core.packs.by_start import TRAINED_STARTS
from inversion_core.progress import progress
from inversion_core.training.data import PictureSet

PERCEPTUAL_SHARE = 1 / 3
"""Perceptual term at the encoder's start, as a share of the pixel term: about what lambda_vgg gives with VGG-16."""
SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "constant": {},
    "scheduled": {"warmup_steps": 5, "final_factor": 0.3},
}
"""Courses of the rate that Adam is tried with; the others take the one that Adam fares better with. A hundred steps are
few: what falls to a twentieth does worse than what falls to a third
(docs/experiments/2026-11-22-classic-optimizers.md)."""
ADAM_SHORT_BETA2 = 0.95
"""What Adam's best course is tried with besides its own beta2, .999, which remembers the large gradients of the first
steps for longer than a run has steps (docs/experiments/2026-11-29-adam-beta2-identity.md)."""
ADAM_FIRST_RATE = 0.08
"""Where the search begins; it goes on from there by factors, so it does not have to be near."""
FIRST_START = TRAINED_STARTS[0]
"""For which the optimizers other than Adam are tuned."""
OTHERS = ("sgd", "nag", "adagrad", "rmsprop")
"""L-BFGS is not among them: it learns a pack's scale from the gradients, so its built-in rate suits every pack."""
OTHER_STEPS, OTHER_PICTURES = 30, 2
"""What the other optimizers are tried with, at most: they are not the default of any pack, so a rough rate will do."""


def calibrate(
    pack: Pack, held_out: PictureSet, *, pictures: int = 4, num_steps: int = 100
) -> tuple[Pack, Mapping[str, float]]:
    """The pack with its loss weight and every optimizer's rate set on held-out pictures, and what was measured.

    The weight makes the perceptual term PERCEPTUAL_SHARE of the pixel term at the encoder's start. A rate is the one
    with the lowest median of the best loss in `num_steps` steps, Adam's with or without a schedule, with a longer or
    shorter memory, and for each start on its own. About 40 inversions: for a pack of 64 px some five minutes on one
    busy CPU core, most of them Adam's.
    """
    target_BCHW = held_out.take(torch.arange(min(pictures, len(held_out)))).to(pack.device)
    pack = pack.changed(
        perceptual=dataclasses.replace(pack.manifest.perceptual, weight=_loss_weight(pack, target_BCHW))
    )
    with progress(desc="calibrating", unit="run") as bar:
        trials = _Trials(pack, bar)
        adam = {start: trials.best_adam(start, target_BCHW, num_steps) for start in TRAINED_STARTS}
        course = {key: value for key, value in adam[FIRST_START].items() if key not in ("learning_rate", "beta2")}
        few_BCHW, few_steps = target_BCHW[:OTHER_PICTURES], min(num_steps, OTHER_STEPS)
        others = {name: trials.best_other(name, course, few_BCHW, few_steps) for name in OTHERS}
    return pack.changed(optimizers={"adam": adam, **others}), trials.losses


class _Trials:
    """Inversions with one setting after the other, and the losses they reached."""

    def __init__(self, pack: Pack, bar: tqdm[Any]) -> None:
        self.pack, self.bar = pack, bar
        self.losses: dict[str, float] = {}
        """What was tried, for people -> median of the best loss."""

    def best_adam(self, start: str, target_BCHW: Tensor, num_steps: int) -> dict[str, Any]:
        """Adam's best settings; a schedule bears a higher rate, so it is begun at twice the best rate before it."""
        first, found = ADAM_FIRST_RATE, []
        for course in SCHEDULES.values():
            rate, loss = self._best_rate("adam", start, course, first, target_BCHW, num_steps, factor=2)
            found.append((loss, rate, course))
            first = 2 * rate
        _, first, course = min(found, key=itemgetter(0))
        course = {**course, "beta2": ADAM_SHORT_BETA2}
        rate, loss = self._best_rate("adam", start, course, first, target_BCHW, num_steps, factor=2)
        found.append((loss, rate, course))
        _, rate, course = min(found, key=itemgetter(0))
        return {"learning_rate": rate, **course}

    def best_other(self, name: str, course: Mapping[str, Any], target_BCHW: Tensor, num_steps: int) -> dict[str, Any]:
        built_in = CLASSIC[name]()
        assert isinstance(built_in, Scheduled)
        rate, _ = self._best_rate(name, FIRST_START, course, built_in.learning_rate, target_BCHW, num_steps, factor=3)
        return {"learning_rate": rate, **course}

    def _best_rate(self, name: str, start: str, course: Mapping[str, Any], first: float, target_BCHW: Tensor,
                   num_steps: int, *, factor: float) -> tuple[float, float]:  # fmt: skip
        def rate(exponent: int) -> float:
            return float(f"{first * factor**exponent:.3g}")

        def loss(exponent: int) -> float:
            return self._try(name, start, {"learning_rate": rate(exponent), **course}, target_BCHW, num_steps)

        exponent, lowest = lowest_by_steps(loss)
        return rate(exponent), lowest

    def _try(
        self, name: str, start: str, settings: Mapping[str, Any], target_BCHW: Tensor, num_steps: int
    ) -> float:  # fmt: skip
        pack, best = self.pack.changed(optimizers={"adam": {}, name: settings}), BestSteps()
        for step in invert(
            pack, target_BCHW, InvertConfig(num_steps=num_steps, detail_steps=0, optimizer=name, start=start)
        ):
            best.update(step)
        loss = float(best.loss_B.quantile(0.5).nan_to_num(nan=float("inf")))
        values = " ".join(f"{key} {value:g}" for key, value in settings.items())
        self.losses[f"{name} {values}, {start} start, {len(target_BCHW)} pictures, {num_steps} steps"] = loss
        self.bar.set_postfix_str(f"{name} {settings['learning_rate']:g}: {loss:.5f}", refresh=False)
        self.bar.update()
        return loss


def lowest_by_steps(loss: Callable[[int], float], *, at_most: int = 8) -> tuple[int, float]:
    """The whole number near 0 with the lowest loss, and that loss: from the best so far to its neighbours, until
    both are worse. Of equal ones the smaller is better: where every rate diverges, the search goes down.
    """
    tried = {0: loss(0)}
    while len(tried) < at_most:
        best = min(tried, key=lambda number: (tried[number], number))
        new = [number for number in (best + 1, best - 1) if number not in tried]
        if not new:
            break
        tried[new[0]] = loss(new[0])
    best = min(tried, key=lambda number: (tried[number], number))
    return best, tried[best]


@torch.no_grad()
def _loss_weight(pack: Pack, target_BCHW: Tensor) -> float:
    image_BCHW = pack.synthesize(pack.encode(target_BCHW))
    pixel = (image_BCHW - target_BCHW).square().mean()
    perceptual = (pack.features(image_BCHW) - pack.features(target_BCHW)).square().mean()
    return float(f"{PERCEPTUAL_SHARE * pixel / perceptual:.3g}")
