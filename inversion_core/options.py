"""Options of an inversion. Without PyTorch, so that the command line starts quickly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inversion_core.errors import OptionInvalid

MAX_FOCUS = 100.0
STARTS = ("encoder", "mean", "random")


@dataclass(frozen=True, kw_only=True)
class InvertConfig:
    """Options of an inversion."""

    num_steps: int | None = None
    """Number of updates of w; 0 keeps the start code. None: the pack's number before detail, 100 without detail."""
    detail_steps: int | None = None
    """Number of updates of detail after them; 0 switches detail off. None: the pack's."""
    detail_px: int | None = None
    """Side of the features that detail is added to. None: the pack's."""
    optimizer: str | None = None
    """An optimizer that the pack offers. None: the pack's default."""
    learning_rate: float | None = None
    """Constant learning rate of a classic optimizer. None: the pack's rate and schedule for it.
    Learned optimizers do not accept one."""
    start: str | None = None
    """"encoder", "mean" (w_avg) or "random" (a mapped z). None: the encoder if the pack has one, else the mean."""
    seed: int = 0
    """Seed for the random start."""
    regulariser_weight: float = 0.0
    """Weight of the in-domain regulariser; IDInvert's public code uses 2.0, the paper 0."""
    focus: float | None = None
    """How much more the centre of the face counts than the border, in the pixel term. 0: the paper's equation 1.
    None: the pack's focus."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "detail_steps"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise OptionInvalid(f"{name} is {value}; it must be 0 or more, or None")
        if self.detail_px is not None and (self.detail_px < 4 or self.detail_px & (self.detail_px - 1)):
            raise OptionInvalid(f"detail_px is {self.detail_px}; it must be a power of two, 4 or more")
        if self.start is not None and self.start not in STARTS:
            raise OptionInvalid(f"start is {self.start!r}; choose one of {', '.join(STARTS)}")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise OptionInvalid(f"learning_rate is {self.learning_rate}; it must be above 0, and finite")
        if not 0 <= self.regulariser_weight < math.inf:
            raise OptionInvalid(f"regulariser_weight is {self.regulariser_weight}; it must be 0 or more, and finite")
        if self.focus is not None:
            check_focus(self.focus, OptionInvalid)


def check_focus(focus: float, error: type[Exception] = ValueError) -> None:
    """Raise `error` unless `focus` is valid."""
    if not 0 <= focus <= MAX_FOCUS:
        raise error(f"focus is {focus}; it must be from 0 to {MAX_FOCUS:g}")
