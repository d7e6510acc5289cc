"""What the curves are compared by; plain arithmetic on losses, checked by hand in the tests.

Suffixes: N picture, T iteration from 0, R resample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 10_000
FROM_SHARE = 0.05
"""Of the baseline's whole time: what comes before is mostly the start code."""


def best_so_far(current_NT: Floats) -> Floats:
    """The lowest finite loss up to each iteration; infinite where there has been none."""
    best_NT: Floats = np.minimum.accumulate(np.where(np.isfinite(current_NT), current_NT, np.inf), axis=1)
    return best_NT


def first_reached(best_NT: Floats, threshold_N: Floats) -> NDArray[np.int64]:
    """Of each picture the first iteration at or below its threshold; T, one more than the last, where there is none."""
    reached_NT = (best_NT <= threshold_N[:, None]) & np.isfinite(best_NT)
    first_N: NDArray[np.int64] = np.where(reached_NT.any(axis=1), reached_NT.argmax(axis=1), best_NT.shape[1])
    return first_N


def fewer_percent(used_N: Floats, whole: float) -> Floats:
    """By how many percent less than the whole was used."""
    return 100 * (1 - used_N / whole)


def mean_interval(value_N: Floats, *, seed: int) -> tuple[float, float]:
    """95 % of the mean, by the percentiles of RESAMPLES bootstrap means over the pictures (Efron 1979)."""
    draw, count = np.random.default_rng(seed), len(value_N)
    chunk = (RESAMPLES // 10, count)  # a tenth at a time: many pictures would fill the memory
    mean_R = np.concatenate([value_N[draw.integers(0, count, chunk)].mean(axis=1) for _ in range(10)])
    low, high = np.percentile(mean_R, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Course:
    """A loss over time: value_T[i] from time_T[i] on, nothing before time_T[0], the last one to the end."""

    time_T: Floats
    """Seconds, rising."""
    value_T: Floats

    def at(self, seconds: Floats) -> Floats:
        index = np.searchsorted(self.time_T, seconds, side="right") - 1
        return np.where(index < 0, np.inf, self.value_T[np.maximum(index, 0)])


@dataclass(frozen=True, kw_only=True)
class EqualSeconds:
    """Where one course lies strictly below another."""

    lower_share: float
    """Of the time that was looked at."""
    not_lower: tuple[tuple[float, float], ...]
    """Spans in which it does not, as shares of the baseline's whole time."""


def compare_at_equal_seconds(candidate: Course, baseline: Course, from_share: float = FROM_SHARE) -> EqualSeconds:
    """Compare at every moment from `from_share` of the baseline's time to its end.

    Both are steps, so they are compared where either changes; that is exact, not a sample of moments.
    """
    end = baseline.time_T[-1]
    begin = from_share * end
    changes = np.concatenate([candidate.time_T, baseline.time_T])
    moments = np.unique([begin, *changes[(changes > begin) & (changes < end)]])
    edges = np.append(moments, end)
    lower = candidate.at(moments) < baseline.at(moments)
    lasting = np.diff(edges)
    spans: list[tuple[float, float]] = []
    for low, high in zip(edges[:-1][~lower] / end, edges[1:][~lower] / end, strict=True):
        if spans and spans[-1][1] == low:
            spans[-1] = (spans[-1][0], float(high))
        else:
            spans.append((float(low), float(high)))
    return EqualSeconds(lower_share=float(lasting[lower].sum() / lasting.sum()), not_lower=tuple(spans))
