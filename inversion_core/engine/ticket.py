"""What a caller gets back: its Steps, one after another, and the way to stop them.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Condition
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from inversion_core.engine.stop import StopReason
from inversion_core.inverter import Checkpoint
from inversion_core.optimizers import state_tensors


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageStep:
    """A Step of one image; loss, code and picture belong together. May be read from any thread, at any time.

    It is a row of its batch, which it keeps in memory, and nothing is copied before somebody asks for it.
    """

    index: int
    """Updates done before it; 0 is the start."""
    loss: float
    pixel: float
    """The loss's pixel term, with the focus where there is one."""
    perceptual: float
    """Its perceptual term, unweighted."""
    reason: StopReason | None
    """Why it is the last one; None while more are to come, and for one after which the request is canceled."""
    frame_HWC: Tensor | None
    """The picture as bytes (uint8, RGB), in memory of the host; None where the request wants no frame here."""
    image_row: int
    cohort_row: int
    w_BLD: Tensor
    image_BCHW: Tensor
    state: tuple[Any, ...] = field(repr=False)

    @property
    def w_LD(self) -> Tensor:
        return self.w_BLD[self.cohort_row]

    @property
    def image_CHW(self) -> Tensor:
        """G(w) in [-1, 1], on the device."""
        return self.image_BCHW[self.image_row]

    def checkpoint(self) -> Checkpoint:
        """Enough to go on after this Step; the same as that of `invert` for a batch of one."""
        row = slice(self.cohort_row, self.cohort_row + 1)
        tensors = {name: value[row] for name, value in state_tensors(self.state).items()}
        return Checkpoint(index=self.index, w_BLD=self.w_BLD[row], state=tensors)


class Ticket(Iterator[ImageStep]):
    """Iterate over it for the Steps; it waits for the next. As a context it cancels what is left at its end."""

    def __init__(self, *, depth: int, wake: Callable[[], None]) -> None:
        """`depth` Steps are kept for a caller who does not take them, then its request waits; `wake` tells it."""
        self.is_canceled = False
        self.reason: StopReason | None = None
        """Why it ended; None while it runs and after an error."""
        self._depth, self._wake = depth, wake
        self._steps: deque[ImageStep] = deque()
        self._error: Exception | None = None
        self._is_ended = False
        self._changed = Condition()

    def __next__(self) -> ImageStep:
        """Raises: whatever ended this request, once its Steps are taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._steps or self._is_ended)
            if not self._steps:
                if self._error is not None:
                    raise self._error
                raise StopIteration
            was_full = len(self._steps) >= self._depth
            step = self._steps.popleft()
        if was_full:
            self._wake()
        return step

    def cancel(self) -> None:
        """End it between two steps, and without waiting; Steps that are already there can still be taken."""
        self.is_canceled = True
        self._wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_ended:
            self.cancel()

    # -- the engine's side -----------------------------------------------------------------------------------

    @property
    def is_ended(self) -> bool:
        return self._is_ended

    @property
    def has_steps(self) -> bool:
        """Whether the next Step can be taken without waiting."""
        return bool(self._steps)

    @property
    def has_room(self) -> bool:
        return len(self._steps) < self._depth

    def put(self, step: ImageStep) -> None:
        with self._changed:
            self._steps.append(step)
            self._changed.notify()

    def end(self, reason: StopReason | None, error: Exception | None = None) -> None:
        """No Step comes after this; the first end counts."""
        with self._changed:
            if not self._is_ended:
                self.reason, self._error, self._is_ended = reason, error, True
            self._changed.notify_all()
