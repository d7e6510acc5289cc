"""What an optimizer costs: seconds of the start and of one iteration, for one picture alone, as the service runs it.

A machine's speed changes while a benchmark runs, so the seconds of the runs themselves would compare moments rather
than optimizers. Here all take turns, in another order each round, and each round gives the ratio of every optimizer to
the baseline. Its seconds are the median of these ratios times the baseline's own median. Iteration i then is there
start + i x iteration seconds after the photo: every iteration of a run is taken to cost the same.

Suffixes: B picture, here one, C channel, H W height and width, T iteration from 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch import Tensor
from tqdm import tqdm

from inversion_core.benchmark.clock import now
from inversion_core.benchmark.optimizers.comparison import Floats
from inversion_core.benchmark.optimizers.config import BASELINE
from inversion_core.benchmark.optimizers.contenders import Contender
from inversion_core.inverter import InvertConfig, Step, invert
from inversion_core.packs import Pack

TIMED_ITERATIONS = 5
"""Iterations of one timing."""


class Seconds(NamedTuple):
    """One timing."""

    start: float
    """Until the first Step is there: start code, the target's features, the start's picture and loss."""
    iteration: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Medians over the rounds."""

    start_s: float
    iteration_s: float
    relative: float
    """An iteration's seconds divided by the baseline's."""
    relative_quartiles: tuple[float, float]
    """Of that ratio over the rounds: how sure it is."""

    def at(self, iterations: Floats) -> Floats:
        """Seconds until these iterations are there."""
        return self.start_s + self.iteration_s * iterations


def measure_costs(
    pack: Pack, target_1CHW: Tensor, everybody: Sequence[Contender], config: InvertConfig, *, rounds: int
) -> Mapping[str, Cost]:
    """Name of each optimizer -> its cost; tuned or not makes no difference, so each is timed once."""
    timed = {each.name: _Timed(each.of(pack), target_1CHW, replace(config, optimizer=each.name))
             for each in reversed(everybody)}  # fmt: skip
    taken = take_turns(list(timed), lambda name: timed[name].once(), rounds)
    return {name: cost_of(each, taken[BASELINE]) for name, each in taken.items()}


def take_turns(names: Sequence[str], timing: Callable[[str], Seconds], rounds: int) -> dict[str, list[Seconds]]:
    """Timings of every round, each round begun by another one; the first round warms up and does not count."""
    taken: dict[str, list[Seconds]] = {name: [] for name in names}
    for turn in tqdm(range(rounds + 1), desc="timing", unit="round"):
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            seconds = timing(name)
            if turn:
                taken[name].append(seconds)
    return taken


class _Timed:
    """One optimizer's runs: each timing goes on where the last one stopped, since late iterations might cost more."""

    def __init__(self, pack: Pack, target_1CHW: Tensor, config: InvertConfig) -> None:
        self._pack, self._target_1CHW, self._config = pack, target_1CHW, config
        self._steps: Iterator[Step] = iter(())
        self._left = 0
        """Iterations until the run is over."""

    def once(self) -> Seconds:
        """Time a start, and a few iterations of the run that is under way."""
        begun = now(self._pack.device)
        fresh = invert(self._pack, self._target_1CHW, self._config)
        next(fresh)
        start_s = now(self._pack.device) - begun
        count = min(TIMED_ITERATIONS, self._config.num_steps)
        if self._left < count:
            self._steps, self._left = fresh, self._config.num_steps
        begun = now(self._pack.device)
        done = sum(1 for _ in islice(self._steps, count))
        seconds = now(self._pack.device) - begun
        self._left = self._left - count if done == count else 0  # fewer where the run has diverged
        return Seconds(start_s, seconds / done) if done else self.once()


def cost_of(own: Sequence[Seconds], baseline: Sequence[Seconds]) -> Cost:
    def ratios(part: Callable[[Seconds], float]) -> list[float]:
        return [part(a) / part(b) for a, b in zip(own, baseline, strict=True)]

    relative = ratios(lambda seconds: seconds.iteration)
    low, high = np.percentile(relative, [25, 75])
    start = statistics.median(seconds.start for seconds in baseline)
    iteration = statistics.median(seconds.iteration for seconds in baseline)
    return Cost(
        start_s=start * statistics.median(ratios(lambda seconds: seconds.start)),
        iteration_s=iteration * statistics.median(relative),
        relative=statistics.median(relative),
        relative_quartiles=(float(low), float(high)),
    )
