"""The search for the best settings: from the best so far to its neighbours on a grid of factors of two, until none of
them is better. So the best never lies at an edge of what was tried, but where there is nothing beyond."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

FIRST_WARMUP_STEPS = 5
FINAL_FACTORS = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.0)
MEMORIES = (0.999, 0.95, 0.9)
"""Adam's beta2. What 0.999 keeps of the first, large gradients holds all steps of a short run small
(docs/experiments/2026-11-29-adam-beta2-identity.md)."""
MOMENTA = (0.9, 0.7, 0.5)
"""Adam's beta1. The longer the steps, the sooner an old gradient leads astray
(docs/experiments/2026-11-29-adam-momentum-in-learned.md)."""
COARSE, FINE = 2, 1
"""Steps of the rate in powers of two: by fours first."""
AT_MOST = 80
"""Trials of one search; far more than any has needed."""
P = TypeVar("P")


@dataclass(frozen=True, order=True)
class Point:
    """A place on the grid. Of two with the same loss the smaller is better: where every rate diverges, the search
    goes down."""

    rate: int = 0
    """The rate is the first one times two to this power."""
    warmup: int = 0
    """0: none; then 5, 10, 20, ... steps."""
    final: int = 0
    """Place in FINAL_FACTORS."""
    memory: int = 0
    """Place in MEMORIES."""
    momentum: int = 0
    """Place in MOMENTA."""

    def settings(self, first_rate: float) -> dict[str, Any]:
        """As `build_optimizer` takes them; a constant rate is spelt without a schedule."""
        settings: dict[str, Any] = {"learning_rate": float(f"{first_rate * 2.0**self.rate:.4g}")}
        if self.warmup or self.final:
            settings |= {"warmup_steps": self.warmup_steps, "final_factor": FINAL_FACTORS[self.final]}
        if self.memory:
            settings["beta2"] = MEMORIES[self.memory]
        if self.momentum:
            settings["beta1"] = MOMENTA[self.momentum]
        return settings

    @property
    def warmup_steps(self) -> int:
        return 0 if self.warmup == 0 else int(FIRST_WARMUP_STEPS * 2 ** (self.warmup - 1))


def beside(point: Point, field: str, stride: int = 1) -> list[Point]:
    """The two neighbours along one field, the higher first."""
    return [replace(point, **{field: getattr(point, field) + by}) for by in (stride, -stride)]


def rates(stride: int) -> Callable[[Point], Iterator[Point]]:
    """The neighbours with another rate alone."""
    return lambda point: iter(beside(point, "rate", stride))


def courses(steps: int, *, moments: bool = False) -> Callable[[Point], Iterator[Point]]:
    """The neighbours in every direction, with `moments` in those of Adam's beta1 and beta2 too; a warm-up takes half of
    the run at most, and a factor ends at 0."""
    places = {"final": len(FINAL_FACTORS), "memory": 1, "momentum": 1}
    if moments:
        places |= {"memory": len(MEMORIES), "momentum": len(MOMENTA)}

    def neighbours(point: Point) -> Iterator[Point]:
        higher = [  # a warm-up bears a higher rate, and so do a cosine and less momentum
            replace(point, rate=point.rate + 1, warmup=point.warmup + 1),
            replace(point, rate=point.rate + 1, final=point.final + 1),
            replace(point, rate=point.rate + 1, momentum=point.momentum + 1),
        ]
        alone = [near for field in ("warmup", "rate", "final") for near in beside(point, field)]
        betas = [near for field in ("memory", "momentum") for near in beside(point, field)]
        for each in (*alone, *higher, *betas):
            is_within_run = each.warmup >= 0 and each.warmup_steps <= steps // 2
            if is_within_run and all(0 <= getattr(each, field) < count for field, count in places.items()):
                yield each

    return neighbours


def climb(start: P, neighbours: Callable[[P], Iterator[P]], loss: Callable[[P], float]) -> tuple[P, bool]:
    """The point none of whose neighbours is better, and whether it is settled: False after AT_MOST trials."""
    best, tried = start, {start: loss(start)}
    while len(tried) < AT_MOST:
        new = next((point for point in neighbours(best) if point not in tried), None)
        if new is None:
            return best, True
        tried[new] = loss(new)
        best = min(best, new, key=lambda point: (tried[point], point))
    return best, False
