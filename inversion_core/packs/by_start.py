"""Settings of an optimizer that differ by the start code: from the encoder it has little way to go, from random much.

In pack.json the settings of a classic optimizer stand by themselves, or under each start that they suit:

    "adam": {"learning_rate": 0.16}
    "adam": {"encoder": {"learning_rate": 0.16, "warmup_steps": 5}, "random": {"learning_rate": 0.08}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAINED_STARTS = ("encoder", "random")
"""What weights are trained for, and rates are tuned for: codes near the truth, and codes anywhere (section 3.3 of the
paper)."""
ANY_START = "any"
"""Weights that were trained for both."""


def pick_start(of_start: Mapping[str, Any], start: str) -> str:
    """The key of `of_start` that serves a start: the mean is like random, then comes what is for any, and where one
    stands alone, it serves all."""
    wanted = "random" if start in ("mean", "random") else "encoder"
    return next(key for key in (wanted, ANY_START, *of_start) if key in of_start)


def is_by_start(settings: Mapping[str, Any]) -> bool:
    """Whether settings of a classic optimizer stand under starts; none of them is named like one."""
    return any(start in settings for start in TRAINED_STARTS)


def settings_for(settings: Mapping[str, Any], start: str) -> Mapping[str, Any]:
    """The settings of a classic optimizer for a start."""
    if not is_by_start(settings):
        return settings
    of_start: Mapping[str, Any] = settings[pick_start(settings, start)]
    return of_start
