"""Every classic optimizer at its best: the rate, a warm-up with a cosine, and Adam's betas, tuned on synthetic pairs.

The pairs are drawn from the pack's own mapping as for training (`training.pairs`), with a seed that no training uses;
no photograph is looked at. The criterion is the median of the lowest losses: what the figures show, and one picture
that diverges does not decide.

Suffixes: N pair, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from inversion_core.benchmark.optimizers.search import COARSE, FINE, Point, climb, courses, rates
from inversion_core.benchmark.optimizers.tuned import Tuned, TunedFile
from inversion_core.inverter import BestSteps, InvertConfig, invert
from inversion_core.optimizers import CLASSIC, Scheduled
from inversion_core.optimizers.adam import Adam
from inversion_core.packs import Pack
from inversion_core.progress import progress
from inversion_core.training.pairs import draw_pairs

VALIDATION_SEED = 424_242
"""Of the pairs; trainings take small numbers."""


def tune(pack: Pack, names: Sequence[str], file: TunedFile, *, batch: int) -> Mapping[str, Tuned]:
    """The best settings of the classic optimizers `names`; what `file` has already is not tried again."""
    missing = [name for name in names if file.tuned(name) is None]
    if missing:
        trials = _Trials(pack, file, batch)
        for name in missing:
            file.results[name] = asdict(_search(trials, name))
            file.save()
    found = {name: file.tuned(name) for name in names}
    return {name: tuned for name, tuned in found.items() if tuned is not None}


def _search(trials: _Trials, name: str) -> Tuned:
    """By fours along a constant rate, then by twos, then over rate, warm-up, final factor and Adam's betas together."""
    built_in = CLASSIC[name]()
    assert isinstance(built_in, Scheduled)
    first_rate = built_in.learning_rate

    def loss(point: Point) -> float:
        return trials.loss(name, point.settings(first_rate))

    with progress(desc=f"tuning {name}", unit="trial") as trials.bar:
        rough, settled_a = climb(Point(), rates(COARSE), loss)
        constant, settled_b = climb(rough, rates(FINE), loss)
        neighbours = courses(trials.file.setup.steps, moments=isinstance(built_in, Adam))
        scheduled, settled_c = climb(constant, neighbours, loss)
    return Tuned(
        constant=constant.settings(first_rate), scheduled=scheduled.settings(first_rate),
        settled=settled_a and settled_b and settled_c,
    )  # fmt: skip


class _Trials:
    """Runs with one setting after the other; each is kept in the file at once."""

    def __init__(self, pack: Pack, file: TunedFile, batch: int) -> None:
        self.pack, self.file, self.batch = pack, file, batch
        self.target_NCHW, self.start_NLD = validation_pairs(pack, file.setup.start, file.setup.pairs, batch)
        self.bar: tqdm[Any] = tqdm(disable=True)

    def loss(self, name: str, settings: Mapping[str, Any]) -> float:
        known = self.file.trials.setdefault(name, {})
        key = json.dumps(settings, sort_keys=True)
        if key not in known:
            known[key] = self._run(name, settings)
            self.file.save()
        self.bar.update()
        self.bar.set_postfix_str(f"{key}: {known[key]:.5g}", refresh=False)
        return known[key]

    def _run(self, name: str, settings: Mapping[str, Any]) -> float:
        pack = self.pack.changed(optimizers={**self.pack.manifest.optimizers, name: settings})
        config = InvertConfig(num_steps=self.file.setup.steps, detail_steps=0, optimizer=name, focus=0.0)
        lowest = []
        batches = zip(self.target_NCHW.split(self.batch), self.start_NLD.split(self.batch), strict=True)
        for target_BCHW, start_BLD in batches:
            best = BestSteps()
            for step in invert(pack, target_BCHW, config, start_BLD=start_BLD):
                best.update(step)
            lowest.append(best.loss_B)
        return float(torch.cat(lowest).nan_to_num(nan=math.inf).quantile(0.5))


def validation_pairs(pack: Pack, start: str, pairs: int, batch: int) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W) of mapped z, and the codes (N, L, D) that their runs start from; the same for any batch."""
    drawn = draw_pairs(pack, start, pairs=pairs, batch_size=batch, seed=VALIDATION_SEED)
    batches = [next(drawn) for _ in range(math.ceil(pairs / batch))]
    target_NCHW = torch.cat([each.target_BCHW for each in batches])[:pairs]
    if start == "mean":
        return target_NCHW, pack.mean_codes(pairs)
    return target_NCHW, torch.cat([each.start_BLD for each in batches])[:pairs]
