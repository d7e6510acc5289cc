"""When an inversion ends: pure functions of what has happened so far."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from inversion_core.errors import OptionInvalid


class StopReason(StrEnum):
    """Why a request ended; an error is raised instead."""

    STEPS = "steps"
    TARGET_LOSS = "target_loss"
    MAX_SECONDS = "max_seconds"
    PLATEAU = "plateau"
    NONFINITE = "not_finite"
    """The loss became infinite or NaN: a result, not an error (as in `invert`)."""
    CANCELED = "canceled"


@dataclass(frozen=True, kw_only=True)
class StopRules:
    """What may end an inversion before its last step; None: this rule does not apply."""

    target_loss: float | None = None
    """Ends at the first Step whose loss is no greater."""
    max_seconds: float | None = None
    """Ends at the first Step that comes so many seconds or more after the request got its place."""
    seconds_before: float = 0.0
    """Seconds of work before that, which count too: of an earlier attempt at the same inversion."""
    plateau_steps: int | None = None
    """Ends when the loss has not fallen by `plateau_fraction` for so many steps."""
    plateau_fraction: float = 1e-3
    """Fall, as a part of the loss, that counts as progress."""

    def __post_init__(self) -> None:
        for name in ("target_loss", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise OptionInvalid(f"{name} is {value}; it must be a number above 0, or None")
        if self.plateau_steps is not None and self.plateau_steps < 1:
            raise OptionInvalid(f"plateau_steps is {self.plateau_steps}; it must be 1 or more, or None")
        if not 0 <= self.plateau_fraction < 1:
            raise OptionInvalid(f"plateau_fraction is {self.plateau_fraction}; it must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the rules look at."""

    index: int = 0
    """Updates done."""
    loss: float = math.inf
    seconds: float = 0.0
    """Seconds since the request got its place."""
    mark_loss: float = math.inf
    """Loss at the last progress that counted, for the plateau."""
    mark_index: int = 0


def advanced(progress: Progress, rules: StopRules, *, index: int, loss: float, seconds: float) -> Progress:
    """The progress after one more Step."""
    progress = replace(progress, index=index, loss=loss, seconds=seconds)
    if progress.mark_loss == math.inf or loss < progress.mark_loss * (1 - rules.plateau_fraction):
        return replace(progress, mark_loss=loss, mark_index=index)
    return progress


def marked_anew(progress: Progress) -> Progress:
    """The same, and a plateau is counted from the next Step on: something else is optimised now."""
    return replace(progress, mark_loss=math.inf, mark_index=progress.index)


def progress_of(rules: StopRules, losses: Iterable[tuple[int, float]], detail_from: int | None = None) -> Progress:
    """Where a request stands that goes on after these Steps, each an index and its loss, with detail from one on."""
    progress = Progress()
    for index, loss in losses:
        if index == detail_from:
            progress = marked_anew(progress)
        progress = advanced(progress, rules, index=index, loss=loss, seconds=0.0)
    return progress


def stop_reason(progress: Progress, rules: StopRules, last_index: int) -> StopReason | None:
    """Why this Step is the last; None where it is not. A plateau of w is the last of w alone, where detail follows."""
    if not math.isfinite(progress.loss):
        return StopReason.NONFINITE
    if rules.target_loss is not None and progress.loss <= rules.target_loss:
        return StopReason.TARGET_LOSS
    if progress.index >= last_index:
        return StopReason.STEPS
    if rules.max_seconds is not None and progress.seconds >= rules.max_seconds:
        return StopReason.MAX_SECONDS
    if rules.plateau_steps is not None and progress.index - progress.mark_index >= rules.plateau_steps:
        return StopReason.PLATEAU
    return None
