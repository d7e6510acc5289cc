"""The rows of the tables: each contender against each baseline, and the same at equal seconds.

Suffixes: N picture, T iteration from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inversion_core.benchmark.optimizers.comparison import (
    Course,
    compare_at_equal_seconds,
    fewer_percent,
    first_reached,
    mean_interval,
)
from inversion_core.benchmark.optimizers.contenders import baselines
from inversion_core.benchmark.optimizers.runs import Run
from inversion_core.benchmark.optimizers.timing import Cost


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender against what one baseline has at its last iteration; means over the pictures."""

    optimizer: str
    optimizer_tuned: bool
    """A classic one with rate and schedule tuned."""
    against: str
    tuned: bool
    """The same of the baseline: False at the paper's settings."""
    fewer_iterations: float
    """In percent."""
    ci95: tuple[float, float]
    fewer_seconds: float
    """In percent."""
    fewer_seconds_ci95: tuple[float, float]
    reached_share: float
    """Pictures that got there, from 0 to 1; the others count as one iteration more than there were."""
    final_loss: float
    """Median over the pictures of the lowest loss of the run."""
    final_loss_mean: float
    baseline_loss: float
    """The median that was to be reached."""


def make_rows(runs: Sequence[Run], costs: Mapping[str, Cost], *, seed: int) -> list[Row]:
    """Against the paper's baselines everybody; against a tuned one the tuned and the learned."""
    return [_row(run, baseline, costs, seed) for run, baseline in _pairs(runs)]


def equal_seconds(runs: Sequence[Run], costs: Mapping[str, Cost]) -> list[dict[str, object]]:
    """For the same pairs: has the contender the lower median at every moment from a twentieth of the time on?"""
    return [_equal(run, baseline, costs) for run, baseline in _pairs(runs)]


def course(run: Run, cost: Cost) -> Course:
    """The median over the pictures against seconds."""
    return Course(time_T=cost.seconds_T[:-1], value_T=np.median(run.best_NT, axis=0))


def _pairs(runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    of = {id(run.contender): run for run in runs}
    for baseline in baselines([run.contender for run in runs]):
        for run in runs:
            each = run.contender
            if each != baseline and (each.tuned or not each.is_classic or not baseline.tuned):
                yield run, of[id(baseline)]


def _row(run: Run, baseline: Run, costs: Mapping[str, Cost], seed: int) -> Row:
    each, other = run.contender, baseline.contender
    best_NT, threshold_N = run.best_NT, baseline.best_NT[:, -1]
    steps = best_NT.shape[1] - 1
    first_N = first_reached(best_NT, threshold_N)
    iterations_N = fewer_percent(first_N.astype(float), steps)
    seconds_N = fewer_percent(costs[each.name].seconds_T[first_N], float(costs[other.name].seconds_T[steps]))
    return Row(
        optimizer=each.name, optimizer_tuned=each.tuned, against=other.name, tuned=other.tuned,
        fewer_iterations=float(iterations_N.mean()), ci95=mean_interval(iterations_N, seed=seed),
        fewer_seconds=float(seconds_N.mean()), fewer_seconds_ci95=mean_interval(seconds_N, seed=seed),
        reached_share=float((first_N <= steps).mean()), final_loss=float(np.median(best_NT[:, -1])),
        final_loss_mean=float(best_NT[:, -1].mean()), baseline_loss=float(np.median(threshold_N)),
    )  # fmt: skip


def _equal(run: Run, baseline: Run, costs: Mapping[str, Cost]) -> dict[str, object]:
    each, other = run.contender, baseline.contender
    found = compare_at_equal_seconds(course(run, costs[each.name]), course(baseline, costs[other.name]))
    return {
        "optimizer": each.name, "optimizer_tuned": each.tuned, "against": other.name, "tuned": other.tuned,
        "lower_everywhere": not found.not_lower, "lower_share": found.lower_share,
        "not_lower": [list(span) for span in found.not_lower],
    }  # fmt: skip
