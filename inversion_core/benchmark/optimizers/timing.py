"""What an optimizer costs: seconds to each iteration of a run, for one picture alone, as the service runs it.

A machine's speed changes while a benchmark runs, so the seconds of the runs themselves would compare moments rather
than optimizers. Here all run at once, a tenth of a run each in turn, in changing order; each turn gives the ratio of
every optimizer to the baseline in the same turn. For each tenth of a run the median of these ratios over the rounds is
taken, times the baseline's median iteration: an optimizer whose late iterations cost less than its early ones has that
counted.

Suffixes: R round, S part of a run, T iteration from 0, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

import numpy as np
from torch import Tensor

from inversion_core.benchmark.clock import now
from inversion_core.benchmark.optimizers.comparison import Floats
from inversion_core.benchmark.optimizers.config import BASELINE
from inversion_core.benchmark.optimizers.contenders import Contender
from inversion_core.course import course_of
from inversion_core.inverter import InvertConfig, Step, invert
from inversion_core.models.serving import serving
from inversion_core.packs import Pack
from inversion_core.progress import progress

PARTS = 10
"""Parts of a run that are timed each on its own."""
WARM_UP = 2
"""Iterations of each before anything is timed."""
X = TypeVar("X")


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Of one optimizer."""

    start_R: list[float] = field(default_factory=list)
    """Seconds until the first Step is there: start code, the target's features, the start's picture and loss."""
    iteration_RS: list[list[float]] = field(default_factory=list)
    """Seconds of an iteration."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What comes of the timings."""

    seconds_T: Floats
    """Seconds until each iteration is there; one more than a run has, for pictures that never get there."""
    relative: float
    """A run's iterations divided by the baseline's."""
    relative_quartiles: tuple[float, float]
    """Of that ratio over all turns."""

    @property
    def start_s(self) -> float:
        return float(self.seconds_T[0])

    @property
    def iteration_s(self) -> float:
        """Mean over a run."""
        return float(self.seconds_T[-2] - self.seconds_T[0]) / (len(self.seconds_T) - 2)


def measure_costs(
    pack: Pack, target_1CHW: Tensor, everybody: Sequence[Contender], config: InvertConfig, *, rounds: int
) -> Mapping[str, Cost]:
    """Name of each optimizer -> its cost; tuned or not makes no difference, so each is timed once."""
    runs = {each.name: _Timed(each.of(pack), target_1CHW, replace(config, optimizer=each.name))
            for each in reversed(everybody)}  # fmt: skip
    counts = part_lengths(course_of(pack, config).total)
    for run in runs.values():
        run.start()
        run.go_on(WARM_UP)
    timings = {name: Timings() for name in runs}
    for turn in progress(range(rounds), desc="timing", unit="round"):
        _one_round(runs, timings, counts, turn)
    return {name: cost_of(timings[name], timings[BASELINE], counts) for name in runs}


def _one_round(runs: Mapping[str, _Timed], timings: Mapping[str, Timings], counts: Sequence[int], turn: int) -> None:
    """A run of each: the starts in turn, then part after part in turn."""
    for name in rotated([*runs], turn):
        timings[name].start_R.append(runs[name].start())
        timings[name].iteration_RS.append([])
    for part, count in enumerate(counts):
        for name in rotated([*runs], turn + part):
            timings[name].iteration_RS[-1].append(runs[name].go_on(count))


def part_lengths(steps: int) -> list[int]:
    """Iterations of each part of a run: PARTS that are as equal as can be, or one for each iteration."""
    return [len(part) for part in np.array_split(np.arange(steps), min(PARTS, steps))]


def rotated(items: Sequence[X], turn: int) -> list[X]:
    """The same order, begun by another one each turn."""
    first = turn % len(items)
    return [*items[first:], *items[:first]]


class _Timed:
    """One optimizer's run, a few iterations at a time."""

    def __init__(self, pack: Pack, target_1CHW: Tensor, config: InvertConfig) -> None:
        self._pack, self._target_1CHW, self._config = pack, target_1CHW, config
        self._steps: Iterator[Step] = iter(())
        self._last_s = 0.0

    def start(self) -> float:
        """Begin a run: seconds until its first Step."""
        begun = now(self._pack.device)
        self._steps = invert(self._pack, self._target_1CHW, self._config)
        with serving():
            next(self._steps)
        return now(self._pack.device) - begun

    def go_on(self, count: int) -> float:
        """Seconds of one of the next iterations; where the run has diverged, and so ended, those of the last."""
        begun = now(self._pack.device)
        with serving():
            done = sum(1 for _ in islice(self._steps, count))
        seconds = now(self._pack.device) - begun
        if done:
            self._last_s = seconds / done
        return self._last_s


def cost_of(own: Timings, baseline: Timings, counts: Sequence[int]) -> Cost:
    """The cost of an optimizer whose parts of a run have so many iterations."""
    own_RS, baseline_RS = np.array(own.iteration_RS), np.array(baseline.iteration_RS)
    ratio_RS = own_RS / baseline_RS
    ratio_S = np.median(ratio_RS, axis=0)
    iteration_S = ratio_S * np.median(baseline_RS)
    low, high = np.percentile(ratio_RS, [25, 75])
    starts = np.median(np.array(own.start_R) / np.array(baseline.start_R)) * np.median(baseline.start_R)
    each = [*np.repeat(iteration_S, counts), iteration_S[-1]]
    return Cost(
        seconds_T=starts + np.cumsum([0.0, *each]),
        relative=float(np.average(ratio_S, weights=counts)),
        relative_quartiles=(float(low), float(high)),
    )
