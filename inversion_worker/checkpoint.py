"""A checkpoint of a job: where the loop goes on, and the best finite Step until then.

The file is safetensors, which holds tensors and can hold no code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from inversion_worker.backend import BackendStep, Code


@dataclass(frozen=True, kw_only=True)
class Best:
    """The finite Step of least loss so far."""

    step: int
    loss: float
    source: BackendStep | None = None
    """The Step itself; None for one from a checkpoint, whose picture must be rendered again."""
    stored: Code | None = None
    """The code of one from a checkpoint."""

    def __post_init__(self) -> None:
        assert (self.source is None) != (self.stored is None), "either from a Step or from a checkpoint"

    def code(self) -> Code:
        """The code; of a Step it is fetched from the device only now, and not for every Step that was the best."""
        if self.stored is not None:
            return self.stored
        assert self.source is not None
        return self.source.code()


def better(best: Best | None, step: BackendStep) -> Best | None:
    """The better one of the best so far and a new Step; of equals the earlier, None while none was finite."""
    if not math.isfinite(step.loss) or (best is not None and best.loss <= step.loss):
        return best
    return Best(step=step.index, loss=step.loss, source=step)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What `checkpoint.safetensors` holds."""

    step: int
    """Updates done."""
    state: bytes
    """What the backend goes on from."""
    best: Best | None

    def to_bytes(self) -> bytes:
        tensors: dict[str, NDArray[Any]] = {
            "step": _number(self.step),
            "state": np.frombuffer(self.state, dtype=np.uint8),
        }
        if self.best is not None:
            code = self.best.code()
            tensors["best_code"] = np.ascontiguousarray(code.w_LD, dtype=np.float32)
            if code.detail_CHW is not None:
                tensors["best_detail"] = np.ascontiguousarray(code.detail_CHW, dtype=np.float32)
            tensors["best_step"] = _number(self.best.step)
            tensors["best_loss"] = np.array([self.best.loss], dtype=np.float64)
        return save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises: ValueError for anything but such a file."""
        try:
            tensors = load(data)
            step, state = int(tensors["step"][0]), tensors["state"].tobytes()
            best = _best(tensors) if "best_code" in tensors else None
        except (SafetensorError, KeyError, IndexError) as error:
            raise ValueError(f"not a checkpoint: {error}") from error
        return cls(step=step, state=state, best=best)


def _number(value: int) -> NDArray[np.int64]:
    return np.array([value], dtype=np.int64)


def _best(tensors: dict[str, NDArray[Any]]) -> Best:
    step, loss = int(tensors["best_step"][0]), float(tensors["best_loss"][0])
    return Best(step=step, loss=loss, stored=Code(w_LD=tensors["best_code"], detail_CHW=tensors.get("best_detail")))
