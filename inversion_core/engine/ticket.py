"""What the engine returns for a request: an iterator over its Steps that can be canceled.

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
from inversion_core.latents import Latent
from inversion_core.optimizers import state_tensors


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageStep:
    """A Step of one image. Its loss, latent and picture belong together. Safe to read from any thread.

    It is a view of its batch, which it keeps in memory; nothing is copied until it is used.
    """

    index: int
    """Number of updates so far; 0 is the start."""
    loss: float
    pixel: float
    """The pixel term of the loss, weighted if there is a focus."""
    perceptual: float
    """The perceptual term, unweighted."""
    reason: StopReason | None
    """Why this is the last Step; None for others, and if the request was canceled after it."""
    frame_HWC: Tensor | None
    """The picture (uint8, RGB) in host memory; None if the request wants no frame here."""
    image_row: int
    cohort_row: int
    cohort_latent: Latent = field(repr=False)
    """Of which `cohort_row` is this image's."""
    image_BCHW: Tensor
    state: tuple[Any, ...] = field(repr=False)
    detail_from: int | None = None
    """Index of the Step with which detail began; None: it has not begun."""

    @property
    def latent(self) -> Latent:
        """A batch of one."""
        return self.cohort_latent.rows(self.cohort_row, self.cohort_row + 1)

    @property
    def w_LD(self) -> Tensor:
        """The code, without detail."""
        return self.cohort_latent.w_BLD[self.cohort_row]

    @property
    def image_CHW(self) -> Tensor:
        """What the latent makes, in [-1, 1], on the device."""
        return self.image_BCHW[self.image_row]

    def checkpoint(self) -> Checkpoint:
        """Everything needed to resume after this Step; the same as that of `invert` for a batch of one."""
        row = slice(self.cohort_row, self.cohort_row + 1)
        tensors = {name: value[row] for name, value in state_tensors(self.state).items()}
        return Checkpoint(index=self.index, latent=self.latent, state=tensors, detail_from=self.detail_from)


class Ticket(Iterator[ImageStep]):
    """An iterator that waits for the next Step. As a context manager it cancels the request on exit."""

    def __init__(self, *, depth: int, wake: Callable[[], None]) -> None:
        """Buffers up to `depth` Steps; then the request pauses. `wake` is called when there is room again."""
        self.is_canceled = False
        self.reason: StopReason | None = None
        """Why it ended; None while it is running and after an error."""
        self._depth, self._wake = depth, wake
        self._steps: deque[ImageStep] = deque()
        self._error: Exception | None = None
        self._is_ended = False
        self._changed = Condition()

    def __next__(self) -> ImageStep:
        """Raises the error that ended this request, after its remaining Steps."""
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
        """Stop after the current step. Returns at once; Steps that are already there can still be read."""
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
