"""When a job stops before its last step: pure functions of what a person chose and of what has been reached."""

from __future__ import annotations

import math

from worker.contract import JobOptions, StopReason


def stopped_by(options: JobOptions, step: int, loss: float, seconds: float) -> StopReason | None:
    """The first rule that ends the loop after this step, or None when it goes on.

    Args:
        step: updates done.
        loss: of that step; may be infinite or not a number, and then reaches nothing.
        seconds: of work so far, without the queue.
    """
    if options.target_loss is not None and math.isfinite(loss) and loss <= options.target_loss:
        return StopReason.TARGET_LOSS
    if step >= options.steps:
        return StopReason.STEPS
    if options.max_seconds is not None and seconds >= options.max_seconds:
        return StopReason.MAX_SECONDS
    return None
